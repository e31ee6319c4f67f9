"""What the doctor says of the machine: versions, device, store, disk, git."""

from __future__ import annotations

import os
import platform
import re
import shutil
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from histo_mlflow.data.findings import Finding, failed, passed, warned
from histo_mlflow.device import plan_device
from histo_mlflow.errors import DeviceError, TrackingError
from histo_mlflow.paths import cache_dir
from histo_mlflow.tracking.store import DEFAULT_URI, connect

SHOWN = ("torch", "mlflow", "optuna")
WARN_FREE_BYTES = 2_000_000_000
FAIL_FREE_BYTES = 200_000_000


def python() -> Finding:
    """The interpreter against the floor of the package's metadata."""
    floor = metadata("histo-mlflow")["Requires-Python"] or ">=3"
    have = platform.python_version()
    if _numbers(have) < _numbers(floor):
        return failed("python", f"Python {have} is running, {floor} is needed")
    return passed("python", f"{have} ({floor})")


def packages() -> Finding:
    """Every dependency is there, at its floor or above; some floors close vulnerabilities."""
    wrong = []
    for name, floor in _floors().items():
        try:
            have = version(name)
        except PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        if _numbers(have) < _numbers(floor):
            wrong.append(f"{name} {have} (at least {floor})")
    if wrong:
        return failed(
            "packages", "packages are missing or too old; install the project again", wrong
        )
    return passed("packages", ", ".join(f"{name} {version(name)}" for name in SHOWN))


def _floors() -> dict[str, str]:
    """Dependency -> lowest version, of those that are always needed."""
    floors = {}
    for line in requires("histo-mlflow") or []:
        found = re.match(r"([A-Za-z0-9._-]+)>=([\d.]+)", line)
        if found and "extra ==" not in line:
            floors[found[1]] = found[2]
    return floors


def _numbers(text: str) -> tuple[int, ...]:
    """The release of a version or of a floor: "2.15.0+cpu" is (2, 15); trailing zeros fall off."""
    found = re.search(r"\d+(?:\.\d+)*", text)
    release = [int(part) for part in found[0].split(".")] if found else []
    while release and not release[-1]:
        release.pop()
    return tuple(release)


def device(asked: str, precision: str, memory_format: str, threads: int) -> Finding:
    """The plan, each decision with its reason."""
    try:
        plan = plan_device(asked, precision, memory_format, threads)
    except DeviceError as error:
        return failed("device", str(error))
    return passed("device", plan.told())


def store(tracking_uri: str | None) -> Finding:
    """The tracking store answers; a SQLite file that is not there yet is not made."""
    uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    try:
        fresh = _file_to_be(uri)
        if fresh is None:
            return passed("store", f"{connect(tracking_uri).shown_uri} answers")
    except TrackingError as error:
        return failed("store", str(error))
    if not os.access(fresh.parent, os.W_OK):
        return failed("store", f"{fresh} is not there and cannot be made in its folder")
    return passed("store", f"{fresh.name} is not there yet and is made by the first run")


def _file_to_be(uri: str) -> Path | None:
    """The file of a SQLite store, if its folder is there and it is not."""
    if not uri.startswith("sqlite"):
        return None
    from sqlalchemy.engine import make_url

    database = make_url(uri).database
    if not database or database == ":memory:":
        return None
    path = Path(database).expanduser().absolute()
    return path if path.parent.is_dir() and not path.exists() else None


def disk(name: str, folder: Path) -> Finding:
    """Free space where files will be written, at the nearest folder that is there."""
    check, place = f"disk-{name}", folder.expanduser().absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    told = f"{free / 1e9:,.1f} GB free in {place}"
    if not place.is_dir() or not os.access(place, os.W_OK):
        return failed(check, f"{place} cannot be written to")
    if free < FAIL_FREE_BYTES:
        return failed(check, f"{told}: at least {FAIL_FREE_BYTES / 1e9:g} GB are needed")
    if free < WARN_FREE_BYTES:
        return warned(check, f"{told}: below {WARN_FREE_BYTES / 1e9:g} GB")
    return passed(check, told)


def disks(runs_dir: Path) -> list[Finding]:
    """The two places that runs write to."""
    return [disk("cache", cache_dir()), disk("runs", runs_dir)]


def git() -> Finding:
    """Without git a run cannot say of which code it is."""
    if shutil.which("git") is None:
        return warned("git", "git is not installed: runs will not say of which commit they are")
    return passed("git", "is there")
