"""Ends a process after the k-th file operation, also as a power cut would.

The operations are those that the project makes through the module `os`, below the run's folder and
in the main thread. They count inside a window of the training:

    save E S     the checkpoint at epoch E (done), step S
    epoch E      what happens at the end of epoch E: journal, best weights, checkpoint
    begin        from the start of the process to the first step
    outcome      from the last epoch to `outcome.json`
    all          the whole process

A power cut takes with it what was written and not fsynced since, and names that were given, taken
or changed in a folder that was not fsynced since: the worst that POSIX allows, short of the order.
"""

# The functions of `os` are what is replaced here.
# ruff: noqa: PTH100, PTH110, PTH112, PTH113, PTH115, PTH116, PTH118, PTH120, PTH202, PTH208

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.job import Place
from harness.phases import wrap
from harness.zygote import Cut

MODES = ("kill", "half", "power")
_OPS = (
    "open write fsync close replace rename mkdir unlink remove rmdir ftruncate".split()  # noqa: SIM905
)
real = {name: getattr(os, name) for name in _OPS}


def install(place: Place, cut: Cut) -> None:
    """Count the operations of this process, write them down, and end it where `cut` says."""
    ops = _Ops(place, cut)
    for name in _OPS:
        setattr(os, name, ops.counted(name))
    _open_window(cut.window, ops)


def written_down(place: Place) -> list[str]:
    """The operations of the window that the last process went through."""
    return list(json.loads((place.root / "ops.json").read_text()))


def _open_window(window: str, ops: _Ops) -> None:
    name, *place = window.split()
    if name == "all":
        ops.enter()
        ops.on_exit()
        return

    def around(here: Callable[..., bool]) -> Callable[[Any], Any]:
        def change(original: Any) -> Any:
            def called(*args: Any, **kwargs: Any) -> Any:
                if not here(*args):
                    return original(*args, **kwargs)
                with ops.window():
                    return original(*args, **kwargs)

            return called

        return change

    if name == "save":
        at = tuple(map(int, place))
        wrap(
            "histo_mlflow.training.checkpoint",
            "Checkpoints.save",
            around(lambda _, state: (state.epoch, state.progress.steps) == at),
        )
    elif name == "epoch":
        wrap(
            "histo_mlflow.jobs.epochs",
            "Epochs._after_epoch",
            around(lambda _, record: record.epoch == int(place[0])),
        )
    elif name == "outcome":
        wrap("histo_mlflow.jobs.train", "conclude", around(lambda *_: True))
    elif name == "begin":
        ops.enter()

        def leaving(original: Any) -> Any:
            def called(*args: Any, **kwargs: Any) -> Any:
                ops.leave()
                return original(*args, **kwargs)

            return called

        wrap("histo_mlflow.jobs.epochs", "Epochs.train", leaving)
    else:
        raise ValueError(f"no window is called {window}")


class _Ops:
    """The operations of one process, and what a power cut would undo of them."""

    def __init__(self, place: Place, cut: Cut) -> None:
        self._place, self._cut = place, cut
        self._open = False
        self._names: list[str] = []
        self._thread = threading.main_thread()
        self._durable: dict[str, int] = {}  # bytes of a file that survive a power cut
        self._pending: list[tuple[int, str, list[str]]] = []  # folder, what, paths
        self._backups = place.root / "backups"
        self._root = str(place.run)
        self._before = {path: _stamp(path) for path in place.run.rglob("*") if path.is_file()}

    @contextmanager
    def window(self) -> Iterator[None]:
        """Count what is done in here."""
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def enter(self) -> None:
        """Begin to count."""
        self._open = True
        if self._cut.k == 0:
            self._die()

    def leave(self) -> None:
        """Stop counting; what was counted is written down."""
        if self._open:
            self._open = False
            (self._place.root / "ops.json").write_text(json.dumps(self._names))

    def on_exit(self) -> None:
        """Write down what was counted when the process leaves."""
        leave = os._exit

        def left(status: int) -> None:
            self.leave()
            leave(status)

        os._exit = left  # type: ignore[assignment]

    def counted(self, name: str) -> Callable[..., Any]:
        """The operation, counted."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if threading.current_thread() is not self._thread:
                return real[name](*args, **kwargs)
            path = self._path(name, args, kwargs)
            if path is None:
                return real[name](*args, **kwargs)
            last = self._open and self._is_last(name)
            if last and name == "write" and self._cut.mode == "half":
                real["write"](args[0], bytes(args[1])[: len(args[1]) // 2])
                self._die()
            effect = self._follow(name, path, args, kwargs)
            if self._open:
                self._names.append(name)
                if last:
                    self._die()
            return effect

        return call

    def _is_last(self, name: str) -> bool:
        if self._cut.op is None:
            return len(self._names) + 1 == self._cut.k
        return name == self._cut.op and self._names.count(name) + 1 == self._cut.k

    def _path(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
        """The path that an operation is about, if it lies in the run's folder."""
        if name in ("write", "fsync", "close", "ftruncate"):
            with suppress(OSError):
                path = os.readlink(f"/proc/self/fd/{args[0]}")
                return path if self._mine(path) else None
            return None
        path = os.fspath(args[0])
        if isinstance(path, bytes):
            return None
        if kwargs.get("dir_fd") is not None:
            path = os.path.join(os.readlink(f"/proc/self/fd/{kwargs['dir_fd']}"), path)
        path = os.path.abspath(path)
        return path if self._mine(path) else None

    def _mine(self, path: str) -> bool:
        return path == self._root or path.startswith(self._root + os.sep)

    def _follow(self, name: str, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Do it, and note what a power cut would undo of it."""
        if name == "open":
            return self._follow_open(path, args, kwargs)
        if name in ("rename", "replace"):
            target = os.path.abspath(os.fspath(args[1]))
            backup = self._backup(target)
            effect = real[name](*args, **kwargs)
            self._moved(path, target)
            self._pend("rename", target, path, target, backup)
            return effect
        if name in ("unlink", "remove"):
            backup = self._backup(path)
            effect = real[name](*args, **kwargs)
            self._pend("unlink", path, path, backup)
            return effect
        effect = real[name](*args, **kwargs)
        if name == "fsync":
            stat = os.fstat(args[0])
            if os.path.isdir(path):
                self._pending = [entry for entry in self._pending if entry[0] != stat.st_ino]
            else:
                self._durable[path] = stat.st_size
        elif name == "ftruncate":
            self._durable[path] = min(self._durable.get(path, 0), args[1])
        elif name in ("mkdir", "rmdir"):
            self._pend(name, path, path)
        return effect

    def _follow_open(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        flags = args[1] if len(args) > 1 else kwargs.get("flags", 0)
        there = os.path.exists(path)
        effect = real["open"](*args, **kwargs)
        if not there and flags & os.O_CREAT:
            self._durable[path] = 0
            self._pend("create", path, path)
        elif flags & os.O_TRUNC:
            self._durable[path] = 0
        elif flags & (os.O_WRONLY | os.O_RDWR):
            self._durable.setdefault(path, os.path.getsize(path))
        return effect

    def _pend(self, what: str, path: str, *paths: str) -> None:
        self._pending.append((os.stat(os.path.dirname(path)).st_ino, what, list(paths)))

    def _backup(self, path: str) -> str:
        """A second name for a file that is about to lose its own; "" where there is none."""
        if not os.path.isfile(path):
            return ""
        self._backups.mkdir(exist_ok=True)
        backup = str(self._backups / f"{os.getpid()}-{len(os.listdir(self._backups))}")
        os.link(path, backup)
        return backup

    def _moved(self, source: str, target: str) -> None:
        def renamed(path: str) -> str:
            if path == source or path.startswith(source + os.sep):
                return target + path[len(source) :]
            return path

        self._durable = {renamed(path): size for path, size in self._durable.items()}
        for _, _, paths in self._pending:
            paths[:] = [renamed(path) for path in paths]

    def _die(self) -> None:
        if self._cut.mode == "power":
            self._cut_power()
        os.kill(os.getpid(), signal.SIGKILL)

    def _cut_power(self) -> None:
        for path in self._place.run.rglob("*"):
            if not path.is_file() or self._before.get(path) == _stamp(path):
                continue
            durable = self._durable.get(str(path), 0)
            if path.stat().st_size > durable:
                os.truncate(path, durable)
        while self._pending:
            _, what, paths = self._pending.pop()
            self._undo(what, paths)
        shutil.rmtree(self._backups, ignore_errors=True)

    def _undo(self, what: str, paths: list[str]) -> None:
        if not os.path.isdir(os.path.dirname(paths[0])):
            return  # the folder is gone for good
        if what == "rename":
            source, target, backup = paths
            if os.path.exists(target):
                real["rename"](target, source)
                self._moved(target, source)  # what was done to it before was done under that name
            if backup:
                os.link(backup, target)
        elif what == "unlink":
            if paths[1]:
                os.link(paths[1], paths[0])
        elif what == "rmdir":
            real["mkdir"](paths[0])
        elif what == "mkdir":
            shutil.rmtree(paths[0], ignore_errors=True)
        elif os.path.exists(paths[0]):
            real["unlink"](paths[0])


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = path.stat()
    return stat.st_ino, stat.st_size, stat.st_mtime_ns
