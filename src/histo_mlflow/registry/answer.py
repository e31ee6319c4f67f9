"""What a model answers: one table, wherever it is asked."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

CLASS, ABSTAIN, VERSION, DIGEST = "class", "abstain", "model_version", "model_digest"


def answer_columns(classes: Sequence[str]) -> list[str]:
    """Names of the columns of `answer_table`, in order."""
    return [CLASS, *(f"p_{name}" for name in classes), ABSTAIN, VERSION, DIGEST]


def answer_table(
    classes: Sequence[str],
    probabilities: npt.NDArray[np.float64],
    *,
    abstain_below: float,
    model_version: str,
    model_digest: str,
) -> pd.DataFrame:
    """Make the answer, one row an image.

    Args:
        classes: K names, in the order of the columns of `probabilities`.
        probabilities: (n, K), calibrated.
        abstain_below: the model abstains where the greatest of them is below this; 0 for never.
        model_version: such as "histo-ham10000 v3".
        model_digest: of the model, 64 hexadecimal digits.

    Returns:
        `class`, the likeliest one, also where the model abstains; `p_<class>` for each class;
        `abstain`; `model_version`; `model_digest`. No rows for no images.
    """
    answer = pd.DataFrame(probabilities, columns=[f"p_{name}" for name in classes])
    best = probabilities.argmax(axis=1) if len(probabilities) else np.empty(0, dtype=np.int64)
    answer.insert(0, CLASS, pd.Series([classes[k] for k in best], dtype="object"))
    answer[ABSTAIN] = (
        probabilities.max(axis=1) < abstain_below if len(probabilities) else np.empty(0, bool)
    )
    answer[VERSION] = pd.Series([model_version] * len(answer), dtype="object")
    answer[DIGEST] = pd.Series([model_digest] * len(answer), dtype="object")
    return answer
