"""The job behind `histo-mlflow tune`: a study made or joined, worked on, reported, confirmed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial

from histo_mlflow import files
from histo_mlflow.data.findings import counted
from histo_mlflow.errors import Interrupted, StudyError
from histo_mlflow.jobs import doctor
from histo_mlflow.jobs.closing import close_orphan
from histo_mlflow.jobs.development import develop
from histo_mlflow.jobs.parent import GONE, ending_with_parent
from histo_mlflow.jobs.ready import Ready, get_ready
from histo_mlflow.jobs.signals import ending_by_signal
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.paths import cache_dir
from histo_mlflow.recipe import Recipe
from histo_mlflow.tracking.store import connect
from histo_mlflow.training.doctor import DoctorLevel
from histo_mlflow.tuning.beforehand import refuse_unable, refuse_undividable
from histo_mlflow.tuning.confirming import confirm_best
from histo_mlflow.tuning.joining import Joined, make_or_join, refuse_other
from histo_mlflow.tuning.machine_share import devices_of, how_many, with_threads
from histo_mlflow.tuning.parent_run import open_command, open_parent
from histo_mlflow.tuning.report.parent_report import write_report
from histo_mlflow.tuning.shared import attributes as name
from histo_mlflow.tuning.shared.storage import DEFAULT_URL, open_storage
from histo_mlflow.tuning.site import Site
from histo_mlflow.tuning.study.definition import Definition
from histo_mlflow.tuning.study.space import suggest, trial_recipe
from histo_mlflow.tuning.study.study_file import Confirm, StudyFile
from histo_mlflow.tuning.tune_result import TuneResult
from histo_mlflow.tuning.work_on import searched


def tune(
    file: StudyFile,
    *,
    study_name: str | None = None,
    workers: str = "auto",
    storage: str = DEFAULT_URL,
    confirm: Confirm | None = None,
    experiment: str | None = None,
    tracking_uri: str | None = None,
    runs_dir: str | Path = "runs",
    doctor_level: DoctorLevel | None = "quick",
    again: str | None = None,
    talk: Talk | None = None,
) -> TuneResult:
    """Work on a study until its budget is used up; make it first if there is none of its name.

    Args:
        file: what to search.
        study_name: None: the file's.
        workers: processes on this machine, or "auto"; see `how_many`.
        storage: URL of Optuna's storage; whoever names the same one works on the same study.
        confirm: afterwards train the best trials, and the base recipe, on fresh seeds and folds;
            None: not.
        experiment: MLflow experiment of a study that is new; None: the recipe's name.
        tracking_uri: MLflow's store.
        runs_dir: for the local files of all runs.
        doctor_level: what is examined before the first trial; None for nothing.
        again: the command that goes on with the study, for the user.
        talk: says what happens.

    Raises:
        HistoMlflowError: the study is another one than was begun, cannot be trained, or nobody can
            go on with it. What was trained stays.
        Interrupted: the trials are saved and given back; the same command goes on.
    """
    talk = talk or Talk()
    with ExitStack() as stack:
        signals = stack.enter_context(ending_by_signal())
        base = file.base()
        size = how_many(workers, base.machine.device)
        base = with_threads(base, size)
        with files.told_if_full(cache_dir()):
            refuse_unable(file, base)
        store = connect(tracking_uri)
        stack.push(lambda _, error, __: close_orphan(store, error))
        stack.enter_context(ending_with_parent(lambda: setattr(signals, "why", GONE)))
        opened = open_storage(storage, tracking_uri=store.tracking_uri)
        title = study_name or file.name
        refuse_other(opened.storage, title, Definition.of(file))
        with files.told_if_full(cache_dir()):
            ready = get_ready(base, talk=talk)
        refuse_undividable(ready.prepared, Definition.of(file), confirm)
        _examine(ready, doctor_level, talk)
        files.assert_writable(Path(runs_dir))
        data = f"{ready.prepared.digest}-{develop(ready.prepared).division_digest}"
        definition = Definition.of(file, data=data)
        with signals.whole():  # until there is somebody to close what is made here
            joined = make_or_join(
                opened.storage,
                title,
                definition,
                kind="search",
                experiment=experiment or base.name,
            )
            parent = stack.enter_context(
                open_parent(
                    joined.study,
                    store,
                    new=joined.new,
                    key=joined.key,
                    run_name=f"study {title}",
                    params=_params(definition),
                    tags=_tags(ready, definition, title, opened.shown_url),
                )
            )
        stack.enter_context(open_command(store, parent, title))
        site = Site(
            opened=opened,
            store=store,
            title=title,
            experiment=joined.study.user_attrs[name.EXPERIMENT],
            parent=parent,
            definition=definition,
            most_epochs=file.most_epochs,
            runs_dir=Path(runs_dir),
            folder=Path(runs_dir) / parent.run_id,
            plan=ready.plan.decided(),
            devices=devices_of(base, ready.plan.device),
            workers=size,
            talk=talk,
        )
        _greet(joined, site, file.slots)
        try:
            return _worked(site, joined.study, file, ready, confirm, again)
        except Interrupted:
            if again is not None:
                talk.say("saved", f"go on: {again}")
            raise


def _examine(ready: Ready, level: DoctorLevel | None, talk: Talk) -> None:
    """The doctor looks at the base recipe once, not at each trial."""
    if level is None:
        return
    findings = doctor.examine(ready, level=level)
    doctor.assert_healthy(findings)
    talk.say("doctor", f"{len(findings)} checks of the base recipe, none failed")


def _params(definition: Definition) -> dict[str, object]:
    """The base recipe, and how the study searches; what may change later is a tag or a file."""
    axes = {f"space.{axis}": json.dumps(what) for axis, what in definition.space.items()}
    return {
        **definition.recipe,
        "recipe": definition.elsewhere["recipe"],
        "metric": definition.metric,
        "direction": definition.direction,
        "trial_folds": definition.folds,
        **axes,
    }


def _tags(ready: Ready, definition: Definition, title: str, storage: str) -> dict[str, object]:
    return {
        **ready.tags(),
        "histo.promotable": "false",  # it has no model of its own
        "histo.study": title,
        "histo.study.kind": "study",
        "histo.study.storage": storage,
        "histo.study.sampler": definition.sampler["name"],
        "histo.study.pruner": definition.pruner["name"],
    }


def _greet(joined: Joined, site: Site, limit: int | None) -> None:
    trials = joined.study.get_trials(deepcopy=False)
    done = sum(trial.state.is_finished() for trial in trials)
    budget = "as many trials as fit its time" if limit is None else f"{limit} trials"
    gone_on = "" if joined.new else f", {done} have ended"
    say = site.talk.say
    say(
        "study",
        f"{joined.study.study_name}: {budget}{gone_on}; {counted(site.workers, 'worker')} of "
        f"{counted(site.plan['threads'], 'thread')}; {site.opened.shown_url}",
    )
    for told in joined.told:
        say("changed", told)
    say("run", f"{site.parent.run_id} in {site.store.shown_uri}, parent of the trials")


def _worked(
    site: Site,
    study: optuna.Study,
    file: StudyFile,
    ready: Ready,
    confirm: Confirm | None,
    again: str | None,
) -> TuneResult:
    definition, axes = site.definition, site.definition.axes()
    trials = searched(site, study, file)
    queue = site.queue(study)

    def recipe_of(trial: FrozenTrial, called: str) -> Recipe:
        return trial_recipe(definition.base(), suggest(axes, trial), name=called)

    report = write_report(
        site.folder / "study",
        study,
        recipe_of,
        metric=definition.metric,
        axes=tuple(axes),
        step="epoch" if definition.folds is None else "fold",
        limit=queue.limit(),
        active_seconds=queue.active_seconds(),
        upload=lambda folder: site.parent.log_artifacts(folder, "study"),
    )
    for picture, why in report.undrawn.items():
        site.talk.say("NOTE", f"{picture} is not drawn: {why}")
    counts = queue.counts()
    left = counts.waiting + counts.running
    used_up = queue.time_is_up()
    if report.recipe is None and not left:
        raise StudyError(_none_complete(site.title, trials))
    confirmation = None
    if confirm is not None:
        k, n = confirm.candidates, confirm.replicates
        confirmation = confirm_best(
            site, site.title, study.user_attrs[name.KEY], trials, k, n, ready=ready
        )
    site.parent.end("finished")
    site.talk.say("look", site.parent.url)
    return TuneResult(
        run_id=site.parent.run_id,
        summary=report.summary,
        recipe=report.recipe,
        again=again if left and not used_up else None,
        left=left,
        time_used_up=used_up,
        confirmation=confirmation,
    )


def _none_complete(title: str, trials: Sequence[FrozenTrial]) -> str:
    ended = sum(trial.state.is_finished() for trial in trials)
    causes = [trial.user_attrs[name.CAUSE] for trial in trials if name.CAUSE in trial.user_attrs]
    why = f"; the first that failed: {causes[0]}" if causes else ""
    return (
        f"none of the {ended} trials of the study {title} is complete{why}. Correct the "
        "study file and give the new study another --name"
    )
