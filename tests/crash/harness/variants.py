"""The project broken on purpose, one way each: a harness that does not notice is worth nothing.

A variant is applied in a forked child only. It is compared with an undisturbed run of the same
broken code, so that what is noticed is the going on and not the variant itself; and it has to be
noticed by the kind of difference that it must make.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import broken
from harness.zygote import Cut, Order

Kill = dict[str, Any]
MID: Kill = {"die_at": (3, 3)}  # saved in the middle of an accumulation, then killed
LATER: Kill = {"die_at": (4, 7)}  # saved after step 6
WORSE: Kill = {"die_at": (5, 1)}  # an epoch without a better one is behind
PRUNING: Kill = {"cut": Cut("save 2 3", 1, op="unlink")}  # the old checkpoint half removed


@dataclass(frozen=True)
class Variant:
    """One way to be broken.

    Attributes:
        why: what is wrong with it.
        apply: breaks the code of this process.
        kills: fields of `zygote.Order`, one attempt each, before the last one, undisturbed.
        signs: kinds of difference that must all be found.
        spared: kinds that must not be found: there it would have failed for another reason.
        kind: "loop" or "train".
        says: where it ends in an error, this is part of what it says.
    """

    why: str
    apply: Callable[[], None]
    kills: tuple[Kill, ...]
    signs: frozenset[str]
    spared: frozenset[str] = frozenset()
    kind: str = "loop"
    says: str = ""

    def orders(self, name: str, root: Path) -> list[Order]:
        """The attempts, killed but for the last one."""
        kills: list[Kill] = [*self.kills, {}]
        return [Order(str(root), self.kind, broken=name, **kill) for kill in kills]


def _signs(*kinds: str) -> frozenset[str]:
    return frozenset(kinds)


def _dying(phase: str, nth: int = 1) -> Kill:
    return {"die_in": (phase, nth)}


VARIANTS: Mapping[str, Variant] = {
    "order drawn from the clock": Variant(
        "the order of the images depends on the process",
        broken.order_from_clock,
        (MID,),
        _signs("order"),
    ),
    "dropout from the global generator": Variant(
        "steps are not seeded, and the generator is not saved",
        broken.global_generator,
        (MID,),
        _signs("loss", "model"),
        _signs("order"),
    ),
    "augmentation counts its calls": Variant(
        "what augmentation draws depends on how often this process has drawn",
        broken.augmentation_counts_steps,
        (MID,),
        _signs("loss", "model"),
        _signs("order"),
    ),
    "step cursor lost": Variant(
        "an epoch that was begun starts anew",
        broken.resumed(progress=lambda done: type(done)()),
        (LATER,),
        _signs("loss"),
    ),
    "step cursor one too far": Variant(
        "a step is left out",
        broken.one_step_too_far,
        (MID,),
        _signs("order"),
    ),
    "epoch counter one too far": Variant(
        "an epoch is left out",
        broken.resumed(epoch=lambda epoch: epoch + 1),
        (MID,),
        _signs("order", "journal"),
    ),
    "waiting forgotten": Variant(
        "the counter of early stopping starts anew",
        broken.resumed(stopping__waited=0),
        (WORSE,),
        _signs("history", "state"),
        _signs("ending"),
    ),
    "best value forgotten": Variant(
        "a worse epoch becomes the best one",
        broken.resumed(stopping__best_value=None),
        (WORSE,),
        _signs("best", "state"),
        _signs("ending"),
    ),
    "optimiser moments forgotten": Variant(
        "the optimiser starts anew",
        broken.resumed(optimiser__state=lambda state: type(state)(dict)),
        (MID,),
        _signs("optimiser", "model"),
        _signs("order"),
    ),
    "optimiser state in another layout": Variant(
        "moments are applied to the wrong weights of a channels_last model",
        broken.plain_layout,
        (MID,),
        _signs("model"),
        _signs("order", "ending"),
    ),
    "average forgotten": Variant(
        "the average starts at the initial weights",
        broken.ema_stays,
        (MID,),
        _signs("ema"),
        _signs("order", "model", "optimiser"),
    ),
    "updates of the average forgotten": Variant(
        "the warm-up of the average starts anew",
        broken.resumed(ema__updates=0),
        (MID,),
        _signs("ema"),
        _signs("order"),
    ),
    "gradients not saved": Variant(
        "what was accumulated is lost",
        broken.without("gradient/"),
        (MID,),
        _signs("model"),
        _signs("order"),
    ),
    "progress of the epoch forgotten": Variant(
        "the epoch's metrics leave out what came before",
        broken.blank_progress,
        (MID,),
        _signs("history", "journal"),
        _signs("order", "model", "optimiser", "ema"),
    ),
    "history forgotten": Variant(
        "the history begins at the resume",
        broken.resumed(history=lambda _: []),
        (MID,),
        _signs("history"),
        _signs("order", "model"),
    ),
    "schedule restarts": Variant(
        "the learning rate counts from the resume",
        broken.schedule_restarts,
        (MID,),
        _signs("model", "history"),
        _signs("order"),
    ),
    "not frozen after a resume": Variant(
        "the backbone trains in an epoch in which it should be frozen",
        broken.never_frozen_again,
        ({"die_at": (1, 4)},),
        _signs("model"),
        _signs("order"),
    ),
    "torn write accepted": Variant(
        "a half-written checkpoint has its name, and nobody checks it",
        broken.torn_accepted,
        ({"cut": Cut("save 2 3", 1, "half", op="write")},),
        _signs("ending"),
        says="epoch-0002-step-000003/state.json",
    ),
    "marker first": Variant(
        "a checkpoint counts as whole before it is",
        broken.marker_first,
        ({"cut": Cut("save 2 3", 2, "half", op="write")},),
        _signs("ending"),
        says="epoch-0002-step-000003/state.json",
    ),
    "no fsync": Variant(
        "a power cut takes what was thought to be saved",
        broken.no_fsync,
        ({"cut": Cut("save 2 3", 2, "power", op="fsync")},),
        _signs("ending"),
        says="is whole",
    ),
    "leftovers stay": Variant(
        "what a kill left half-written is not removed",
        broken.leftovers_stay,
        (PRUNING,),
        _signs("files"),
        _signs("model", "order"),
    ),
    "journal last and not mended": Variant(
        "a kill between checkpoint and journal loses an epoch's points",
        broken.history_unlogged,
        (_dying("journal", 3),),
        _signs("journal"),
        _signs("model", "order"),
    ),
    "points sent twice": Variant(
        "an epoch's points come again with another time",
        broken.sent_twice,
        (MID, LATER),
        _signs("metrics", "journal"),
        _signs("model", "runs"),
        "train",
    ),
    "no key of the run": Variant(
        "a kill between making the run and noting its id leaves a second run",
        broken.no_key,
        (_dying("noting the run", 2),),
        _signs("runs"),
        _signs("model", "order"),
        "train",
    ),
    "model logged each time": Variant(
        "a kill between logging the model and noting it leaves a second model",
        broken.always_logs,
        (_dying("noting delivery", 3),),
        _signs("models"),
        _signs("model", "order", "runs"),
        "train",
    ),
    "begin noted before it is sent": Variant(
        "artifacts that a kill cut off never arrive",
        broken.begin_noted_first,
        (_dying("sending files"),),
        _signs("artifacts"),
        _signs("model", "order"),
        "train",
    ),
    "ended noted before it is": Variant(
        "a run stays RUNNING for ever",
        broken.ended_noted_first,
        (_dying("closing the run"),),
        _signs("runs"),
        _signs("model", "order"),
        "train",
    ),
    "outcome noted before the model": Variant(
        "the outcome promises a model that is not there",
        broken.model_forgotten_in_outcome,
        (_dying("writing the model"),),
        _signs("ending"),
        kind="train",
        says="example_image",
    ),
}
