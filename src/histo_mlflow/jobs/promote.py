"""Promotion: is this model fit to be the champion, and if so, make it that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histo_mlflow.errors import OvertakenError, PromotionError, TrackingError
from histo_mlflow.evaluation.bootstrap import REPLICATES
from histo_mlflow.evaluation.compare import Comparison
from histo_mlflow.evaluation.measured import ORDER
from histo_mlflow.jobs._promotion_compare import compare
from histo_mlflow.jobs._promotion_evidence import Side, champion_of, gather
from histo_mlflow.jobs._promotion_record import write_record
from histo_mlflow.jobs._promotion_subject import named
from histo_mlflow.jobs.compare import Split
from histo_mlflow.jobs.deliver import store_uri
from histo_mlflow.jobs.run_folder import RunFolder
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.promotion.entry import Entry, Ledger
from histo_mlflow.promotion.evidence import Gain
from histo_mlflow.promotion.gate import Decision, Rules, decide
from histo_mlflow.promotion.ledger import find_or_make
from histo_mlflow.promotion.transition import Subject, crown, opened, refuse
from histo_mlflow.promotion.versions import register, version_of
from histo_mlflow.tracking.store import Store, connect


@dataclass(frozen=True, eq=False)
class Promotion:
    """What came of asking for a promotion.

    Attributes:
        name: of the registered model.
        decision: of the gate.
        challenger: the model that was asked for.
        champion: the one it was held against; None where there was none.
        gain: over the champion in the metric that decides; None where there was none.
        comparison: of all metrics; None where nothing could be compared.
        ledger: afterwards; None where there is no registered model.
        entry: that was written; None in a trial, or without a registered model.
        version: of the challenger; None where it has none.
        overtaken: that somebody else was faster; None where nobody was.
        dry_run: nothing was written.
    """

    name: str
    decision: Decision
    challenger: Side
    champion: Side | None
    gain: Gain | None
    comparison: Comparison | None
    ledger: Ledger | None = None
    entry: Entry | None = None
    version: int | None = None
    overtaken: str | None = None
    dry_run: bool = False

    @property
    def promoted(self) -> bool:
        """Whether the challenger is the champion now, or would be."""
        return self.decision.promoted and self.overtaken is None

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why not; empty where it was promoted."""
        own = self.decision.reasons
        return own if self.overtaken is None else (*own, self.overtaken)

    @property
    def was(self) -> int | None:
        """The version of the champion before; None where there was none."""
        return None if self.champion is None else self.champion.facts.version

    @property
    def is_champion(self) -> int | None:
        """The version of the champion afterwards; None where there is none."""
        return self.was if self.ledger is None else self.ledger.champion

    def refusal(self) -> PromotionError | None:
        """Return the error that a refusal is; None where it was promoted."""
        if self.promoted:
            return None
        told = f"{self.challenger.facts.name} is refused as champion of {self.name}: "
        told += "; ".join(self.reasons)
        if self.overtaken is None and (advice := self.decision.advice()):
            told += f" ({advice})"
        return PromotionError(told)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "format": 1,
            "name": self.name,
            "decision": "promoted" if self.promoted else "refused",
            "dry_run": self.dry_run,
            "reasons": list(self.reasons),
            "forced": list(self.decision.forced),
            "version": self.version,
            "was": self.was,
            "champion": self.is_champion,
            "entry": None if self.entry is None else self.entry.to_dict(),
            "gate": self.decision.to_dict(),
            "challenger_facts": self.challenger.facts.to_dict(),
            "champion_facts": None if self.champion is None else self.champion.facts.to_dict(),
            "gain": None if self.gain is None else self.gain.to_dict(),
            "comparison": None if self.comparison is None else self.comparison.to_dict(),
        }


def promote(
    reference: str,
    *,
    name: str,
    rules: Rules | None = None,
    split: Split = "test",
    expect: str | None = None,
    adopt: bool = False,
    dry_run: bool = False,
    tracking_uri: str | None = None,
    runs_dir: str | Path = "runs",
    replicates: int = REPLICATES,
    talk: Talk | None = None,
) -> Promotion:
    """Hold a model against the champion, and make it the champion if nothing speaks against it.

    A refused model is registered and becomes `@challenger` if only the comparison speaks against
    it; otherwise nothing is registered. Every decision is written down.

    Args:
        reference: the id of a run or of a logged model, `models:/<model id>`, or a run's folder.
        name: of the registered model; made with the first version.
        rules: what is asked of the model.
        split: whose images decide.
        expect: the version that the champion must be, or "none"; see `transition.opened`.
        adopt: take over a registered model that was made by hand.
        dry_run: say what would come of it, and write nothing.
        tracking_uri: MLflow store; None: where the run was begun if its folder is here, else
            `MLFLOW_TRACKING_URI`, else `sqlite:///mlflow.db`. It is never made.
        runs_dir: where folders of runs are.
        replicates: draws of the bootstrap.
        talk: says what happens.

    Raises:
        PromotionError: what was asked for makes no sense, or the registered model is not as it
            should be. A refusal by the gate is no error here (`Promotion.refusal`).
        TrackingError: the store is not there, or failed.
    """
    talk, rules = talk or Talk(), rules or Rules()
    check_name(name)
    if rules.metric not in ORDER:
        raise PromotionError(
            f"Expected a metric, one of {', '.join(ORDER)}, got {rules.metric!r} with --metric"
        )
    store = opened_store(reference, tracking_uri, runs_dir)
    subject = named(store, reference)
    ledger = opened(store, name, expect=expect, adopting=adopt, writing=not dry_run)
    talk.say("read", f"{reference} from {store.shown_uri}")
    challenger = gather(store, subject, split=split, runs_dir=runs_dir)
    champion, gain, comparison = None, None, None
    if ledger is not None and ledger.champion is not None:
        champion = champion_of(store, name, ledger.champion, split=split, runs_dir=runs_dir)
        talk.say("champion", f"version {ledger.champion}, {champion.facts.name}")
        if champion.facts.model_id != subject.model_id:
            gain, comparison = compare(
                champion, challenger, metric=rules.metric, split=split, replicates=replicates
            )
    version = None
    if ledger is not None and subject.model_id is not None:
        version = version_of(store, name, subject.model_id)
    decision = decide(
        challenger.facts,
        None if champion is None else champion.facts,
        gain,
        rules,
        rolled_back=_rolled_back(ledger, version),
    )
    found = Promotion(
        name, decision, challenger, champion, gain, comparison, ledger,
        version=version, dry_run=dry_run,
    )  # fmt: skip
    return found if dry_run else _carried_out(store, found)


def _carried_out(store: Store, found: Promotion) -> Promotion:
    """Register, move the aliases, and write the decision down."""
    facts, ledger, version = found.challenger.facts, found.ledger, found.version
    if found.decision.registered:
        ledger = ledger or find_or_make(store, found.name)
        version = version or register(store, found.name, facts.model_id, facts.run_id)
    subject = Subject(version, facts.model_id or None, facts.run_id)
    overtaken, entry = None, None
    if found.decision.promoted and ledger is not None:
        try:
            ledger, entry = crown(
                store,
                ledger,
                subject,
                expected=found.was,
                why=_told(found.gain),
                forced=found.decision.forced,
            )
        except OvertakenError as error:
            overtaken = str(error)
    if entry is None and ledger is not None:
        why = "; ".join([*found.decision.reasons, *([overtaken] if overtaken else [])])
        kept = subject if found.decision.registered else Subject(None, *_ids(subject))
        ledger, entry = refuse(store, ledger, kept, why=why)
    done = Promotion(
        found.name, found.decision, found.challenger, found.champion, found.gain,
        found.comparison, ledger, entry, version, overtaken,
    )  # fmt: skip
    try:
        write_record(
            store, ledger, entry, facts.run_id, done.to_dict(), found.comparison,
            found.challenger.group_kind,
        )  # fmt: skip
    except TrackingError as error:
        error.add_note(
            f"version {version} of {found.name} is the champion all the same"
            if done.promoted
            else "the model is refused all the same: " + "; ".join(done.reasons)
        )
        raise
    return done


def check_name(name: str) -> None:
    """Refuse a name of a registered model that `models:/NAME@champion` could not hold.

    Raises:
        PromotionError: it is such a name.
    """
    if not name.strip() or name != name.strip() or len(name) > 200 or set(name) & set("/@:%?#\\"):
        raise PromotionError(
            f"Expected the name of a registered model, without / : @ and at most 200 characters "
            f"long, got {name[:80]!r} with --name"
        )


def opened_store(reference: str | None, tracking_uri: str | None, runs_dir: str | Path) -> Store:
    """Open the store that is named, else the one where the run was begun, if its folder is here.

    Raises:
        TrackingError: it is not there.
        ResumeError: a run's folder cannot be read.
    """
    if tracking_uri is None and reference:
        for path in (Path(reference), Path(runs_dir) / reference):
            if path.is_dir() and (facts := RunFolder(path).facts()) is not None:
                tracking_uri = store_uri(facts, None)
                break
    return connect(tracking_uri, make=False)


def _rolled_back(ledger: Ledger | None, version: int | None) -> str | None:
    entry = None if ledger is None or version is None else ledger.rolled_back(version)
    return None if entry is None else f"at {entry.at} by {entry.by}"


def _ids(subject: Subject) -> Sequence[str | None]:
    return subject.model_id, subject.run_id


def _told(gain: Gain | None) -> str:
    if gain is None or gain.gain is None:
        return "the first champion" if gain is None else ""
    ends = "" if gain.low is None else f" ({gain.low:+.4f} to {gain.high:+.4f})"
    return f"{gain.metric} {gain.gain:+.4f}{ends} on {gain.rows:,} images"
