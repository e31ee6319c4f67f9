"""The loop of the command: looks after its workers until the study is over.

It works on no trial itself, so that nothing a trial does can end the study.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import sleep

from optuna.trial import FrozenTrial, TrialState

from histo_mlflow.errors import Interrupted, StudyError
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.tuning.shared.queue import Queue, Reaped
from histo_mlflow.tuning.team import Death, Team

LOOK_SECONDS = 0.5


def supervise(
    queue: Queue,
    team: Team,
    *,
    retries: int,
    on_look: Callable[[Sequence[FrozenTrial]], None],
    on_failed: Callable[[Reaped], None],
    talk: Talk,
) -> None:
    """Keep the team at work until no trial is left, or time is up and the last ones ended.

    Args:
        queue: of the study.
        team: not started yet; ended when this returns or raises.
        retries: how often a trial of a dead worker is taken up again.
        on_look: is shown all trials, twice a second.
        on_failed: is told of trials that lost too many lives.
        talk: says which trial is taken up again, and why.

    Raises:
        StudyError: no worker can go on, with what the last one said; or the storage failed.
        Interrupted: the workers have saved their trials and given them back.
    """
    if _nothing_to_do(queue, queue.trials()):
        return  # processes take seconds to start
    errors: list[Death] = []
    unburied: list[Death] = []  # the storage may be away as they are

    def bury_last() -> None:
        _bury(queue, team, [*unburied, *team.stop()], retries, on_failed, talk)

    try:
        team.start()
        while True:
            deaths = team.buried()
            errors += [death for death in deaths if death.code > 0]
            unburied += deaths
            _bury(queue, team, unburied, retries, on_failed, talk)
            unburied.clear()
            trials = queue.trials()
            on_look(trials)
            if _nothing_to_do(queue, trials):
                break
            lost = sum(death.code <= 0 for death in deaths)
            if lost and not queue.time_is_up():
                team.refill(lost, progress=_progress(trials))
            if errors and not len(team):
                raise StudyError(_told(errors))
            sleep(LOOK_SECONDS)
    except Interrupted as ended:
        try:
            bury_last()
        except StudyError as error:
            ended.add_note(str(error))  # it ends as what ended it
        raise
    except BaseException:
        bury_last()
        raise
    bury_last()


def _bury(
    queue: Queue,
    team: Team,
    deaths: Sequence[Death],
    retries: int,
    on_failed: Callable[[Reaped], None],
    talk: Talk,
) -> None:
    """Give back what the dead were at, and those that hang, here or on other machines.

    One that hangs here is killed: it has its hands on the files of the trial.
    """
    why = {death.worker: death.why for death in deaths}
    blameless = [death.worker for death in deaths if death.blameless]
    for reaped in queue.reap(dead=list(why), blameless=blameless, retries=retries):
        reason = why.get(reaped.worker.id) if reaped.worker is not None else None
        what = "is failed" if reaped.ending == "failed" else "will be taken up again"
        talk.say("worker", f"{reason or reaped.cause}: trial {reaped.number} {what}")
        if reaped.worker is not None and reason is None:
            team.end(reaped.worker.id)
        if reaped.ending == "failed":
            on_failed(reaped)


def _nothing_to_do(queue: Queue, trials: Sequence[FrozenTrial]) -> bool:
    return queue.over() or (queue.time_is_up() and not _running(trials))


def _running(trials: Sequence[FrozenTrial]) -> bool:
    return any(trial.state == TrialState.RUNNING for trial in trials)


def _progress(trials: Sequence[FrozenTrial]) -> int:
    """Epochs reported and trials ended: grows while anything comes of the work."""
    return sum(len(trial.intermediate_values) + trial.state.is_finished() for trial in trials)


def _told(errors: Sequence[Death]) -> str:
    said = list(dict.fromkeys(death.why for death in errors))
    return f"no worker can go on: {'; '.join(said)}"
