"""Judge a data set before anything is trained on it: all problems at once, nothing raised.

A FAIL stops a training: with it no manifest can be made, or an image cannot be decoded, or a
class cannot be learnt. A WARN is stated and the training goes on.
"""

import pandas as pd

from histo_mlflow.data import _checks_classes as classes
from histo_mlflow.data import _checks_images as images
from histo_mlflow.data import _checks_rows as rows
from histo_mlflow.data.findings import Finding, Level, render, to_json, worst
from histo_mlflow.data.sources._listing import Listing

__all__ = ["Finding", "Level", "check", "render", "to_json", "worst"]


def check(listing: Listing, scan: pd.DataFrame) -> list[Finding]:
    """Run every check; each yields a finding, PASS included.

    Args:
        listing: what the tables say and what lies on disk.
        scan: what `histo_mlflow.data.scan.scan` read of the listing's files. Files that no row
            names are counted, but what is in them is not judged.

    Returns:
        The findings, always the same checks in the same order.
    """
    files = images.used_files(listing, scan)
    return [
        images.missing_images(listing),
        images.unlisted_images(listing),
        *images.unreadable_images(files),
        images.image_modes(files, listing.expected),
        images.image_sizes(files, listing.expected),
        images.constant_images(files),
        images.duplicate_content(listing, files),
        *rows.blanks(listing),
        rows.duplicate_ids(listing),
        rows.shared_files(listing),
        rows.unknown_labels(listing),
        classes.similar_classes(listing),
        classes.empty_classes(listing),
        classes.class_counts(listing),
        classes.published_counts(listing),
        *classes.groups(listing),
        classes.given_splits(listing),
        rows.label_source(listing),
        rows.notes(listing),
    ]
