"""Back to an earlier champion, and what has been decided on a registered model so far."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from histo_mlflow.errors import HistoMlflowError, PromotionError
from histo_mlflow.jobs._promotion_record import write_record
from histo_mlflow.jobs.find_model import find_model
from histo_mlflow.jobs.promote import check_name, opened_store
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.promotion import aliases, transition
from histo_mlflow.promotion.entry import Ledger
from histo_mlflow.promotion.ledger import find
from histo_mlflow.registry.model_folder import read_model_folder
from histo_mlflow.tracking.store import Store


@dataclass(frozen=True)
class RolledBack:
    """Where the champion was and is.

    Attributes:
        name: of the registered model.
        was: the version before.
        champion: the version now.
        entry: its number in the ledger; None in a trial.
    """

    name: str
    was: int | None
    champion: int
    entry: int | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "format": 1,
            "name": self.name,
            "decision": "rolled back",
            "was": self.was,
            "champion": self.champion,
            "entry": self.entry,
        }


@dataclass(frozen=True)
class Status:
    """A registered model as the ledger has it, and as its aliases are.

    Attributes:
        ledger: with all entries.
        champion: where `@champion` is.
        challenger: where `@challenger` is.
        warning: that the two do not agree; None where they do.
    """

    ledger: Ledger
    champion: int | None
    challenger: int | None
    warning: str | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "format": 1,
            "name": self.ledger.name,
            "champion": self.champion,
            "challenger": self.challenger,
            "earlier_champions": list(self.ledger.earlier()),
            "warning": self.warning,
            "ledger_run": self.ledger.run_id,
            "entries": [entry.to_dict() for entry in self.ledger.entries],
        }


def roll_back(
    name: str,
    *,
    to: int | None = None,
    expect: str | None = None,
    dry_run: bool = False,
    tracking_uri: str | None = None,
    runs_dir: str | Path = "runs",
    talk: Talk | None = None,
) -> RolledBack:
    """Make an earlier champion the champion again; its model must still be whole.

    Args:
        name: of the registered model.
        to: the version; None: the champion before the one of now.
        expect: the version that the champion must be now; see `transition.opened`.
        dry_run: look, and write nothing.
        tracking_uri: MLflow store.
        runs_dir: where folders of runs are.
        talk: says what happens.

    Raises:
        PromotionError: there is no such model or earlier champion, or it cannot be loaded.
        OvertakenError: somebody else moved the champion meanwhile.
        TrackingError: the store is not there, or failed.
    """
    talk = talk or Talk()
    store = _store(name, tracking_uri, runs_dir)
    ledger = transition.opened(store, name, expect=expect, writing=not dry_run)
    if ledger is None:
        raise PromotionError(_unknown(store, name))
    earlier = ledger.earlier()
    if not earlier:
        now = aliases.shown(ledger.champion)
        raise PromotionError(
            f"Expected an earlier champion of {name!r} to go back to, but there is none: the "
            f"champion is {now}"
        )
    if to is not None and to not in earlier:
        raise PromotionError(
            f"Expected an earlier champion of {name!r} ({', '.join(map(str, earlier))}), got "
            f"version {to} with --to"
        )
    target = earlier[0] if to is None else to
    subject = _whole(store, name, target, earlier, runs_dir)
    talk.say("model", f"version {target} is whole")
    if dry_run:
        return RolledBack(name, ledger.champion, target, None)
    left = ledger.champion
    ledger, entry = transition.roll_back(store, ledger, subject, why=f"from version {left}")
    done = RolledBack(name, left, target, entry.generation)
    write_record(store, ledger, entry, subject.run_id or "", done.to_dict(), None, "group")
    return done


def status(name: str, *, tracking_uri: str | None = None, runs_dir: str | Path = "runs") -> Status:
    """Read what has been decided on a registered model; nothing is written.

    Raises:
        PromotionError: there is no such model, or it was made by hand.
        TrackingError: the store is not there, or failed.
    """
    store = _store(name, tracking_uri, runs_dir)
    ledger = find(store, name)
    if ledger is None:
        raise PromotionError(_unknown(store, name))
    found, now = aliases.standing(store, ledger), aliases.aliases(store, name)
    warning = None
    if found.state == "by hand":
        warning = (
            f"@champion was moved by hand to {aliases.shown(found.champion)}; by the ledger it is "
            f"{aliases.shown(found.ledger.champion)}"
        )
    elif found.state == "unsettled" and found.champion != found.ledger.champion:
        warning = (
            f"@champion is on its way to {aliases.shown(found.ledger.champion)}, or whoever moves "
            "it was stopped; the next promotion sees to it"
        )
    return Status(found.ledger, now.champion, now.challenger, warning)


def _whole(
    store: Store, name: str, version: int, earlier: tuple[int, ...], runs_dir: str | Path
) -> transition.Subject:
    """The version, once its model folder was read byte by byte.

    Raises:
        PromotionError: it cannot be.
    """
    try:
        with find_model(
            f"models:/{name}/{version}", tracking_uri=store.tracking_uri, runs_dir=runs_dir
        ) as found:
            read_model_folder(found.folder)
            return transition.Subject(version, found.model_id, found.run_id)
    except HistoMlflowError as error:
        others = ", ".join(str(one) for one in earlier if one != version)
        advice = f"; --to names another one ({others})" if others else ""
        raise PromotionError(
            f"version {version} of {name!r} cannot be gone back to: {error}{advice}"
        ) from error


def _store(name: str, tracking_uri: str | None, runs_dir: str | Path) -> Store:
    check_name(name)
    return opened_store(None, tracking_uri, runs_dir)


def _unknown(store: Store, name: str) -> str:
    return (
        f"the store {store.shown_uri} has no registered model {name!r}: `histo-mlflow promote "
        f"RUN_ID --name {name}` makes it with its first version"
    )
