"""The ledger of a registered model: a compare-and-swap that MLflow itself does not have.

MLflow's aliases go to whoever sets them last. What it does have are registers that can be written
once: a param of a run is unique by (run, key) in every SQL store, and another value is refused.
So a run a registered model is its ledger, and its param `000012` is decision number 12. Whoever has
read 11 decisions writes number 12; of several who do so at once the database lets exactly one
through, and what that one wrote says what the aliases are (`aliases.settle` moves them).

Which run is the ledger is unique too, since it is a tag that the registered model is made with, and
only one process can make it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from histo_mlflow.errors import OvertakenError, PromotionError, TrackingError
from histo_mlflow.promotion.entry import Entry, Ledger
from histo_mlflow.tracking.entries import source_tags
from histo_mlflow.tracking.store import Store, experiment_id

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import RegisteredModel

T = TypeVar("T")

EXPERIMENT = "histo-mlflow promotions"
LEDGER_TAG = "histo.ledger"
"""Of the registered model: the id of the run that is its ledger."""
SETTLED = ".settled"
_ATTEMPTS = 8
_TURNS = 200  # of others who write first; each of them has moved on by one entry
_ABSENT = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})
_THERE = frozenset({"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"})


def registered_model(store: Store, name: str) -> RegisteredModel | None:
    """Return the registered model of that name; None where there is none.

    Raises:
        TrackingError: the store failed.
    """
    from mlflow.exceptions import MlflowException

    def look() -> RegisteredModel | None:
        try:
            return store.client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code in _ABSENT:
                return None
            raise

    return retried(store, f"looking for the registered model {name!r}", look)


def find(store: Store, name: str) -> Ledger | None:
    """Read the ledger of a registered model; None where there is no such model yet.

    Raises:
        PromotionError: the model was made without a ledger, or the ledger is gone.
        TrackingError: the store failed.
    """
    model = registered_model(store, name)
    if model is None:
        return None
    if LEDGER_TAG not in model.tags:
        raise PromotionError(
            f"the registered model {name!r} was not made by `histo-mlflow promote` (it lacks the "
            f"tag {LEDGER_TAG}), so nothing is known of how its champion was chosen: give --adopt "
            "to take it over as it is (once, and not from two processes), or another --name"
        )
    return read(store, name, model.tags[LEDGER_TAG])


def find_or_make(store: Store, name: str) -> Ledger:
    """Read the ledger of a registered model, and make both where they are not there yet.

    Of several processes that make one at once, one makes it and the others use it.

    Raises:
        PromotionError: see `find`; or MLflow takes no such name.
        TrackingError: the store failed.
    """
    from mlflow.exceptions import MlflowException

    if (there := find(store, name)) is not None:
        return there
    run_id = _new_run(store, name)

    def make() -> bool:
        try:
            store.client.create_registered_model(name, tags={LEDGER_TAG: run_id})
        except MlflowException as error:
            if error.error_code not in _THERE:
                raise
            return False
        return True

    made = retried(store, f"making the registered model {name!r}", make)
    found = find(store, name)
    if found is None:
        raise TrackingError(f"the registered model {name!r} was deleted as soon as it was made")
    if not made and found.run_id != run_id:
        retried(store, "removing a run", lambda: store.client.delete_run(run_id))
    return found


def adopt(store: Store, name: str) -> Ledger:
    """Give a ledger to a registered model that was made by hand; its aliases are the first entry.

    Two processes that do so at once may write two, of which one counts.

    Raises:
        PromotionError: there is no such model, or it has one.
        TrackingError: the store failed.
    """
    model = registered_model(store, name)
    if model is None or LEDGER_TAG in model.tags:
        has = "there is none" if model is None else "it has a ledger already"
        raise PromotionError(
            f"Expected a registered model {name!r} that was made by hand, but {has}: leave out "
            "--adopt"
        )
    run_id = _new_run(store, name)
    retried(
        store,
        f"adopting the registered model {name!r}",
        lambda: store.client.set_registered_model_tag(name, LEDGER_TAG, run_id),
    )
    aliases = {alias: int(version) for alias, version in model.aliases.items()}
    ledger = read(store, name, run_id)
    return extend(
        store,
        ledger,
        lambda now: Entry(
            now.next_generation,
            "adopted",
            champion=aliases.get("champion"),
            challenger=aliases.get("challenger"),
            why="the registered model was made by hand",
        ),
    )[0]


def read(store: Store, name: str, run_id: str) -> Ledger:
    """Read the ledger in a run.

    Raises:
        PromotionError: the run was deleted, or holds something else.
        TrackingError: the store failed.
    """

    def look() -> Run | None:
        from mlflow.exceptions import MlflowException

        try:
            return store.client.get_run(run_id)
        except MlflowException as error:
            if error.error_code in _ABSENT:
                return None
            raise

    run = retried(store, f"reading the ledger of {name!r}", look)
    if run is None or run.info.lifecycle_stage != "active":
        cure = "it cannot be restored: delete the tag and give --adopt" if run is None else (
            f"restore it with `mlflow runs restore --run-id {run_id}`"
        )  # fmt: skip
        raise PromotionError(
            f"the run {run_id}, which holds the decisions on {name!r} (tag {LEDGER_TAG}), was "
            f"deleted; {cure}"
        )
    params = run.data.params
    entries: list[Entry] = []
    while (text := params.get(key(len(entries) + 1))) is not None:
        entries.append(Entry.from_text(text))
    settled = frozenset(
        entry.generation for entry in entries if key(entry.generation) + SETTLED in params
    )
    return Ledger(name, run_id, tuple(entries), settled)


def extend(
    store: Store,
    ledger: Ledger,
    build: Callable[[Ledger], Entry],
    *,
    champion: int | None = None,
    expecting: bool = False,
) -> tuple[Ledger, Entry]:
    """Write the next entry, and only one process can; the ledger with it, and the entry.

    Where others write first, it is tried again behind their entries, as long as the champion is the
    one that the decision is about.

    Args:
        store: of the registered model.
        ledger: as it was read.
        build: the entry that follows on a ledger.
        champion: the version that must be the champion; read only when `expecting`.
        expecting: whether the entry depends on the champion.

    Raises:
        OvertakenError: the champion is another one by now.
        TrackingError: the store failed.
    """
    for _ in range(_TURNS):
        if expecting and ledger.champion != champion:
            raise OvertakenError(_overtaken(ledger, champion))
        entry = build(ledger)
        ledger = _write(store, ledger, entry)
        if ledger.entries[entry.generation - 1].nonce == entry.nonce:
            return ledger, entry
    raise OvertakenError(
        f"others wrote to the ledger of {ledger.name!r} {_TURNS} times before this process could; "
        "give the command again"
    )


def mark_settled(store: Store, ledger: Ledger, generation: int) -> Ledger:
    """Note that the writer of an entry has moved the aliases, and will not do so again.

    Args:
        store: of the registered model.
        ledger: as it was read.
        generation: of the entry.

    Raises:
        TrackingError: the store failed.
    """
    name = key(generation) + SETTLED
    # Always the same value: it may be written twice.
    retried(
        store, "noting in the ledger", lambda: store.client.log_param(ledger.run_id, name, "yes")
    )
    return replace(ledger, settled=ledger.settled | {generation})


def key(generation: int) -> str:
    """Return the param's name of an entry; names sort like numbers up to a million."""
    return f"{generation:06d}"


def retried(store: Store, doing: str, call: Callable[[], T]) -> T:
    """`Store.ask` of something that may be done twice, again while a database is locked.

    Raises:
        TrackingError: the store refused, or kept failing.
    """
    for attempt in range(_ATTEMPTS):
        try:
            return store.ask(doing, call)
        except TrackingError as error:
            if attempt == _ATTEMPTS - 1 or not _passes(error):
                raise
        _pause(attempt)
    raise AssertionError("unreachable: the last attempt returns or raises")


def _write(store: Store, ledger: Ledger, entry: Entry) -> Ledger:
    """Try to write an entry; the ledger that then holds it, or another's of that generation.

    What a failed call has done is not known, so the ledger is asked and not the error.
    """
    text, name = entry.to_text(), key(entry.generation)
    for attempt in range(_ATTEMPTS):
        failed = None
        try:
            store.ask(
                f"writing to the ledger of {ledger.name!r}",
                lambda: store.client.log_param(ledger.run_id, name, text),
            )
        except TrackingError as error:
            failed = error
        now = read(store, ledger.name, ledger.run_id)
        if len(now.entries) >= entry.generation:
            return now
        if failed is not None and (attempt == _ATTEMPTS - 1 or not _passes(failed)):
            raise failed
        _pause(attempt)
    raise TrackingError(
        f"{store.shown_uri} took an entry of the ledger of {ledger.name!r} and does not show it; "
        "give the command again"
    )


def _passes(error: TrackingError) -> bool:
    """Whether the store may take the same request a moment later."""
    code = getattr(error.__cause__, "error_code", None)
    # BAD_REQUEST is what MLflow makes of two inserts of one row, such as an alias set at once.
    return code in ("TEMPORARILY_UNAVAILABLE", "BAD_REQUEST", "INTERNAL_ERROR", "ABORTED")


def _pause(attempt: int) -> None:
    # Unlike each other in every process, so that they do not meet again.
    time.sleep(random.uniform(0.5, 1.5) * min(0.02 * 2**attempt, 1.0))  # noqa: S311


def _new_run(store: Store, name: str) -> str:
    where = experiment_id(store, EXPERIMENT)
    tags = {**source_tags(), "histo.ledger.of": name[:250]}

    def make() -> str:
        made = store.client.create_run(where, run_name=name[:250], tags=tags)
        # Nothing runs here; params can be added all the same.
        store.client.set_terminated(made.info.run_id)
        return str(made.info.run_id)

    return store.ask("making a ledger", make)


def _overtaken(ledger: Ledger, champion: int | None) -> str:
    newest = ledger.newest
    shown = "none" if champion is None else f"version {champion}"
    now = "none" if ledger.champion is None else f"version {ledger.champion}"
    how = "" if newest is None else f" ({newest.decision} at {newest.at} by {newest.by})"
    return (
        f"Expected the champion of {ledger.name!r} to be {shown}, but meanwhile it is {now}{how}: "
        "give the command again, to be compared with that one"
    )
