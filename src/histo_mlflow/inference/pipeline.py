"""From the bytes of many images to answers, in order, on all cores.

Each thread takes a chunk of images and does all of it: read, decode, compute, with one torch
thread. Decoding and computing then overlap without waiting for each other, and no thread waits at
a barrier inside a layer, which on a machine with other work is what costs most. Chunks are cut by
position, never by what is ready, so that the answers do not depend on the number of threads.
"""

import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from histo_mlflow.errors import EngineError, HistoMlflowError
from histo_mlflow.inference.engine import Engine, engine_probabilities
from histo_mlflow.models.build import Output
from histo_mlflow.vision.decode import DecodeRule, Pixels, decode

Key = TypeVar("Key")
Members = Sequence[tuple[Engine, DecodeRule]]
NOT_FINITE = "the model gives no finite answer for it"
# What reading one image can end with: the file, a member of a zip, or what the caller says.
_UNREADABLE = (HistoMlflowError, OSError, EOFError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Answered(Generic[Key]):
    """What became of one image.

    Attributes:
        key: of the caller.
        probabilities: float64 (K,), None for a bad image.
        reason: why there is no answer, without a path; None where there is one.
    """

    key: Key
    probabilities: npt.NDArray[np.float64] | None
    reason: str | None


def decode_and_predict(
    members: Members,
    items: Iterable[tuple[Key, Callable[[], bytes]]],
    *,
    batch: int = 64,
    threads: int,
) -> Iterator[Answered[Key]]:
    """Answer images in their order, a few chunks ahead of who asks.

    Args:
        members: engines and the rule by which each sees an image; one, or several models of the
            same classes, whose calibrated logits are averaged. An image is decoded once for each
            different rule.
        items: the caller's key and a function that gives the bytes, called in another thread; it
            may raise OSError, EOFError, what a zip raises, or one of our errors, which make a bad
            image. It is asked for no more than some chunks ahead.
        batch: images of a chunk. Answers are the same bit by bit for equal chunks, whatever the
            number of threads; those of chunks cut otherwise differ by rounding.
        threads: chunks worked on at the same time. torch computes each with one thread; its own
            number of threads is put back in the end.

    Returns:
        An iterator over one `Answered` an item.

    Raises:
        EngineError: no members, other classes or another size in one of them, `batch` or
            `threads` below 1. Raised here, not at the first answer.
    """
    output = _common_output(members)
    if batch < 1 or threads < 1:
        raise EngineError(f"Expected batch and threads of 1 or more, got {batch} and {threads}.")
    return _answers(tuple(members), output, iter(items), batch, threads)


def _answers(
    members: Members,
    output: Output,
    items: Iterator[tuple[Key, Callable[[], bytes]]],
    batch: int,
    threads: int,
) -> Iterator[Answered[Key]]:
    torch_threads = torch.get_num_threads()
    # A new thread starts with the process's number, and sets it for itself and all later ones.
    pool = ThreadPoolExecutor(threads, "predict", lambda: torch.set_num_threads(1))
    waiting: deque[Future[list[Answered[Key]]]] = deque()
    try:
        while chunk := list(islice(items, batch)):
            waiting.append(pool.submit(_answer_chunk, members, output, chunk))
            if len(waiting) > threads + 1:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(torch_threads)


def _answer_chunk(
    members: Members, output: Output, chunk: Sequence[tuple[Key, Callable[[], bytes]]]
) -> list[Answered[Key]]:
    rules = list(dict.fromkeys(rule for _, rule in members))
    seen: dict[DecodeRule, list[Pixels]] = {rule: [] for rule in rules}
    reasons: list[str | None] = []
    for _, read in chunk:
        try:
            data = read()
            pixels = [decode(data, rule) for rule in rules]
        except _UNREADABLE as error:
            reasons.append(_reason(error))
            continue
        reasons.append(None)
        for rule, one in zip(rules, pixels, strict=True):
            seen[rule].append(one)
    answers = iter(_probabilities(members, output, seen))
    return [
        Answered(key, None, reason) if reason is not None else _answered(key, next(answers))
        for (key, _), reason in zip(chunk, reasons, strict=True)
    ]


def _answered(key: Key, row: npt.NDArray[np.float64]) -> Answered[Key]:
    finite = bool(np.isfinite(row).all())
    return Answered(key, row, None) if finite else Answered(key, None, NOT_FINITE)


def _probabilities(
    members: Members, output: Output, seen: dict[DecodeRule, list[Pixels]]
) -> npt.NDArray[np.float64]:
    """Probabilities (n, K) of the images that could be decoded, from the mean of the logits."""
    if not next(iter(seen.values())):
        return np.empty((0, len(members[0][0].classes)))
    stacked = {rule: np.stack(pixels) for rule, pixels in seen.items()}
    logits = [_as(output, engine, engine.logits(stacked[rule])) for engine, rule in members]
    return engine_probabilities(np.mean(logits, axis=0), output)


def _as(output: Output, engine: Engine, logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Logits in the form of `output`: the logit z of a sigmoid is (0, z) for a softmax."""
    if engine.output == output:
        return logits
    return np.concatenate([np.zeros_like(logits), logits], axis=1)


def _common_output(members: Members) -> Output:
    """ "sigmoid" if all members are of that kind, after checking that they fit together."""
    if not members:
        raise EngineError("Expected one model or more, got none.")
    classes = members[0][0].classes
    for engine, rule in members:
        if engine.classes != classes:
            raise EngineError(
                "Expected models of the same classes in the same order, got "
                f"{', '.join(classes)} and {', '.join(engine.classes)}."
            )
        if engine.image_px != rule.image_px:
            raise EngineError(
                f"Expected a decode rule for images of {engine.image_px} px, got one of "
                f"{rule.image_px} px."
            )
    return "sigmoid" if all(one.output == "sigmoid" for one, _ in members) else "softmax"


def _reason(error: BaseException) -> str:
    """Why an image cannot be used, without the path that an OSError would name."""
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return str(error) or type(error).__name__
