"""Serve a model over HTTP with limits, until a signal ends it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from histo_mlflow.errors import ServeError
from histo_mlflow.inference.serving import access
from histo_mlflow.inference.serving.limits import MIB, Limits
from histo_mlflow.inference.serving.listen import listen
from histo_mlflow.jobs.talk import Talk

if TYPE_CHECKING:
    from histo_mlflow.inference.serving.app import App

TOKEN_VARIABLE = "HISTO_MLFLOW_TOKEN"  # noqa: S105 -- its name, not its value
_LONGEST_TOKEN = 4096


@dataclass(frozen=True)
class Address:
    """Where and for whom to serve.

    Attributes:
        host: address or name to listen on.
        port: 0 for any free one.
        allowed_hosts: further names by which the server may be called.
        token_file: holds the token; None for that of the environment, if any.
    """

    host: str = "127.0.0.1"
    port: int = 5002
    allowed_hosts: Sequence[str] = ()
    token_file: Path | None = None


def serve_model(
    reference: str,
    address: Address,
    limits: Limits,
    *,
    device: str = "auto",
    threads: int = 0,
    engine: Literal["torch", "onnx"] = "torch",
    tracking_uri: str | None = None,
    runs_dir: str = "runs",
    talk: Talk,
    started: Callable[[dict[str, Any]], None],
) -> None:
    """Serve until SIGINT, SIGTERM or SIGHUP, then finish what has begun.

    Args:
        reference: see `find_model`. Nothing of it is run but our own code over its model folder.
        address: where and for whom.
        limits: what a request may cost.
        device: "auto", "cpu", "cuda:0", "mps".
        threads: of the processor; 0 for torch's choice.
        engine: "torch", or "onnx" for ONNX Runtime on the CPU (the extra `onnx`).
        tracking_uri: of the store.
        runs_dir: where runs are looked for first.
        talk: told what is served, where, and with which limits.
        started: told {"url", "port", "model", "digest"} when requests are taken.

    Raises:
        ServeError: the port is taken, or a token is needed or unfit.
        ModelFolderError: the model is not as it was written.
        DataError, TrackingError: see `find_model`.
        DeviceError: there is no such device.
        EngineError: ONNX Runtime is not installed, or does not agree with the model.
    """
    token = access.checked_token(read_token(address.token_file), address.host)
    with listen(address.host, address.port) as taken:
        # What can be wrong at once is told at once; this takes seconds.
        from histo_mlflow.device import plan_device
        from histo_mlflow.inference.serving.app import Access
        from histo_mlflow.inference.serving.connection import serve
        from histo_mlflow.jobs._serve_app import make_app
        from histo_mlflow.jobs.find_model import find_model

        plan = plan_device(device, precision="fp32", threads=threads)
        plan.use_threads()
        # MLflow would write warnings that hold words of the requests.
        logging.getLogger("mlflow").setLevel(logging.ERROR)
        who = Access(access.allowed_hosts(address.host, address.allowed_hosts), token)
        with find_model(reference, tracking_uri=tracking_uri, runs_dir=runs_dir) as found:
            app = make_app(found, limits, who, device=plan.device, engine=engine, threads=threads)
        port = taken.getsockname()[1]
        name = address.host if address.host not in ("0.0.0.0", "::", "") else "localhost"  # noqa: S104
        url = f"http://{f'[{name}]' if ':' in name else name}:{port}/"

        def told() -> None:
            for line in _lines(app, url, limits, token):
                talk.say("serve", line)
            started({"url": url, "port": port, "model": found.version, "digest": found.digest})

        serve(app, taken, started=told, ending=lambda cause: talk.say("serve", _ending(app, cause)))
    talk.say("serve", f"ended; {app.served:,} requests were answered")


def read_token(path: Path | None) -> str | None:
    """The token in a file, else that of the environment, else None.

    Raises:
        ServeError: the file cannot be read or holds nothing.
    """
    if path is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_TOKEN).decode("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ServeError(f"Expected a file with a token at {path}, which is none.") from error
    if not text:
        raise ServeError(f"Expected a token in {path}, which is empty.")
    return text


def _lines(app: App, url: str, limits: Limits, token: str | None) -> list[str]:
    about = app.about
    what = f"{about['architecture']}, {about['image_px']} px, {len(about['classes'])} classes"
    return [
        f"{about['version']} ({what}) at {url}",
        f"limits: {limits.body_bytes / MIB:g} MiB a body, {limits.images:,} images a request, "
        f"{limits.pixels:,} pixels an image, {limits.seconds:g} s, {limits.queue} waiting",
        "a token is needed" if token else "no token is needed, since only this machine gets here",
    ]


def _ending(app: App, cause: str) -> str:
    if not app.open:
        return f"{cause}: ending"
    return f"{cause}: ending when {app.open} requests are answered (a second SIGINT: at once)"
