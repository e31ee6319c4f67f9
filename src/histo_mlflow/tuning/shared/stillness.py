"""For how long something that should change has been seen not to."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable

LOOKS = 4
"""In how many looks at least something must be seen unchanged: of a machine that was halted as a
whole, or an observer that was, one long pause proves nothing."""


class Stillness:
    """How long each of several signs has been seen unchanged, by this process's own clock.

    Args:
        clock: seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: dict[Hashable, tuple[object, float, float]] = {}

    def is_still(self, key: Hashable, sign: object, bound_seconds: float) -> bool:
        """Look at the sign of `key`; whether it stood still for `bound_seconds`."""
        now = self._clock()
        if key not in self._seen or self._seen[key][0] != sign:
            self._seen[key] = (sign, 0.0, now)
            return False
        _, still, last = self._seen[key]
        still += min(now - last, bound_seconds / LOOKS)
        self._seen[key] = (sign, still, now)
        return still >= bound_seconds * (1 - 1e-9)

    def forget(self, keys: Collection[Hashable]) -> None:
        """Keep nothing but what was seen of these."""
        self._seen = {key: value for key, value in self._seen.items() if key in keys}
