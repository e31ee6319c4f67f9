"""How far a study is: a table that is redrawn at a terminal, a line for each ended trial elsewhere.

`snapshot.look` says what is to be shown, `lines` how; `Progress` is what touches the terminal.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from types import TracebackType
from typing import Self, TextIO, cast

from optuna.trial import FrozenTrial

from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tuning.report import trials_table
from histo_mlflow.tuning.report._live_text import Live
from histo_mlflow.tuning.report._progress_lines import ended_line, lines
from histo_mlflow.tuning.report.snapshot import Snapshot

REDRAW_SECONDS = 0.5


class Progress:
    """Shows a study while it goes on.

    At a terminal it is a table in place, redrawn at most twice a second, above which messages go
    on, and among them a line for each trial that ended for a cause, such as a failure; elsewhere a
    line for each trial that has ended; nothing at all when quiet. While it is open `sys.stderr` is
    a stream that takes the table off the screen for every message.

    Args:
        talk: to the user.
        known: numbers of trials that had ended before, which are not told.
        clock: in seconds.
    """

    def __init__(
        self,
        talk: Talk,
        *,
        known: Collection[int] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._talk, self._clock = talk, clock
        self._known = set(known)
        self._live: Live | None = None
        self._before: TextIO | None = None
        self._drawn_at = -math.inf

    def __enter__(self) -> Self:
        if self._talk.bars and os.environ.get("TERM") != "dumb":
            self._before = sys.stderr
            self._live = Live(sys.stderr)
            sys.stderr = cast(TextIO, self._live)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.clear()
            if sys.stderr is cast(TextIO, self._live) and self._before is not None:
                sys.stderr = self._before
            self._live = None

    def due(self) -> bool:
        """Whether a `show` at a terminal would be drawn now."""
        return self._live is not None and self._clock() - self._drawn_at >= REDRAW_SECONDS

    def show(self, shown: Snapshot) -> None:
        """Draw the table, if this is a terminal and the last time is half a second ago."""
        if self._live is not None and self.due():
            self._drawn_at = self._clock()
            self._live.draw(lambda width, rows, plain: lines(shown, width, rows, plain=plain))

    def tell(
        self, trials: Sequence[FrozenTrial], *, metric: str, axes: Sequence[str] | None = None
    ) -> None:
        """Say a line for each trial that ended since the last call; above a table, for a cause."""
        for one in trials_table.in_order_of_ending(trials):
            if one.number in self._known:
                continue
            self._known.add(one.number)
            if self._live is None or trials_table.cause_of(one) is not None:
                self._talk.say("trial", ended_line(one, metric, axes))
