"""The demo: synthetic H&E-like patches, made here in seconds, without a download.

Nothing learned from these images says anything about tissue. They are there so that the whole way,
from a folder to a served model, can be walked and tested. Folder, file names, table and every
record of a run call them synthetic.
"""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from histo_mlflow.data.manifest import empty_unlabelled
from histo_mlflow.data.sources._files import image_files
from histo_mlflow.data.sources._listing import Expected, Listing, Source, SourceOptions, not_found
from histo_mlflow.data.sources._synthetic import PATCH_PX, draw_patch, draw_stain
from histo_mlflow.data.sources._tables import no_rows, read_table
from histo_mlflow.errors import DataError

CLASSES = ("normal", "tumour")
FEWEST_IMAGES = 48
MOST_SLIDES = 40
DRAWING_VERSION = 1  # counts changes of what is drawn, so that old folders are not taken for new
TABLE = "synthetic_metadata.csv"
ABOUT = "synthetic.json"


def generate(root: Path, images: int, seed: int) -> Path:
    """Draw the demo's patches below `root`, unless they are already there.

    The images are a pure function of (images, seed), up to how a machine rounds `exp`. They are
    drawn into a hidden folder that gets its name when all is written, so that a folder of that
    name is always whole.

    Args:
        root: Folder to hold the data set's own folder; made if needed.
        images: Number of patches, at least 48; half of them or so are tumour.
        seed: Any integer from 0.

    Returns:
        The data set's folder: `synthetic_he_v1_<images>_seed<seed>`.

    Raises:
        DataError: Too few images, a negative seed, or `root` cannot be written to.
    """
    if images < FEWEST_IMAGES or seed < 0:
        raise DataError(
            f"The demo needs demo_images of at least {FEWEST_IMAGES} and demo_seed of at least 0; "
            f"got {images} and {seed}."
        )
    folder = root / f"synthetic_he_v{DRAWING_VERSION}_{images}_seed{seed}"
    if (folder / ABOUT).is_file():
        return folder
    try:
        root.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=root))
    except OSError as error:
        raise DataError(f"The demo's images cannot be written to {root}: {error}.") from error
    try:
        _write(hidden, images, seed)
        hidden.chmod(0o755)  # mkdtemp's folders are for the owner alone
        _put_in_place(hidden, folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
    return folder


def _put_in_place(hidden: Path, folder: Path) -> None:
    try:
        hidden.rename(folder)
    except OSError:
        # Another process was faster; its images are the same as ours.
        if not (folder / ABOUT).is_file():
            raise


def _write(folder: Path, images: int, seed: int) -> None:
    slides = min(MOST_SLIDES, images // 8)
    rows = []
    for slide in range(slides):
        rng = np.random.default_rng([seed, images, slide])
        n = images // slides + (slide < images % slides)
        stain = draw_stain(rng)
        # Slides differ in how much tumour they hold, and each holds both classes.
        tumours = int(np.clip(np.rint(n * rng.uniform(0.25, 0.75)), 1, n - 1))
        targets = rng.permutation(np.arange(n) < tumours)
        name = f"synthetic_slide_{slide:02d}"
        (folder / "images" / name).mkdir(parents=True)
        for k, tumour in enumerate(targets):
            patch = f"{name}_patch_{k:03d}"
            path = f"images/{name}/{patch}.png"
            pixels = draw_patch(rng, stain, tumour=bool(tumour))
            # Noise does not compress: a higher level costs time and saves nothing.
            Image.fromarray(pixels).save(folder / path, compress_level=1)
            rows.append((patch, CLASSES[int(tumour)], name, path, "synthetic"))
    table = pd.DataFrame(rows, columns=["id", "label", "slide", "path", "origin"])
    table.to_csv(folder / TABLE, index=False, lineterminator="\n")
    about = {
        "what": "Synthetic H&E-like patches drawn by histo-mlflow. Not tissue.",
        "drawing_version": DRAWING_VERSION,
        "images": images,
        "slides": slides,
        "seed": seed,
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def read(root: Path, options: SourceOptions) -> Listing:
    """List the demo's images, drawing them first where they are not there yet.

    `root` may also be a data set's own folder, as `generate` returns it; then the options' number
    and seed say nothing. `Listing.root` is the data set's own folder either way.

    Raises:
        DataError: As `generate`, or a data set that was altered since.
    """
    own = (root / ABOUT).is_file()
    folder = root if own else generate(root, options.demo_images, options.demo_seed)
    if not (folder / TABLE).is_file():
        problem = f"{folder.name}/{TABLE} is gone; delete that folder and it is made anew"
        raise not_found(SOURCE, root, problem)
    table = read_table(folder / TABLE, ("id", "label", "slide", "path", "origin"))
    files = image_files(folder, ["images"], recursive=True)
    rows = pd.DataFrame(
        {
            "id": table["id"],
            "label": table["label"],
            "group": table["slide"],
            "given_split": "",
            "path": table["path"].where(table["path"].isin(files["path"]), ""),
            "row": no_rows(len(table)),
            "origin": table["origin"],
        }
    )
    return Listing(
        source=SOURCE.name,
        root=folder,
        classes=CLASSES,
        group_kind="slide",
        label_source="synthetic",
        expected=Expected(images=_drawn(folder), width=PATCH_PX, height=PATCH_PX),
        rows=rows,
        files=files,
        unlabelled=empty_unlabelled(),
    )


def _drawn(folder: Path) -> int:
    """How many images were drawn into a data set's folder."""
    try:
        return int(json.loads((folder / ABOUT).read_text(encoding="utf-8"))["images"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder / ABOUT} was altered and no longer says how many images were drawn; delete "
            f"{folder} and it is made anew."
        ) from error


SOURCE = Source(
    name="demo",
    summary="synthetic H&E-like patches in two classes, made on first use; no download",
    layout=f"""\
synthetic_he_v{DRAWING_VERSION}_<images>_seed<seed>/
  images/synthetic_slide_00/synthetic_slide_00_patch_000.png ...
  {TABLE}    id,label,slide,path,origin
  {ABOUT}            what it is, and of which seed
""",
    how_to_get="nothing to get: the images are drawn on first use.",
    read=read,
    makes_itself=True,
)
