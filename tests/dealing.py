"""Which slow tests xdist gives to one process, one after another (`--dist=loadgroup`).

Marks alone would do, but xdist 3.8 writes a group into `Item._nodeid`, which pytest 9.2 does not
read any more, and the process that deals sees names only.
"""

from xdist.scheduler import LoadScopeScheduling

BY_THE_CLOCK = (
    "tests/crash/test_kills.py",
    "tests/e2e/test_endings.py",
    "tests/e2e/test_hangups.py",
    "tests/e2e/test_mlproject.py",
    "tests/e2e/test_tune.py",
    "tests/tracking/test_outages.py",
    "tests/tracking/test_run.py",
)
"""Slow tests of these are marked `alone`: two of them never run at once."""
OF_ONE_SERVER = (
    "tests/e2e/test_crossval.py",
    "tests/e2e/test_serve_page.py",
    "tests/promotion/test_server.py",
    "tests/serving/test_servers.py",
)
"""The tests of a file share what takes longer to start than each of them takes."""


def group(nodeid):
    """The tests of a group stay together; most tests are a group of their own."""
    file = nodeid.partition("::")[0]
    if file in BY_THE_CLOCK:
        return "by the clock"
    return file if file in OF_ONE_SERVER else nodeid


def assert_dealt(items):
    """Slow tests that go by the clock are in files that are dealt to one process."""
    files = {
        item.nodeid.partition("::")[0]
        for item in items
        if item.get_closest_marker("slow") and item.get_closest_marker("alone")
    }
    missing = sorted(files - set(BY_THE_CLOCK))
    assert not missing, f"{', '.join(missing)}: slow tests marked alone; add it to BY_THE_CLOCK"


def turn(item):
    """By the clock first, and beside them the tests of `crash`, each of one busy process."""
    file = item.nodeid.partition("::")[0]
    if item.get_closest_marker("slow") and item.get_closest_marker("alone"):
        return 0
    if file.startswith("tests/crash/"):
        return 1
    return 2 if file in OF_ONE_SERVER else 3  # the short ones last, so that both end together


def scheduler(config, log):
    """xdist's own, in the order of collection, which splits the tests into these groups."""
    config.option.loadscopereorder = False
    dealt = LoadScopeScheduling(config, log)
    dealt._split_scope = group
    return dealt
