"""What the ledger of a registered model says: one entry a decision, and the state that follows."""

from __future__ import annotations

import getpass
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self, get_args

from histo_mlflow.errors import PromotionError
from histo_mlflow.tracking.entries import PARAM_CHARACTERS

Decision = Literal["promoted", "refused", "rolled back", "adopted"]
FORMAT = 1
_NAME_CHARACTERS = 200


@dataclass(frozen=True)
class Entry:
    """A decision, with what the aliases are from then on.

    Attributes:
        generation: its number, from 1; nobody else's entry can have it.
        decision: "adopted" is an alias that was moved by hand and is taken over.
        champion: the version that `@champion` names; None where there is none.
        challenger: the version that `@challenger` names; None where there is none.
        was: the champion before.
        version: of the model that was decided on; None where it was not registered.
        model_id: of it.
        run_id: of it.
        why: the reasons of a refusal, or what was found, in one sentence.
        forced: names of the checks that failed and were overridden.
        at: when, ISO 8601 in UTC.
        by: the name of the user.
        nonce: tells this very attempt from another one that says the same.
    """

    generation: int
    decision: Decision
    champion: int | None
    challenger: int | None = None
    was: int | None = None
    version: int | None = None
    model_id: str | None = None
    run_id: str | None = None
    why: str = ""
    forced: tuple[str, ...] = ()
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    by: str = field(default_factory=lambda: _user())
    nonce: str = field(default_factory=lambda: uuid.uuid4().hex)

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"format": FORMAT, **asdict(self), "forced": list(self.forced)}

    def to_text(self) -> str:
        """Return the text of the param: JSON in one line, of less than 6,000 characters."""
        short = replace(self, by=self.by[:_NAME_CHARACTERS])
        while len(text := _compact(short)) >= PARAM_CHARACTERS and short.why:
            short = replace(short, why=short.why[: len(short.why) * 3 // 4].rstrip(" .") + " ...")
        return text

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read what `to_text` wrote.

        Raises:
            PromotionError: it is something else, or of a later version of this package.
        """
        try:
            values: Mapping[str, Any] = json.loads(text)
            found = {**values, "forced": tuple(values["forced"])}
            if found.pop("format") != FORMAT or found["decision"] not in get_args(Decision):
                raise ValueError("unknown format or decision")
            return cls(**found)
        except (ValueError, TypeError, KeyError) as error:
            raise PromotionError(
                f"Expected an entry of the ledger of promotions, got {text[:80]!r}: it was written "
                "by hand or by a later histo-mlflow; update, or name another registered model"
            ) from error


@dataclass(frozen=True)
class Ledger:
    """The entries of a registered model, in order.

    Attributes:
        name: of the registered model.
        run_id: of the run whose params they are.
        entries: from the first to the newest.
        settled: generations whose writers have moved the aliases and will not do so again.
    """

    name: str
    run_id: str
    entries: tuple[Entry, ...] = ()
    settled: frozenset[int] = frozenset()

    @property
    def newest(self) -> Entry | None:
        """The entry that says what the aliases are; None before the first."""
        return self.entries[-1] if self.entries else None

    @property
    def champion(self) -> int | None:
        """The champion's version; None where there is none."""
        return self.entries[-1].champion if self.entries else None

    @property
    def challenger(self) -> int | None:
        """The challenger's version; None where there is none."""
        return self.entries[-1].challenger if self.entries else None

    @property
    def next_generation(self) -> int:
        """The number that the next entry would have."""
        return len(self.entries) + 1

    def earlier(self) -> tuple[int, ...]:
        """Champions that can be gone back to, the latest first, without the one of now.

        A promotion adds one; a rollback takes away those that came after.
        """
        line: list[int] = []
        for entry in self.entries:
            if entry.champion is None:
                continue
            if entry.decision == "rolled back" and entry.champion in line:
                while line[-1] != entry.champion:
                    line.pop()
            elif not line or line[-1] != entry.champion:
                line.append(entry.champion)
        if line and line[-1] == self.champion:
            line.pop()
        return tuple(reversed(line))

    def rolled_back(self, version: int) -> Entry | None:
        """The rollback that a version was left by, unless it was made champion again since."""
        found = None
        for entry in self.entries:
            if entry.decision == "rolled back" and entry.was == version:
                found = entry
            elif entry.champion == version:
                found = None
        return found


def _compact(entry: Entry) -> str:
    return json.dumps(entry.to_dict(), separators=(",", ":"), ensure_ascii=False)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"
