"""Does the logged model say what the trained one said? Asked of some images whenever one is logged.

The sample holds whole image files and the calibrated probabilities that came out of the training
path: packed pixels, batches, the model in memory. The logged model gets the files alone.
"""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from histo_mlflow.errors import DataError, ParityError

if TYPE_CHECKING:
    import pandas as pd

IMAGES = 32
BOUND = 1e-3
"""The largest difference of a probability that passes; float32 on one machine stays below 1e-5."""


@dataclass(frozen=True, eq=False)
class Sample:
    """Images, and what is expected of them.

    Attributes:
        ids: n names, for messages.
        images: n whole JPEG, PNG or TIFF files.
        probabilities: (n, K), calibrated.
    """

    ids: tuple[str, ...]
    images: tuple[bytes, ...]
    probabilities: npt.NDArray[np.float64]


def evenly(rows: int, images: int = IMAGES) -> npt.NDArray[np.int64]:
    """Row numbers spread evenly over a table: all of a short one, else `images` of them."""
    return np.unique(np.linspace(0, rows - 1, min(rows, images)).round().astype(np.int64))


def to_bytes(sample: Sample) -> bytes:
    """A sample as the content of a Parquet file."""
    import pandas as pd

    columns = {
        "id": list(sample.ids),
        "image": list(sample.images),
        "probabilities": sample.probabilities.tolist(),
    }
    data: bytes = pd.DataFrame(columns).to_parquet(index=False)
    return data


def from_bytes(data: bytes) -> Sample:
    """What `to_bytes` wrote.

    Raises:
        DataError: it is something else.
    """
    import pandas as pd

    try:
        table = pd.read_parquet(io.BytesIO(data))
        probabilities = np.array(table["probabilities"].tolist(), dtype=np.float64)
        return Sample(tuple(table["id"]), tuple(table["image"]), probabilities)
    except (KeyError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise DataError(f"Expected images to compare, got what cannot be read: {error}.") from error


def check(
    answer: "Callable[[pd.DataFrame], pd.DataFrame]", classes: Sequence[str], sample: Sample
) -> float:
    """Ask a model for a sample and hold it against what is expected.

    Args:
        answer: from a table with the column `image` (bytes) to `answer.answer_table`.
        classes: K names.
        sample: what is asked.

    Returns:
        The largest difference of a probability, at most `BOUND`.

    Raises:
        ParityError: a larger difference, or another class where it was not a near tie.
    """
    import pandas as pd

    found = answer(pd.DataFrame({"image": list(sample.images)}))
    told = found[[f"p_{name}" for name in classes]].to_numpy(dtype=np.float64)
    if told.shape != sample.probabilities.shape or not np.isfinite(told).all():
        raise ParityError(
            f"Expected probabilities of shape {sample.probabilities.shape} from the logged model, "
            f"got {told.shape} with {int((~np.isfinite(told)).sum())} that are not finite"
        )
    apart = np.abs(told - sample.probabilities).max(axis=1)
    worst = int(apart.argmax())
    if apart[worst] > BOUND:
        raise ParityError(
            f"the logged model says other probabilities than the trained one: {apart[worst]:.2g} "
            f"apart for {sample.ids[worst]}, at most {BOUND:g} is allowed; "
            f"{int((apart > BOUND).sum())} of {len(apart)} images are beyond it"
        )
    said = [classes[k] for k in told.argmax(axis=1)]
    if said != found["class"].tolist():
        raise ParityError("the logged model's class is not the one of its greatest probability")
    return float(apart[worst])
