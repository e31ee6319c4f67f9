"""The table of all hostile requests."""

from collections.abc import Sequence

from hostility import connections, contents, formats
from hostility.case import Case

_LONG = ("100 MB", "8,000 x 8,000", "10,000 images", "one long text", "20,000 x 20,000")


def all_cases(canary: int) -> list[Case]:
    """Every case; addresses in them name the port `canary` of this machine."""
    return [
        *contents.bytes_as_images(),
        *contents.odd_images(),
        *contents.texts_as_images(canary),
        *contents.values_as_images(),
        *contents.tables(),
        *formats.documents(),
        *formats.other_types(),
        *connections.bodies(),
        *connections.lines(),
        *connections.clients(),
    ]


def warm_up(cases: Sequence[Case]) -> list[Case]:
    """Those that need the most memory, which an allocator keeps for the next of their kind."""
    return [case for case in cases if any(word in case.name for word in _LONG)]


def quick(cases: Sequence[Case]) -> list[Case]:
    """Those that are neither large nor slow."""
    large = warm_up(cases)
    return [case for case in cases if not case.waits and case not in large]
