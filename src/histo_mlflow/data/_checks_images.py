"""Checks of the image files: there, whole, of a known mode and size, each only once."""

import pandas as pd

from histo_mlflow.data._among import among
from histo_mlflow.data.findings import Finding, are, counted, failed, have, passed, warned
from histo_mlflow.data.sources._listing import Expected, Listing
from histo_mlflow.vision.decode import MODES

_SIZES_NAMED = 4


def used_files(listing: Listing, scan: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the scan whose file a labelled or unlabelled row names."""
    used = pd.concat([listing.rows["path"], listing.unlabelled["path"]])
    return scan[among(scan["path"], used)].reset_index(drop=True)


def missing_images(listing: Listing) -> Finding:
    """Rows that no image file belongs to."""
    name = "missing-images"
    rows = pd.concat([listing.rows[["id", "path"]], listing.unlabelled[["id", "path"]]])
    lost = rows.loc[rows["path"] == "", "id"]
    if lost.empty:
        return passed(name, f"Every one of the {counted(len(rows), 'row')} has an image file.")
    return failed(
        name,
        f"{counted(len(lost), 'row')} of {len(rows):,} {have(len(lost))} no image file.",
        lost,
    )


def unlisted_images(listing: Listing) -> Finding:
    """Image files that no row names, and so are not used."""
    name = "unlisted-images"
    used = pd.concat([listing.rows["path"], listing.unlabelled["path"]])
    extra = listing.files.loc[~among(listing.files["path"], used), "path"]
    n = len(listing.files)
    if extra.empty:
        return passed(name, f"Every one of the {counted(n, 'image file')} belongs to a row.")
    return warned(
        name,
        f"{counted(len(extra), 'image file')} of {n:,} {are(len(extra))} named by no row and "
        "will not be used.",
        extra,
    )


def unreadable_images(files: pd.DataFrame) -> list[Finding]:
    """Files without a byte, files that end too early, files that cannot be decoded at all."""
    empty = files["size"] == 0
    truncated = files["problem"].str.startswith("truncated") & ~empty
    other = (files["problem"] != "") & ~empty & ~truncated
    kinds = (
        ("empty-files", empty, "are empty", "is empty"),
        ("truncated-images", truncated, "end before the image does", "ends before the image does"),
        ("unreadable-images", other, "are damaged or refused", "is damaged or refused"),
    )
    findings = []
    for name, which, they, it in kinds:
        bad = files[which]
        n, of = counted(len(bad), "image file"), f"{len(files):,}"
        if bad.empty:
            findings.append(passed(name, f"None of the {of} image files {it}."))
            continue
        offenders = bad["path"]
        if name == "unreadable-images":
            offenders = bad["path"] + " (" + bad["problem"] + ")"
        findings.append(failed(name, f"{n} of {of} {it if len(bad) == 1 else they}.", offenders))
    return findings


def image_modes(files: pd.DataFrame, expected: Expected) -> Finding:
    """Colour modes that cannot be read, and such as differ from the published ones."""
    name = "image-modes"
    whole = files[files["problem"] == ""]
    if whole.empty:
        return passed(name, "There is no image whose colours could be looked at.")
    refused = whole[~whole["mode"].isin(MODES)]
    if len(refused):
        modes = ", ".join(sorted(set(refused["mode"])))
        return failed(
            name,
            f"{counted(len(refused), 'image')} of {len(whole):,} {are(len(refused))} {modes}, "
            "whose colours cannot be read without a profile: convert to RGB.",
            refused["path"] + " (" + refused["mode"] + ")",
        )
    usual = expected.mode or str(whole["mode"].value_counts().index[0])
    other = whole[whole["mode"] != usual]
    if len(other):
        modes = ", ".join(f"{n:,} {mode}" for mode, n in other["mode"].value_counts().items())
        return warned(
            name,
            f"{counted(len(other), 'image')} of {len(whole):,} {are(len(other))} not {usual} but "
            f"{modes}; they are converted to RGB.",
            other["path"] + " (" + other["mode"] + ")",
        )
    formats = ", ".join(f"{n:,} {kind}" for kind, n in whole["format"].value_counts().items())
    return passed(name, f"All images are {usual} ({formats}).")


def image_sizes(files: pd.DataFrame, expected: Expected) -> Finding:
    """Sizes in pixels against the published one, and whether there are several."""
    name = "image-sizes"
    whole = files[files["problem"] == ""]
    if whole.empty:
        return passed(name, "There is no image that could be measured.")
    size = whole["width"].astype("str") + "x" + whole["height"].astype("str")
    counts = size.value_counts()
    known = f"{expected.width}x{expected.height}" if expected.width and expected.height else ""
    if len(counts) > 1:
        named = ", ".join(f"{n:,} of {each}" for each, n in counts.head(_SIZES_NAMED).items())
        more = len(counts) - _SIZES_NAMED
        rest = f" and {counted(more, 'size')} more" if more > 0 else ""
        published = f"; the published images are {known}" if known else ""
        odd = size != (known if known in counts.index else counts.index[0])
        return warned(
            name,
            f"The images have {len(counts):,} sizes: {named}{rest}{published}.",
            whole.loc[odd, "path"] + " (" + size[odd] + ")",
        )
    if known and counts.index[0] != known:
        return warned(
            name, f"All {len(whole):,} images are {counts.index[0]}; the published are {known}."
        )
    return passed(name, f"All {len(whole):,} images are {counts.index[0]} pixels.")


def constant_images(files: pd.DataFrame) -> Finding:
    """Images of one colour, which show nothing."""
    name = "constant-images"
    whole = files[files["problem"] == ""]
    if whole.empty:
        return passed(name, "There is no image whose colours could be looked at.")
    looked = whole[whole["format"] != "HDF5"]
    flat = looked.loc[looked["constant"], "path"]
    if len(flat):
        return warned(
            name,
            f"{counted(len(flat), 'image')} of {len(looked):,} {have(len(flat))} one colour only.",
            flat,
        )
    if len(looked) < len(whole):
        return passed(name, "Images of one colour are not looked for in HDF5 files.")
    kind = "images" if len(whole) == len(files) else "readable images"
    return passed(name, f"None of the {len(whole):,} {kind} is of one colour only.")


def duplicate_content(listing: Listing, files: pd.DataFrame) -> Finding:
    """Byte-identical files, and whether labels or groups tell them apart."""
    name = "duplicate-content"
    digests = files[(files["sha256"] != "") & (files["size"] > 0)][["path", "sha256"]]
    alike = digests[digests["sha256"].duplicated(keep=False)]
    if alike.empty:
        return passed(name, f"None of the {len(files):,} image files is a copy of another.")
    labelled = listing.rows[["path", "label", "group"]]
    rows = alike.merge(labelled, on="path", how="left").groupby("sha256", sort=False)
    # A copy that is to be predicted has no label; nunique counts only those that have one.
    labels = int((rows["label"].nunique() > 1).sum())
    groups = int((rows["group"].nunique() > 1).sum())
    across = among(alike["path"], listing.unlabelled["path"]).groupby(alike["sha256"])
    torn = int((across.nunique() > 1).sum())
    sets = [" = ".join(paths) for _, paths in alike.groupby("sha256", sort=False)["path"]]
    clauses = []
    if labels:
        clauses.append(f"{labels:,} with different labels")
    if groups and listing.group_kind != "image":
        clauses.append(f"{groups:,} in different {listing.group_kind}s")
    if torn:
        clauses.append(f"{torn:,} both labelled and to be predicted")
    detail = f" ({', '.join(clauses)})" if clauses else ""
    return warned(
        name,
        f"{len(alike):,} of {counted(len(files), 'image file')} are byte-identical copies, in "
        f"{counted(len(sets), 'set')}{detail}.",
        sets,
    )
