"""The three steps that change who is champion or challenger, each an entry and then the aliases."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from histo_mlflow.errors import OvertakenError, PromotionError
from histo_mlflow.promotion import aliases
from histo_mlflow.promotion.entry import Decision, Entry, Ledger
from histo_mlflow.promotion.ledger import LEDGER_TAG, adopt, extend, find
from histo_mlflow.tracking.store import Store


@dataclass(frozen=True)
class Subject:
    """The model that a decision is about.

    Attributes:
        version: of the registered model; None where it was not registered.
        model_id: of the logged model; None where there is none.
        run_id: of the run that made it.
    """

    version: int | None
    model_id: str | None
    run_id: str | None


def crown(
    store: Store,
    ledger: Ledger,
    subject: Subject,
    *,
    expected: int | None,
    why: str = "",
    forced: tuple[str, ...] = (),
) -> tuple[Ledger, Entry]:
    """Make a version the champion, if the champion still is the one it was compared with.

    Args:
        store: of the registered model.
        ledger: as it was read.
        subject: whose version becomes champion; it is no challenger any more.
        expected: the champion's version; None where there must be none.
        why: what was found.
        forced: checks that were overridden.

    Returns:
        The ledger and the entry in it.

    Raises:
        OvertakenError: the champion is another one by now.
        TrackingError: the store failed.
    """

    def build(now: Ledger) -> Entry:
        return _crowning(now, "promoted", subject, why=why, forced=forced)

    return _write(store, ledger, build, expected=expected, expecting=True)


def refuse(store: Store, ledger: Ledger, subject: Subject, *, why: str) -> tuple[Ledger, Entry]:
    """Write down that a model was refused; with a version it becomes the challenger.

    Raises:
        TrackingError: the store failed.
    """

    def build(now: Ledger) -> Entry:
        moves = subject.version is not None and subject.version != now.champion
        return Entry(
            now.next_generation,
            "refused",
            champion=now.champion,
            challenger=subject.version if moves else now.challenger,
            was=now.champion,
            version=subject.version,
            model_id=subject.model_id,
            run_id=subject.run_id,
            why=why,
        )

    return _write(store, ledger, build, expected=None, expecting=False)


def roll_back(store: Store, ledger: Ledger, to: Subject, *, why: str = "") -> tuple[Ledger, Entry]:
    """Make an earlier champion the champion again.

    Raises:
        OvertakenError: somebody else moved the champion meanwhile.
        TrackingError: the store failed.
    """

    def build(now: Ledger) -> Entry:
        return _crowning(now, "rolled back", to, why=why)

    return _write(store, ledger, build, expected=ledger.champion, expecting=True)


def opened(
    store: Store, name: str, *, expect: str | None, adopting: bool = False, writing: bool = True
) -> Ledger | None:
    """Read the ledger, see to it that the aliases agree with it, and hold `expect` against it.

    An alias that a process was killed over before it could move it is moved now.

    Args:
        store: of the registered model.
        name: of it.
        expect: the version that the champion must be now, "none", or None for whatever it is. It
            also takes over an alias that was moved by hand.
        adopting: take over a registered model that was made by hand.
        writing: False to leave everything as it is.

    Returns:
        The ledger; None where there is no registered model yet.

    Raises:
        PromotionError: the champion is not `expect`, or was moved by hand and nobody said so.
        OvertakenError: somebody wrote an entry meanwhile.
        TrackingError: the store failed.
    """
    wanted = _version(expect)
    if adopting and writing:
        aliases.settle(store, adopt(store, name))
    ledger = find(store, name)
    if ledger is None:
        if expect is not None and wanted is not None:
            raise PromotionError(
                f"Expected version {wanted} to be the champion of {name!r}, but there is no such "
                "registered model"
            )
        return None
    found = aliases.standing(store, ledger)
    if found.state == "by hand":
        if expect is None or found.champion != wanted:
            raise PromotionError(_by_hand(found))
        return (
            aliases.take_over(store, found, wanted) if writing else aliases.as_if_taken_over(found)
        )
    ledger = found.ledger
    if found.state == "unsettled" and writing:
        ledger = aliases.settle(store, ledger)
    if expect is not None and ledger.champion != wanted:
        raise OvertakenError(
            f"Expected @champion of {name!r} to be {aliases.shown(wanted)}, but it is "
            f"{aliases.shown(ledger.champion)}"
        )
    return ledger


def _crowning(
    now: Ledger, decision: Decision, subject: Subject, *, why: str, forced: tuple[str, ...] = ()
) -> Entry:
    """The entry that makes a version the champion; it is no challenger any more."""
    return Entry(
        now.next_generation,
        decision,
        champion=subject.version,
        challenger=None if now.challenger == subject.version else now.challenger,
        was=now.champion,
        version=subject.version,
        model_id=subject.model_id,
        run_id=subject.run_id,
        why=why,
        forced=forced,
    )


def _write(
    store: Store,
    ledger: Ledger,
    build: Callable[[Ledger], Entry],
    *,
    expected: int | None,
    expecting: bool,
) -> tuple[Ledger, Entry]:
    ledger, entry = extend(store, ledger, build, champion=expected, expecting=expecting)
    return aliases.settle(store, ledger, generation=entry.generation), entry


def _version(expect: str | None) -> int | None:
    if expect is None or expect.strip().lower() == "none":
        return None
    digits = expect.strip().lower().removeprefix("v")
    if not digits.isascii() or not digits.isdigit():
        raise PromotionError(
            f"Expected the number of a version or none as the champion to expect, got {expect!r}"
        )
    return int(digits)


def _by_hand(found: aliases.Standing) -> str:
    now, before = found.champion, found.ledger.champion
    return (
        f"@champion of {found.ledger.name!r} is {aliases.shown(now)}, but the ledger (run "
        f"{found.ledger.run_id}, tag {LEDGER_TAG}) says {aliases.shown(before)}: it was moved by "
        f"hand; give --expect {'none' if now is None else now} to go on from where it is"
    )
