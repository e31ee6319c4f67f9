"""Classes and probabilities of many images, in a file; a kill costs a chunk and changes no byte."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import cast

import numpy as np

from histo_mlflow import files
from histo_mlflow.data.findings import warned
from histo_mlflow.errors import DiskError, Interrupted
from histo_mlflow.inference import table
from histo_mlflow.inference.chunks import Chunk, Work, only_one, open_work, work_folder
from histo_mlflow.inference.inputs import Reader, list_inputs
from histo_mlflow.inference.pipeline import Answered, decode_and_predict
from histo_mlflow.inference.shards import shard_path
from histo_mlflow.jobs._predict_finish import REPLACES, Predicted, finished, whole_already
from histo_mlflow.jobs._predict_plan import Plan, Wanted, planned, software
from histo_mlflow.jobs._predict_progress import Progress
from histo_mlflow.jobs.signals import ending_by_signal
from histo_mlflow.jobs.talk import Talk

__all__ = ["Predicted", "Wanted", "predict"]


def predict(
    inputs: Sequence[str],
    out: Path,
    wanted: Wanted,
    *,
    models: Sequence[str] = (),
    tracking_uri: str | None = None,
    runs_dir: str = "runs",
    talk: Talk,
) -> Predicted:
    """Predict images into a Parquet or CSV file that is there whole or not at all.

    The same call goes on after whatever has ended it, with the bytes of an undisturbed one.

    Args:
        inputs: see `inputs.list_inputs`.
        out: the file; a shard adds its number to the name.
        wanted: how.
        models: see `find_model`; several answer by their mean logits. None: `chosen_models`.
        tracking_uri: of the store that models are looked for in.
        runs_dir: where runs are looked for first.
        talk: to the user.

    Raises:
        DataError: the input, a model or an option is not as expected, or images are bad.
        ResumeError: what was begun there was begun otherwise, or another process is at it.
        DiskError: the disk is full or refuses; what is done is kept.
        Interrupted: by a signal; what is done is kept.
    """
    out = shard_path(table.checked_suffix(out), wanted.shard)
    folder = work_folder(out)
    with ending_by_signal():
        listing = list_inputs(inputs)
        for note in (*listing.notes, *listing.told_left_out()):
            talk.say("input", note)
        with only_one(folder, out):
            plan = planned(listing, out, wanted, models, tracking_uri, runs_dir, talk)
            done = whole_already(plan, talk)
            if done is None:
                noted = {**software(), REPLACES: wanted.restart}
                work = open_work(folder, plan.numbers(), noted, restart=wanted.restart)
                _tell_of_software(work, talk)
                reused, seconds = _answer(plan, work, talk)
                done = finished(plan, work, reused, seconds, talk)
            files.remove_folder(folder)
    return done


def _answer(plan: Plan, work: Work, talk: Talk) -> tuple[int, float]:
    """Do the chunks that are not done yet.

    Returns:
        Images that were done before, and the seconds that the others took.
    """
    k = len(plan.members.classes)
    indices = range(len(plan.chunks))
    left = [index for index in indices if work.read(index, plan.items(index), k) is None]
    total = len(plan.span)
    done = reused = total - sum(len(plan.chunks[index]) for index in left)
    if reused:
        talk.say("predict", f"{reused:,} of {total:,} images are done already")
    begun = perf_counter()
    try:
        with Progress(total, done, talk) as progress:
            for index in left:
                work.write(index, plan.items(index), _predicted(plan, index, progress))
                done += len(plan.chunks[index])
            seconds = perf_counter() - begun
            if left:
                talk.say(
                    "predict", f"{total - reused:,} images in {seconds:,.1f} s, {progress.rate()}"
                )
    except (Interrupted, DiskError) as error:
        error.add_note(
            f"{done:,} of {total:,} images are kept in {work.path}: give the same command again"
            f"{', without --restart,' if plan.wanted.restart else ''} to go on"
        )
        raise
    return reused, seconds


def _predicted(plan: Plan, index: int, progress: Progress) -> Chunk:
    """The answers of one chunk.

    Batches begin anew with each chunk, so that what was done before has no influence on them.
    """
    items = plan.items(index)
    probabilities = np.zeros((len(items), len(plan.members.classes)))
    bad = []
    with Reader() as reader:
        answers = decode_and_predict(
            plan.members.engines,
            ((position, partial(reader.read, item)) for position, item in enumerate(items)),
            batch=plan.wanted.batch_size,
            threads=plan.threads,
        )
        # A generator: an error here ends its threads at once, not when it is collected.
        with closing(cast("Generator[Answered[int]]", answers)):
            for answer in answers:
                if answer.probabilities is None:
                    bad.append((answer.key, str(answer.reason)))
                else:
                    probabilities[answer.key] = answer.probabilities
                progress.move()
        return Chunk(probabilities, tuple(bad), again=bool(reader.unreachable))


def _tell_of_software(work: Work, talk: Talk) -> None:
    now = software()
    differing = [
        f"{name} {work.noted.get(name)} then, {now[name]} now"
        for name in now
        if work.noted.get(name) != now[name]
    ]
    if differing:
        text = f"{'; '.join(differing)}: the last digits of the probabilities may differ"
        talk.warn(warned("other-software", text))
