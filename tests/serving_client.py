"""A server in this process: a stand-in model that can be held up, and an ASGI client."""

import asyncio
import io
import json
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from histo_mlflow.inference.serving.app import App
from histo_mlflow.vision.decode import DecodeRule

HOST = (b"host", b"localhost:5002")


def png(seed: int = 0, width: int = 40, height: int = 32, kind: str = "PNG") -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@dataclass
class StandIn:
    """A model that says how bright an image is, and waits where it is told to."""

    classes: tuple[str, ...] = ("dark", "bright")
    rule: DecodeRule = field(default_factory=lambda: DecodeRule(8))
    abstain_below: float = 0.0
    digest: str = "d" * 64
    go: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    batches: int = 0
    raises: BaseException | None = None

    def __post_init__(self) -> None:
        self.go.set()

    def predict_pixels(self, images_NHWC):
        self.entered.set()
        assert self.go.wait(20)
        self.batches += 1
        if self.raises is not None:
            raise self.raises
        bright = images_NHWC.reshape(len(images_NHWC), -1).mean(axis=1) / 255
        return np.stack([1 - bright, bright], axis=1)


class NoExplainer:
    why_not = "no Grad-CAM for a stand-in"


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes
    late: bool
    """Whether the connection was to be closed after the rest of the body had been read."""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Sends one request after another to an ASGI application."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] = b"",
        headers: Sequence[tuple[bytes, bytes]] = (),
        *,
        kind: bytes | None = None,
        query: bytes = b"",
        pause: float = 0.0,
        leave: asyncio.Event | None = None,
        host: bool = True,
    ) -> Response | None:
        """One request; None when nothing was answered."""
        chunks = [body] if isinstance(body, bytes) else list(body)
        raw = [*([HOST] if host else []), *headers]
        if kind is not None:
            raw.append((b"content-type", kind))
        if chunks != [b""] and not any(key == b"content-length" for key, _ in raw):
            raw.append((b"content-length", str(sum(map(len, chunks))).encode()))
        sent: list[dict[str, Any]] = []
        over = asyncio.Event()
        left = leave or asyncio.Event()

        async def receive() -> dict[str, Any]:
            if chunks:
                await asyncio.sleep(pause)
                return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}
            waits = [asyncio.ensure_future(event.wait()) for event in (over, left)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query,
            "headers": raw,
        }
        await self.app(scope, receive, send)
        over.set()
        if not sent:
            return None
        answer = b"".join(message.get("body", b"") for message in sent[1:])
        assert not sent[-1]["more_body"]
        named = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
        return Response(sent[0]["status"], named, answer, len(sent) > 2)

    def __call__(self, *arguments: Any, **named: Any) -> Response:
        response = asyncio.run(self.send(*arguments, **named))
        assert response is not None
        return response


Make = Callable[..., Client]
