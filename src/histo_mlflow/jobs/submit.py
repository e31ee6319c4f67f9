"""A Kaggle submission: predicted, checked, written, sent, and noted at the run it came from."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from histo_mlflow import files
from histo_mlflow.data.findings import SHOWN, Finding, Level, counted, render, to_json, worst
from histo_mlflow.errors import SubmissionError, TrackingError
from histo_mlflow.inference.kaggle import (
    COLUMNS,
    SAMPLE,
    check_submission,
    read_sample,
    read_submission,
    write_submission,
)
from histo_mlflow.jobs._kaggle_client import Sent, assert_can_send, send
from histo_mlflow.jobs._submit_predict import Wanted, ask, find_images
from histo_mlflow.jobs.find_model import find_model
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tracking.lifecycle import existing_run
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.store import connect

ARTIFACTS = "submissions"
_PLAINLY = Wanted()
__all__ = ["Order", "Submitted", "Wanted", "check", "ordered", "submit"]


@dataclass(frozen=True)
class Order:
    """Where a submission is to be sent; without a message the model and its digest are written."""

    competition: str
    message: str | None = None


@dataclass(frozen=True)
class Submitted:
    """What became of a submission.

    Attributes:
        path: of the file.
        sha256: of the file.
        findings: what the check said; no FAIL.
        model: version of the model, for a person; None for a file that somebody else made.
        digest: of the model.
        positive: the class whose probability the file holds.
        unused: images that the sample does not ask for.
        run_id: the run at which it is noted; None where it is not.
        sent: where it was sent; None where it was not.
    """

    path: Path
    sha256: str
    findings: tuple[Finding, ...]
    model: str | None = None
    digest: str | None = None
    positive: str | None = None
    unused: int = 0
    run_id: str | None = None
    sent: Sent | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        sent = None if self.sent is None else asdict(self.sent)
        return {
            **{key: value for key, value in vars(self).items() if key not in ("path", "sent")},
            "path": str(self.path),
            "findings": to_json(self.findings),
            "sent": sent,
        }


def submit(
    model: str,
    data_dir: Path,
    out: Path,
    wanted: Wanted = _PLAINLY,
    *,
    sample: Path | None = None,
    order: Order | None = None,
    tracking_uri: str | None = None,
    runs_dir: str | Path = "runs",
    talk: Talk,
) -> Submitted:
    """Predict the test images of a competition and write the submission.

    Args:
        model: what `find_model` takes.
        data_dir: holds the images, in `test/` where there is such a folder.
        out: the file to write; replaced if it is there.
        wanted: how.
        sample: the sample submission; None: `sample_submission.csv` in `data_dir`.
        order: where it is sent once it has passed its check; None: nowhere.
        tracking_uri: of the store of the model and its run.
        runs_dir: where folders of runs are.
        talk: says what happens.

    Raises:
        DataError: no sample, images missing or unreadable, no such class, or a file that its own
            check refuses; nothing is written.
        ModelFolderError: no model there, or an altered one.
        EngineError: the engine is not there, or gives other answers than the plain model.
        SubmissionError: it is written, and could not be sent.
    """
    if order is not None:
        assert_can_send(order.competition)
    asked = read_sample(sample or data_dir / SAMPLE)
    images = find_images(asked, data_dir)
    if images.unused:
        n, first = len(images.unused), ", ".join(images.unused[:SHOWN])
        talk.say("WARN", f"{counted(n, 'image')} not in the sample, left out: {first}")
    with find_model(model, tracking_uri=tracking_uri, runs_dir=runs_dir) as found:
        said = ask(found, images, wanted, talk=talk)
    findings = write_submission(out, asked, said.probabilities)
    talk.say("written", f"{out}: {counted(len(asked.ids), 'row')}, p({said.positive})")
    done = Submitted(
        out,
        hashlib.sha256(out.read_bytes()).hexdigest(),
        tuple(findings),
        found.version,
        found.digest,
        said.positive,
        len(images.unused),
    )
    run_id = found.run_id or said.facts.get("run_id")
    noted = {
        "reference": found.reference,
        "sample_sha256": hashlib.sha256(asked.path.read_bytes()).hexdigest(),
        "tta": wanted.tta,
        "engine": wanted.engine,
        "device": wanted.device,
    }
    if wanted.log:
        done = _noted(done, run_id, noted, tracking_uri, talk=talk)
    if order is not None:
        message = f"{found.version} {found.digest[:12]}"
        done = replace(done, sent=_sent(out, order, message, talk=talk))
        if done.run_id is not None:
            _noted(done, run_id, noted, tracking_uri, talk=Talk(quiet=True))
    return done


def check(
    path: Path,
    *,
    sample: Path | None = None,
    data_dir: Path | None = None,
    order: Order | None = None,
    talk: Talk,
) -> Submitted:
    """Check a submission, whoever made it.

    Args:
        path: of the submission.
        sample: the sample submission; None: that of `data_dir`, else the one beside `path`, else
            none, and ids are not compared.
        data_dir: where a sample is looked for.
        order: where it is sent if no check is FAIL.
        talk: says what happens.

    Raises:
        DataError: there is no such file, or the sample is none.
        SubmissionError: it is to be sent, and has a fault or could not be sent.
    """
    beside = path.parent / SAMPLE
    if sample is None and data_dir is not None:
        sample = data_dir / SAMPLE
    elif sample is None and beside.is_file() and beside.resolve() != path.resolve():
        sample = beside
    data = read_submission(path)
    asked = None if sample is None else read_sample(sample)
    if asked is not None:
        talk.say("sample", f"{asked.path}: {counted(len(asked.ids), 'id')}")
    columns = COLUMNS if asked is None else asked.columns
    findings = check_submission(data, columns, None if asked is None else asked.ids)
    done = Submitted(path, hashlib.sha256(data).hexdigest(), tuple(findings))
    if order is None:
        return done
    if worst(findings) is Level.FAIL:
        raise SubmissionError(f"{path} is not sent, since its check failed:\n{render(findings)}")
    return replace(done, sent=_sent(path, order, f"{path.name} {done.sha256[:12]}", talk=talk))


def ordered(send: bool, competition: str | None, message: str | None) -> Order | None:
    """What was asked for on the command line.

    Raises:
        SubmissionError: `send` without a competition, or one of the others without `send`.
    """
    if not send:
        if competition is not None or message is not None:
            raise SubmissionError("--competition and --message need --send")
        return None
    if competition is None:
        raise SubmissionError(
            "--send needs --competition NAME, the name in the address of its page, such as "
            "histopathologic-cancer-detection"
        )
    return Order(competition, message)


def _sent(path: Path, order: Order, message: str, *, talk: Talk) -> Sent:
    talk.say("send", f"{path.name} to {order.competition}")
    sent = send(path, order.competition, order.message or message)
    talk.say("sent", sent.said)
    return sent


def _noted(
    done: Submitted,
    run_id: object,
    facts: Mapping[str, Any],
    tracking_uri: str | None,
    *,
    talk: Talk,
) -> Submitted:
    """Give the run of the model the file and what is known of it.

    A store that does not take it is a WARN: the file is written, and as good without.
    """
    if not isinstance(run_id, str):
        talk.say("WARN", "the run of this model is not known, so the submission is noted at none")
        return done
    short = done.sha256[:12]
    try:
        store = connect(tracking_uri, make=False)
        known = existing_run(store, run_id)
        run = TrackedRun(store, known.info.run_id, known.info.experiment_id)
        try:
            with tempfile.TemporaryDirectory() as temporary:
                copy = Path(temporary)
                files.write_bytes(copy / done.path.name, done.path.read_bytes())
                files.write_json(copy / "submission.json", {**facts, **_of_record(done)})
                run.log_artifacts(copy, f"{ARTIFACTS}/{short}")
            run.set_tags(_tags(done, short))
        finally:
            run.let_go()
    except TrackingError as error:
        talk.say("WARN", f"the submission is not noted at run {run_id}: {error}")
        return done
    talk.say("logged", f"{ARTIFACTS}/{short}/ of run {run_id} in {store.shown_uri}")
    return replace(done, run_id=run_id)


def _of_record(done: Submitted) -> dict[str, Any]:
    """What is noted of a submission; without folders of this machine."""
    record: dict[str, Any] = json.loads(json.dumps(done.to_dict()))
    return {**record, "path": done.path.name}


def _tags(done: Submitted, short: str) -> dict[str, str]:
    tags = {"histo.submission": f"{ARTIFACTS}/{short}/{done.path.name}"}
    if done.sent is not None:
        tags["histo.submission.sent"] = f"{done.sent.competition}: {done.sent.message}"
    return tags
