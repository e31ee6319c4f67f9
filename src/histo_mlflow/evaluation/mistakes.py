"""Which images to look at: where the model was sure and wrong, and where it could not decide."""

import numpy as np
import numpy.typing as npt
import pandas as pd

from histo_mlflow.evaluation import predictions
from histo_mlflow.evaluation.probabilities import Floats

MOST = 24
COLUMNS = ("id", "group", "label", "predicted", "probability", "second", "margin", "title")
_ONE_LINE = 28  # letters that fit above an image of a grid


def confident_mistakes(
    rows: pd.DataFrame, n: int = MOST, *, one_per_group: bool = True
) -> pd.DataFrame:
    """Pick the wrong rows whose predicted class has the largest probability, surest first.

    Sureness is told by the log-odds, which still differ where probabilities round to 1; equal rows
    come in the order of their ids.

    Args:
        rows: of a predictions table, of one split.
        n: at most so many.
        one_per_group: only the surest of each group, so that one lesion does not fill a grid.

    Returns:
        `id`, `group`, `label`, `predicted`, `probability` of the predicted class, `second` (the
        likeliest other class), `margin` (how much likelier the predicted class is than that), and
        `title` such as "true mel · said nv 0.98". Empty when every row is right, or there is none.
    """
    sureness = predictions.log_odds_of(rows).max(axis=1) if len(rows) else np.empty(0)
    wrong = (rows["label"] != rows["predicted"]).to_numpy(dtype=bool)
    chosen = _pick(rows, -sureness, wrong, n, one_per_group)
    found = _facts(rows.iloc[chosen])
    return _titled(
        found,
        [f"true {label}" for label in found["label"]],
        [
            f"said {said} {_share(p)}"
            for said, p in zip(found["predicted"], found["probability"], strict=True)
        ],
    )


def surest_hits(rows: pd.DataFrame, n: int = MOST, *, one_per_group: bool = True) -> pd.DataFrame:
    """Pick right rows of largest probability, the classes in turn.

    Args, Returns: as `confident_mistakes`; empty when no row is right.
    """
    sureness = predictions.log_odds_of(rows).max(axis=1) if len(rows) else np.empty(0)
    right = (rows["label"] == rows["predicted"]).to_numpy(dtype=bool)
    ranked = _pick(rows, -sureness, right, len(rows), one_per_group)
    labels = rows["label"].iloc[ranked]
    turn = labels.groupby(labels).cumcount().to_numpy()
    chosen = ranked[np.argsort(turn, kind="stable")][: max(n, 0)]
    found = _facts(rows.iloc[chosen])
    said = [f"said so {_share(p)}" for p in found["probability"]]
    return _titled(found, [f"true {label}" for label in found["label"]], said)


def least_certain(rows: pd.DataFrame, n: int = MOST, *, one_per_group: bool = True) -> pd.DataFrame:
    """Pick the rows whose two largest probabilities are closest, right or wrong.

    Args:
        rows: of a predictions table, of one split.
        n: at most so many.
        one_per_group: only the least certain of each group.

    Returns:
        As `confident_mistakes`, with a `title` such as "true mel · nv 0.41, mel 0.40".
    """
    margins = _margins(rows)[1] if len(rows) else np.empty(0)
    chosen = _pick(rows, margins, np.ones(len(rows), dtype=bool), n, one_per_group)
    found = _facts(rows.iloc[chosen])
    seconds = found["probability"] - found["margin"]
    return _titled(
        found,
        [f"true {label}" for label in found["label"]],
        [
            f"{said} {_share(p)}, {other} {_share(q)}"
            for said, p, other, q in zip(
                found["predicted"], found["probability"], found["second"], seconds, strict=True
            )
        ],
    )


def _pick(
    rows: pd.DataFrame,
    key: Floats,
    wanted: npt.NDArray[np.bool_],
    n: int,
    one_per_group: bool,
) -> npt.NDArray[np.intp]:
    """Positions of at most n wanted rows, smallest key first, the first of each group."""
    order = np.lexsort((rows["id"].to_numpy(dtype=str), key))
    order = order[wanted[order]]
    if one_per_group:
        order = order[~rows["group"].iloc[order].duplicated().to_numpy(dtype=bool)]
    return order[: max(n, 0)]


def _facts(chosen: pd.DataFrame) -> pd.DataFrame:
    found = chosen[["id", "group", "label", "predicted"]].reset_index(drop=True)
    if found.empty:
        return found.assign(probability=np.empty(0), second="", margin=np.empty(0))
    probs = predictions.probabilities_of(chosen)
    second, margin = _margins(chosen)
    names = np.asarray(predictions.classes_of(chosen), dtype=object)
    return found.assign(probability=probs.max(axis=1), second=names[second], margin=margin)


def _margins(rows: pd.DataFrame) -> tuple[npt.NDArray[np.intp], Floats]:
    """Second likeliest class of each row, and how much likelier the first is: (n,) each."""
    probs = predictions.probabilities_of(rows)
    first = probs.argmax(axis=1)
    others = probs.copy()
    others[np.arange(len(probs)), first] = -1
    second = others.argmax(axis=1)
    return second, np.asarray(probs.max(axis=1) - others.max(axis=1))


def _titled(found: pd.DataFrame, true: list[str], said: list[str]) -> pd.DataFrame:
    """Join what is true and what was said, over two lines in all titles if one needs it."""
    joined = [f"{a} · {b}" for a, b in zip(true, said, strict=True)]
    if any(len(title) > _ONE_LINE for title in joined):
        joined = [f"{a}\n{b}" for a, b in zip(true, said, strict=True)]
    return found.assign(title=pd.Series(joined, dtype="str"))[list(COLUMNS)]


def _share(p: float) -> str:
    """Two digits; what is not certain does not read as if it were."""
    return ">0.99" if p >= 0.995 else "<0.01" if p < 0.005 else f"{p:.2f}"
