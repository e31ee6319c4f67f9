"""Checks of classes and groups: all there, enough to divide, as many as published."""

import difflib
import re

import pandas as pd

from histo_mlflow.data._split_rules import SPLITS
from histo_mlflow.data.findings import Finding, are, counted, failed, have, passed, warned
from histo_mlflow.data.sources._listing import Listing

# A class is divided into train, val and test by whole groups.
_GROUPS_NEEDED = 3
_ALIKE = 0.85  # difflib ratio from which a rare class may be another one mistyped
_RARE = 0.02  # of all images


def similar_classes(listing: Listing) -> Finding:
    """Class names that may be one name written in two ways; where classes come from the data."""
    name = "similar-classes"
    counts = listing.rows["label"].value_counts()
    rare = set(counts.index[counts < _RARE * len(listing.rows)])
    pairs = [
        f"{one} ({counts.get(one, 0):,}) and {other} ({counts.get(other, 0):,})"
        for i, one in enumerate(listing.classes)
        for other in listing.classes[i + 1 :]
        if _bare(one) == _bare(other)
        or (
            {one, other} & rare
            and difflib.SequenceMatcher(None, one.casefold(), other.casefold()).ratio() >= _ALIKE
        )
    ]
    if listing.expected.class_counts or not pairs:
        return passed(name, "No class name looks like another one mistyped.")
    what = "pair of class names looks" if len(pairs) == 1 else "pairs of class names look"
    return warned(name, f"{len(pairs):,} {what} like one name written in two ways.", pairs)


def empty_classes(listing: Listing) -> Finding:
    """Known classes that no image shows."""
    name = "empty-classes"
    counts = _with_image(listing)["label"].value_counts()
    gone = [label for label in listing.classes if not counts.get(label, 0)]
    if gone:
        return failed(
            name,
            f"{counted(len(gone), 'class', 'classes')} of {len(listing.classes)} "
            f"{have(len(gone))} no images.",
            gone,
        )
    return passed(name, f"All {len(listing.classes)} classes have images.")


def class_counts(listing: Listing) -> Finding:
    """Images and groups of each class, and whether there are enough to divide."""
    name = "class-counts"
    rows = _with_image(listing)
    images = rows["label"].value_counts()
    groups = rows.groupby("label")["group"].nunique()
    short = [
        f"{label} ({counted(int(groups[label]), 'group')})"
        for label in listing.classes
        if 0 < groups.get(label, 0) < _GROUPS_NEEDED
    ]
    if short:
        return warned(
            name,
            f"{counted(len(short), 'class', 'classes')} of {len(listing.classes)} "
            f"{have(len(short))} fewer than {_GROUPS_NEEDED} groups and so cannot be in all of "
            "train, val and test.",
            short,
        )
    named = ", ".join(f"{label} {images.get(label, 0):,}" for label in listing.classes)
    return passed(name, f"{named}.")


def published_counts(listing: Listing) -> Finding:
    """Images against the published numbers; a subset is named with both."""
    name = "published-counts"
    known, here = listing.expected, _with_image(listing)["label"].value_counts()
    there = int(here.sum())
    pairs = [("labelled images", there, known.images)]
    # A data set without its test images is no subset: they are not needed to train.
    if len(listing.unlabelled):
        pairs.append(("images to predict", len(listing.unlabelled), known.unlabelled))
    off = [
        f"{n:,} of the {published:,} published {what}"
        for what, n, published in pairs
        if published is not None and n != published
    ]
    if off:
        return warned(name, f"The data set has {' and '.join(off)}.")
    if known.images is None:
        return passed(
            name, f"{counted(there, 'labelled image')}; there is no published number to compare."
        )
    wrong = [
        f"{label} {int(here.get(label, 0)):,} instead of {n:,}"
        for label, n in known.class_counts.items()
        if here.get(label, 0) != n
    ]
    if wrong:
        return warned(
            name,
            f"The {there:,} labelled images are as many as published, but "
            f"{counted(len(wrong), 'class', 'classes')} {have(len(wrong))} another number.",
            wrong,
        )
    return passed(name, f"The {there:,} labelled images are as many as published.")


def groups(listing: Listing) -> list[Finding]:
    """Whether groups are known, how large they are, and whether one has several labels."""
    rows = listing.rows[listing.rows["group"].str.strip() != ""]
    kind, by_group = listing.group_kind, rows.groupby("group")
    sizes = by_group.size()
    if kind == "image":
        known = warned(
            "groups",
            f"Nothing is known of which of the {counted(len(rows), 'image')} belong together, so "
            "images of one patient or slide may be in train and in test.",
        )
    else:
        largest = int(sizes.max()) if len(sizes) else 0
        known = passed(
            "groups",
            f"{counted(len(rows), 'image')} of {counted(len(sizes), kind)}, at most {largest:,} "
            "of one.",
        )
    # A blank or mistyped label has its own finding.
    labels = rows[rows["label"].isin(listing.classes)].groupby("group")["label"].nunique()
    mixed = labels.index[labels > 1]
    if len(mixed) and kind == "lesion":
        several = warned(
            "group-labels",
            f"{counted(len(mixed), kind)} of {len(sizes):,} {have(len(mixed))} images with "
            "different labels.",
            mixed,
        )
    elif kind == "image" and mixed.empty:
        several = passed("group-labels", "Each image is a group of its own and has one label.")
    else:
        what = f"{len(mixed):,} of {counted(len(sizes), kind)} {have(len(mixed))}"
        several = passed("group-labels", f"{what} images with different labels.")
    return [known, several]


def given_splits(listing: Listing) -> Finding:
    """The data set's own splits: complete, and without a group in two of them."""
    name = "given-splits"
    given = listing.rows["given_split"]
    if (given == "").all():
        return passed(name, "The data set brings no split of its own.")
    if (given == "").any():
        without = listing.rows.loc[given == "", "id"]
        return warned(
            name,
            f"{counted(len(without), 'image')} of {len(given):,} {are(len(without))} in none of "
            "the data set's own splits, so split=given cannot be used.",
            without,
        )
    torn = listing.rows.groupby("group")["given_split"].nunique()
    torn = torn[torn > 1]
    if len(torn):
        return warned(
            name,
            f"{counted(len(torn), listing.group_kind)} {are(len(torn))} in more than one of the "
            "data set's own splits, so split=given cannot be used.",
            torn.index,
        )
    counts = given.value_counts()
    named = ", ".join(f"{split} {counts[split]:,}" for split in SPLITS if split in counts)
    return passed(name, f"The data set brings its own split: {named}.")


def _with_image(listing: Listing) -> pd.DataFrame:
    """Return the rows that have a file, each id once."""
    return listing.rows[listing.rows["path"] != ""].drop_duplicates("id")


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
