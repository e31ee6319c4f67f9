"""One image, answered for a person: classes with bars, and how sure the model is in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from histo_mlflow.device import plan_device
from histo_mlflow.errors import DataError
from histo_mlflow.inference.engine import Kind
from histo_mlflow.inference.inputs import Reader, list_inputs
from histo_mlflow.inference.pipeline import decode_and_predict
from histo_mlflow.jobs._predict_models import (
    chosen_models,
    load_members,
    told_model,
)
from histo_mlflow.jobs.signals import ending_by_signal
from histo_mlflow.jobs.talk import Talk

VERY_LIKELY, LIKELY = 0.90, 0.66
"""From which probability on the likeliest class is called so; below, the model is "unsure". The
bounds are those of the IPCC's calibrated language (Mastrandrea et al., Guidance Note on Consistent
Treatment of Uncertainties, 2010)."""
CELLS = 30
MOST_SHOWN = 10
_EIGHTHS = " ▏▎▍▌▋▊▉"
_BLOCK = "█"


@dataclass(frozen=True)
class OneAnswer:
    """What a model says of one image.

    Attributes:
        id: name of the file.
        cls: the likeliest class.
        confidence: its probability in words, see `in_words`.
        probabilities: of each class, the likeliest first.
        abstain: whether the model would rather not say.
        abstain_below: it abstains where the greatest probability is lower; 0 never does.
        calibrated: whether the probabilities were calibrated on validation images.
        model_version: the model's name.
        model_digest: of the model.
    """

    id: str
    cls: str
    confidence: str
    probabilities: Mapping[str, float]
    abstain: bool
    abstain_below: float
    calibrated: bool
    model_version: str
    model_digest: str

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; the class is called `class`, as in tables."""
        values = asdict(self)
        return {"id": values.pop("id"), "class": values.pop("cls"), **values}


def predict_one(
    path: str,
    *,
    models: Sequence[str] = (),
    engine: Kind = "torch",
    device: str = "cpu",
    tta: bool = False,
    abstain_below: float | None = None,
    tracking_uri: str | None = None,
    runs_dir: str = "runs",
    talk: Talk,
) -> OneAnswer:
    """Predict one image.

    Args:
        path: a JPEG, PNG or TIFF file.
        models: see `predict.predict`.
        engine: what computes.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps".
        tta: mean over eight views.
        abstain_below: None takes the model's own.
        tracking_uri: of the store that models are looked for in.
        runs_dir: where runs are looked for first.
        talk: to the user.

    Raises:
        DataError: the image cannot be used, or a model or option is not as expected.
    """
    with ending_by_signal(), Reader() as reader:
        (item,) = list_inputs([path]).items
        machine = plan_device(device, "fp32", "contiguous")
        members = load_members(
            chosen_models(models, tracking_uri, talk),
            engine=engine,
            device=machine.device,
            tta=tta,
            abstain_below=abstain_below,
            tracking_uri=tracking_uri,
            runs_dir=runs_dir,
            talk=talk,
        )
        one = [(item.id, partial(reader.read, item))]
        (answer,) = decode_and_predict(members.engines, one, batch=1, threads=1)
    if answer.probabilities is None:
        raise DataError(f"{item.where} cannot be used: {answer.reason}")
    pairs = zip(members.classes, answer.probabilities.tolist(), strict=True)
    ranked = dict(sorted(pairs, key=lambda pair: -pair[1]))
    best = next(iter(ranked))
    return OneAnswer(
        id=item.id,
        cls=best,
        confidence=in_words(ranked[best]),
        probabilities=ranked,
        abstain=ranked[best] < members.abstain_below,
        abstain_below=members.abstain_below,
        calibrated=members.calibrated,
        model_version=members.version,
        model_digest=members.digest,
    )


def in_words(probability: float) -> str:
    """The words for the likeliest class's probability."""
    if probability >= VERY_LIKELY:
        return "very likely"
    return "likely" if probability >= LIKELY else "unsure"


def shows_blocks(encoding: str | None) -> bool:
    """Whether a stream of this encoding can show the bars."""
    try:
        (_BLOCK + _EIGHTHS).encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def render(answer: OneAnswer, *, blocks: bool = True) -> str:
    """The answer as lines: a class each, and what is to be known about it.

    Args:
        answer: of `predict_one`.
        blocks: draw with block characters, an eighth of a cell fine; else with ASCII.
    """
    shown = list(answer.probabilities.items())[:MOST_SHOWN]
    width = max(len(name) for name, _ in shown)
    lines = [f"{name:<{width}}  {_bar(p, blocks)}  {100 * p:5.1f} %" for name, p in shown]
    lines[0] += f"  {answer.confidence}"
    if rest := len(answer.probabilities) - len(shown):
        left = sum(list(answer.probabilities.values())[MOST_SHOWN:])
        lines.append(f"and {rest:,} more classes with {100 * left:.1f} % together")
    if answer.abstain:
        lines.append(f"abstains: below its threshold {answer.abstain_below:.2f}")
    if not answer.calibrated:
        lines.append("not calibrated: the percentages may be too sure of themselves")
    lines.append(told_model(answer.model_version, answer.model_digest))
    text = "\n".join(lines)
    return text if blocks else text.encode("ascii", "backslashreplace").decode()


def _bar(probability: float, blocks: bool) -> str:
    if not blocks:
        return f"{'#' * round(probability * CELLS):<{CELLS}}"
    eighths = round(probability * CELLS * 8)
    bar = _BLOCK * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
    return f"{bar:<{CELLS}}"
