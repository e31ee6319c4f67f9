"""The models that a prediction asks: which, loaded, and what they are called in its answers."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

from histo_mlflow.data.findings import warned
from histo_mlflow.errors import DataError, TrackingError
from histo_mlflow.inference.engine import Engine, Kind, make_engine
from histo_mlflow.jobs.find_model import find_model
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.promotion.aliases import CHAMPION
from histo_mlflow.registry.model_folder import read_model_folder
from histo_mlflow.tracking.store import connect
from histo_mlflow.vision.decode import DecodeRule

VARIABLE = "HISTO_MLFLOW_MODEL"


@dataclass(frozen=True)
class Members:
    """One model, or several that answer together by their mean logits.

    Attributes:
        engines: each with its decode rule.
        classes: of all of them, in the order of the probabilities.
        abstain_below: abstains where the greatest probability is lower; 0 never does.
        calibrated: whether all of them are.
        version: of the model, joined by "+".
        digest: of the model; of several, that of their digests one after the other.
    """

    engines: tuple[tuple[Engine, DecodeRule], ...] = field(repr=False)
    classes: tuple[str, ...]
    abstain_below: float
    calibrated: bool
    version: str
    digest: str


def chosen_models(given: Sequence[str], tracking_uri: str | None, talk: Talk) -> tuple[str, ...]:
    """The references that were given; else that of the environment; else the only champion.

    Raises:
        DataError: none was given, and there is not exactly one registered model with a champion.
    """
    if given:
        return tuple(given)
    if named := os.environ.get(VARIABLE, "").strip():
        talk.say("model", f"{named} (of {VARIABLE})")
        return (named,)
    advice = f"name a model with --model (such as models:/NAME@{CHAMPION}) or {VARIABLE}"
    try:
        store = connect(tracking_uri, make=False)
        registered = store.ask(
            "looking for a champion", lambda: list(store.client.search_registered_models())
        )
    except TrackingError as error:
        raise DataError(f"Expected a model, got none: {advice} ({error})") from error
    names = sorted(one.name for one in registered if CHAMPION in one.aliases)
    if len(names) != 1:
        found = f"{len(names)} registered models have a champion ({', '.join(names[:5])})"
        why = found if names else "no registered model has a champion"
        raise DataError(f"Expected a model, got none, and {why}: {advice}")
    talk.say("model", f"models:/{names[0]}@{CHAMPION}, the only champion of {store.shown_uri}")
    return (f"models:/{names[0]}@{CHAMPION}",)


def load_members(
    references: Sequence[str],
    *,
    engine: Kind = "torch",
    device: str = "cpu",
    tta: bool = False,
    abstain_below: float | None = None,
    tracking_uri: str | None = None,
    runs_dir: str = "runs",
    talk: Talk,
) -> Members:
    """Find, verify and load models.

    Args:
        references: see `find_model`.
        engine: what computes.
        device: "cpu", "cuda:0", "mps".
        tta: mean over eight views of an image.
        abstain_below: None takes the model's own; several models have none in common.
        tracking_uri: of the store.
        runs_dir: where runs are looked for first.
        talk: is told of what the models lack.

    Raises:
        ModelFolderError: a model is not as it was written.
        TrackingError: the store cannot be asked, or does not have it.
        DataError: the models have other classes.
    """
    engines, versions, digests, below, calibrated = [], [], [], [], []
    for reference in references:
        with find_model(reference, tracking_uri=tracking_uri, runs_dir=runs_dir) as found:
            model = read_model_folder(found.folder)
            # Of the processor's threads each batch has one: see `pipeline.decode_and_predict`.
            made = make_engine(model, engine, device=device, threads=1, tta=tta)
        for note in made.notes:
            talk.say("model", note)
        engines.append((made, model.rule))
        versions.append(found.version)
        digests.append(model.digest)  # of the bytes that were loaded
        below.append(model.abstain_below)
        calibrated.append(model.calibration is not None)
        if tuple(made.classes) != tuple(engines[0][0].classes):
            raise DataError(
                f"Expected models with the same classes in the same order, got "
                f"{', '.join(engines[0][0].classes)} of {references[0]} and "
                f"{', '.join(made.classes)} of {reference}"
            )
    if len(set(digests)) != len(digests):
        raise DataError(f"Expected different models, got one of them twice: {', '.join(versions)}")
    if not all(calibrated):
        talk.warn(warned("uncalibrated", "the model's probabilities are not calibrated"))
    if len(engines) > 1 and abstain_below is None:
        text = "several models have no common threshold: none abstains; --abstain-below sets one"
        talk.warn(warned("no-threshold", text))
    own = below[0] if len(below) == 1 else 0.0
    joined = hashlib.sha256("".join(digests).encode()).hexdigest()
    return Members(
        engines=tuple(engines),
        classes=tuple(engines[0][0].classes),
        abstain_below=own if abstain_below is None else abstain_below,
        calibrated=all(calibrated),
        version="+".join(versions),
        digest=digests[0] if len(digests) == 1 else joined,
    )


def told_model(version: str, digest: str) -> str:
    """A model for a person: its name, and enough of its digest."""
    return f"model {version}" if version == digest[:12] else f"model {version}  {digest[:12]}"
