"""Checks of the metadata row by row: ids, labels, the images named, where labels come from."""

import difflib

import pandas as pd

from histo_mlflow.data.findings import Finding, are, counted, failed, have, passed, warned
from histo_mlflow.data.sources._listing import Listing


def blanks(listing: Listing) -> list[Finding]:
    """Rows without an id, a label or a group."""
    findings = []
    ids = pd.concat([listing.rows["id"], listing.unlabelled["id"]], ignore_index=True)
    for column, values in (
        ("id", ids),
        ("label", listing.rows["label"]),
        ("group", listing.rows["group"]),
    ):
        name = f"blank-{column}s"
        blank = values.str.strip() == ""
        n = int(blank.sum())
        if not n:
            findings.append(
                passed(name, f"Every one of the {counted(len(values), 'row')} has {_an(column)}.")
            )
            continue
        named = listing.rows.loc[blank, "id"] if column != "id" else _row_numbers(blank)
        message = f"{counted(n, 'row')} of {len(values):,} {have(n)} no {column}."
        findings.append(failed(name, message, named))
    return findings


def duplicate_ids(listing: Listing) -> Finding:
    """Ids that occur more than once, among the labelled, the unlabelled, or in both."""
    name = "duplicate-ids"
    ids = pd.concat([listing.rows["id"], listing.unlabelled["id"]], ignore_index=True)
    ids = ids[ids.str.strip() != ""]
    twice = ids[ids.duplicated()].drop_duplicates()
    if twice.empty:
        return passed(name, f"The {counted(len(ids), 'id')} differ from each other.")
    occur = "occurs" if len(twice) == 1 else "occur"
    return failed(name, f"{counted(len(twice), 'id')} {occur} more than once.", twice)


def shared_files(listing: Listing) -> Finding:
    """Rows of different ids that name one image."""
    name = "shared-files"
    rows = listing.rows.loc[listing.rows["path"] != "", ["id", "path", "row"]].drop_duplicates()
    # An HDF5 file is shared by design; there the row within it is the image.
    shared = rows[rows.duplicated(["path", "row"], keep=False)]
    if shared.empty:
        return passed(name, "No image is named by two ids.")
    n = int(shared["path"].nunique())
    return failed(
        name,
        f"{counted(n, 'image file')} {are(n)} named by rows of different ids.",
        [" = ".join(ids) for _, ids in shared.groupby(["path"], sort=False)["id"]],
    )


def unknown_labels(listing: Listing) -> Finding:
    """Labels outside the known classes, each with the class that it may be meant for."""
    name = "unknown-labels"
    labels = listing.rows["label"]
    strange = labels[~labels.isin(listing.classes) & (labels.str.strip() != "")]
    if strange.empty:
        known = ", ".join(listing.classes)
        return passed(name, f"All labels are among the {len(listing.classes)} classes: {known}.")
    kinds = [
        f"'{label}' in {counted(n, 'row')}{_meant(str(label), listing.classes)}"
        for label, n in strange.value_counts().items()
    ]
    return failed(
        name,
        f"{counted(len(strange), 'row')} of {len(labels):,} {have(len(strange))} a label outside "
        f"the {len(listing.classes)} known classes.",
        kinds,
    )


def label_source(listing: Listing) -> Finding:
    """Whether labels say something about the images at all."""
    name = "label-source"
    if listing.label_source == "placeholder":
        return warned(
            name,
            f"The labels of all {counted(len(listing.rows), 'image')} are placeholders: what is "
            "trained on them proves nothing and cannot be promoted.",
        )
    if listing.label_source == "synthetic":
        return warned(
            name,
            f"All {counted(len(listing.rows), 'image')} and their labels are synthetic: what is "
            "trained on them says nothing about tissue and cannot be promoted.",
        )
    return passed(name, f"Labels come from the {listing.label_source}.")


def notes(listing: Listing) -> Finding:
    """What the source decided while it listed the files."""
    name = "source-notes"
    if not listing.notes:
        return passed(name, "The source had nothing to decide.")
    n = len(listing.notes)
    return warned(name, f"The source made {counted(n, 'decision')}.", listing.notes)


def _row_numbers(blank: pd.Series) -> list[str]:
    return [f"row {number + 1:,}" for number in blank.to_numpy().nonzero()[0].tolist()]


def _meant(label: str, classes: tuple[str, ...]) -> str:
    folded = {name.casefold(): name for name in classes}
    near = difflib.get_close_matches(label.strip().casefold(), folded, n=1, cutoff=0.5)
    return f" (did you mean '{folded[near[0]]}'?)" if near else ""


def _an(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
