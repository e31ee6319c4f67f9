"""The aliases `@champion` and `@challenger` of a registered model, moved to where the ledger says.

An alias is never taken away before it is set: a server that loads `models:/name@champion` at any
moment finds one, once there was one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from histo_mlflow.errors import PromotionError
from histo_mlflow.promotion.entry import Entry, Ledger
from histo_mlflow.promotion.ledger import (
    extend,
    mark_settled,
    read,
    registered_model,
    retried,
)
from histo_mlflow.tracking.store import Store

CHAMPION, CHALLENGER = "champion", "challenger"
_LOOKS = 20


@dataclass(frozen=True)
class Aliases:
    """Where the aliases are: versions, None where an alias is not there."""

    champion: int | None
    challenger: int | None


@dataclass(frozen=True)
class Standing:
    """How ledger and aliases agree.

    Attributes:
        ledger: as it was read.
        champion: the version that `@champion` names.
        state: "settled" where they agree; "unsettled" where somebody who wrote an entry has not
            moved the alias yet, or died before; "by hand" where the alias was moved otherwise.
    """

    ledger: Ledger
    champion: int | None
    state: Literal["settled", "unsettled", "by hand"]


def aliases(store: Store, name: str) -> Aliases:
    """Look where the aliases are; nowhere, if there is no such registered model.

    Raises:
        TrackingError: the store failed.
    """
    model = registered_model(store, name)
    there = {} if model is None else model.aliases
    found = {alias: int(version) for alias, version in there.items()}
    return Aliases(found.get(CHAMPION), found.get(CHALLENGER))


def standing(store: Store, ledger: Ledger) -> Standing:
    """Tell an alias that is on its way from one that was moved by hand.

    Args:
        store: of the registered model.
        ledger: as it was read before; it is read again.

    Raises:
        TrackingError: the store failed.
    """
    for _ in range(_LOOKS):
        before, alias = ledger, aliases(store, ledger.name).champion
        ledger = read(store, ledger.name, ledger.run_id)
        if ledger == before:  # nobody wrote an entry, or settled one, while the alias was read
            return Standing(ledger, alias, _state(before, alias))
    return Standing(ledger, ledger.champion, "unsettled")  # busy: whoever writes settles it


def _state(ledger: Ledger, alias: int | None) -> Literal["settled", "unsettled", "by hand"]:
    newest = ledger.newest
    if newest is None:
        return "settled" if alias is None else "by hand"
    if newest.generation not in ledger.settled:
        return "unsettled"
    if alias == newest.champion:
        return "settled"
    late = {
        entry.champion for entry in ledger.entries if entry.generation not in ledger.settled
    }  # written by processes that were stopped before they moved the alias, or just after
    return "unsettled" if alias in late - {None} else "by hand"


def settle(store: Store, ledger: Ledger, *, generation: int | None = None) -> Ledger:
    """Move the aliases to where the newest entry says, and look again until that is so.

    Whoever was slow sets an alias that is out of date by then, sees the newer entry and sets it
    right; whoever died has it done by the next one who comes.

    Args:
        store: of the registered model.
        ledger: as it was read.
        generation: of the entry that the caller wrote; noted as done, even if a newer one counts.

    Raises:
        PromotionError: the champion's version was deleted.
        TrackingError: the store failed.
    """
    while (newest := ledger.newest) is not None:
        if not _moved(store, ledger.name, newest):
            now = read(store, ledger.name, ledger.run_id)
            if now.newest == newest:
                # The newest entry is its writer's to note, unless that one is taken for dead.
                return mark_settled(store, now, generation or newest.generation)
        ledger = read(store, ledger.name, ledger.run_id)
    return ledger


def take_over(store: Store, found: Standing, expected: int | None) -> Ledger:
    """Write down an alias that was moved by hand, after the user named where it is.

    Raises:
        PromotionError: it is somewhere else.
        OvertakenError: somebody wrote an entry meanwhile.
        TrackingError: the store failed.
    """
    if found.champion != expected:
        raise PromotionError(
            f"Expected @champion of {found.ledger.name!r} to be {shown(expected)}, but it is "
            f"{shown(found.champion)}"
        )
    ledger, entry = extend(
        store,
        found.ledger,
        lambda now: _adopted(now, expected),
        champion=found.ledger.champion,
        expecting=True,
    )
    return settle(store, ledger, generation=entry.generation)


def as_if_taken_over(found: Standing) -> Ledger:
    """Return the ledger that `take_over` would leave, without writing anything."""
    ledger = found.ledger
    return replace(ledger, entries=(*ledger.entries, _adopted(ledger, found.champion)))


def _adopted(now: Ledger, champion: int | None) -> Entry:
    return Entry(
        now.next_generation,
        "adopted",
        champion=champion,
        challenger=now.challenger,
        was=now.champion,
        why="the alias was moved by hand",
    )


def shown(version: int | None) -> str:
    """Return "version 3", or "absent"."""
    return "absent" if version is None else f"version {version}"


def _moved(store: Store, name: str, entry: Entry) -> bool:
    """Set the aliases that are not where an entry says; whether there was one."""
    now = aliases(store, name)
    moved = False
    if entry.champion is not None and now.champion != entry.champion:
        _set(store, name, CHAMPION, entry.champion)
        moved = True
    if entry.challenger is not None and now.challenger != entry.challenger:
        _set(store, name, CHALLENGER, entry.challenger)
        moved = True
    if entry.challenger is None and now.challenger is not None:
        retried(
            store,
            "taking @challenger away",
            lambda: store.client.delete_registered_model_alias(name, CHALLENGER),
        )
        moved = True
    return moved


def _set(store: Store, name: str, alias: str, version: int) -> None:
    retried(
        store,
        f"setting @{alias} of {name!r} to version {version}",
        lambda: store.client.set_registered_model_alias(name, alias, str(version)),
    )
