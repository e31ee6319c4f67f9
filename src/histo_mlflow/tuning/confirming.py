"""A search confirmed: its best recipes and the default trained again, judged, the winner trained.

The trainings are the trials of a study of their own in the same storage, so that they survive what
a search survives. Its name holds a digest of the plan: the same confirmation is gone on with,
another one is another study.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from optuna.trial import FrozenTrial

from histo_mlflow.evaluation import style
from histo_mlflow.jobs.development import Development, Division, develop, develop_fold
from histo_mlflow.jobs.output_folder import replacing
from histo_mlflow.jobs.prepare import Prepared
from histo_mlflow.jobs.ready import Ready
from histo_mlflow.jobs.train import TrainResult
from histo_mlflow.jobs.trainable import parameters_of
from histo_mlflow.promotion.checks import Check, of_data
from histo_mlflow.promotion.gate import OVERRIDES
from histo_mlflow.recipe import Recipe
from histo_mlflow.tuning.confirm import confirmation as plans
from histo_mlflow.tuning.confirm.conclude import conclude
from histo_mlflow.tuning.confirm.confirm_figure import confirmation as drawn
from histo_mlflow.tuning.confirm.confirm_plan import Plan, Replicate, confirm_key
from histo_mlflow.tuning.confirm.confirm_report import Confirmation, Outcome
from histo_mlflow.tuning.confirm.confirm_text import mlflow_metrics, render
from histo_mlflow.tuning.confirm.val_table import val_table
from histo_mlflow.tuning.joining import make_or_join
from histo_mlflow.tuning.report.turn import its_turn
from histo_mlflow.tuning.shared import attributes as name
from histo_mlflow.tuning.shared.queue import ending_of
from histo_mlflow.tuning.site import Site
from histo_mlflow.tuning.study.definition import Definition
from histo_mlflow.tuning.study.space import suggest, trial_recipe
from histo_mlflow.tuning.winner import train_winner
from histo_mlflow.tuning.work_on import showing, work_on

REPORT = "confirmation.json"
WINNER = "winner_recipe.yaml"


@dataclass(frozen=True)
class Confirmed:
    """What a confirmation came to.

    Attributes:
        judgement: optimism, differences, the winner and why.
        recipe: the winner's, as a file; None without a winner.
        winner: its ordinary training, judged on the test split; None without a winner.
        model_name: that it may be promoted under.
        unfit: what `promote` refuses it for, as far as it is known by now.
    """

    judgement: Confirmation
    recipe: Path | None
    winner: TrainResult | None
    model_name: str = field(repr=False, default="")
    unfit: tuple[Check, ...] = ()

    def text(self) -> str:
        """What a terminal is shown."""
        if self.winner is None:
            return render(self.judgement)
        tested = "  ".join(f"{metric} {v:.4f}" for metric, v in self.winner.headline().items())
        return (
            f"{render(self.judgement)}\n\n"
            f"recipe {self.recipe}\n"
            f"trained by it: run {self.winner.run_id}  best epoch {self.winner.best_epoch}\n"
            f"test {tested}\n"
            f"{self._promotion(self.winner.run_id)}"
        )

    def _promotion(self, run_id: str) -> str:
        """How the winner is promoted, and what speaks against it."""
        command = f"histo-mlflow promote {run_id} --name {self.model_name}"
        if self.unfit:
            refused = f"promote refuses it: {'; '.join(check.told for check in self.unfit)}"
            tutorial = all(OVERRIDES[one.name] == "--allow-synthetic" for one in self.unfit)
            way = f"; as in a tutorial: {command} --allow-synthetic"
            return refused + way if tutorial else refused
        gain = None if self.judgement.winner is None else self.judgement.winner.gain
        if gain is None:
            return f"promote it (the recipe itself: the search found nothing better): {command}"
        if gain.low is None or gain.low <= 0:
            return f"promote it (its gain over the recipe is not clear): {command}"
        return f"promote it: {command}"

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {
            **self.judgement.to_dict(),
            "recipe": None if self.recipe is None else str(self.recipe),
            "winner_run": None if self.winner is None else self.winner.to_dict(),
            "unfit": [check.told for check in self.unfit],
        }


def confirm_best(
    site: Site,
    title: str,
    key: str,
    trials: Sequence[FrozenTrial],
    k: int,
    n: int,
    *,
    ready: Ready,
) -> Confirmed:
    """Train the k best trials and the default again n times, judge them, train the winner.

    Args:
        site: see there.
        title: name of the search.
        key: of the search; the winner's run is found by it.
        trials: of the search.
        k: how many of the best.
        n: replicates of each.
        ready: the base recipe with its data.

    Raises:
        StudyError: no trial is complete, or n is below 2.
        SplitError: the development images cannot be divided into n folds.
        HistoMlflowError: as `train` of the winner.
        Interrupted: what was trained stays; the same command goes on.
    """
    base, axes = site.definition.base(), site.definition.axes()
    plan = Plan(
        plans.candidates(
            trials, k, site.definition.direction, lambda one: suggest(axes, one), base=base
        ),
        fresh_replicates(site.definition, n),
    )
    own = develop(ready.prepared)
    divided = [develop_fold(ready.prepared, one.division) for one in plan.replicates]
    digest = confirm_key(plan)[:8]
    found = _trained(site, f"{title} confirm {digest}", plan)
    judged = conclude(
        plan,
        _outcomes(site, plans.slots(plan), found),
        metric=site.definition.metric,
        direction=site.definition.direction,
        sizes=[(len(one.train), len(one.val)) for one in divided],
        costs=[_cost(plans.laid_over(base, one.overrides), own) for one in plan.candidates],
        search_images=_search_images(site.definition, ready.prepared, own),
        group_kind=ready.prepared.manifest.group_kind,
    )
    recipe = _winner_recipe(judged, base, f"{title}-winner")
    folder = site.folder / "confirmation"
    with its_turn(site.folder):
        _report(site, folder, judged, recipe, title, ready.prepared.manifest.group_kind)
    if recipe is None:
        return Confirmed(judged, None, None)
    winner = train_winner(site, recipe, f"{title} winner", f"{key}-winner-{digest}")
    site.parent.set_tags({"histo.study.winner_run": winner.run_id})
    return Confirmed(judged, folder / WINNER, winner, f"histo-{base.name}", _unfit(own))


def fresh_replicates(definition: Definition, n: int) -> tuple[Replicate, ...]:
    """n rounds of seeds and group folds that the search of a study never had.

    Raises:
        StudyError: n is below 2.
    """
    base = definition.base()
    return plans.replicates(definition.seed, n, used={base.training.seed, base.split.split_seed})


def _trained(site: Site, study_name: str, plan: Plan) -> list[FrozenTrial]:
    joined = make_or_join(
        site.storage,
        study_name,
        site.definition,
        kind="confirm",
        experiment=site.experiment,
    )
    joined.study.set_user_attr(name.CONFIRM, plan.to_json())
    joined.study.set_user_attr(name.PARENT, site.parent.run_id)
    slots = plans.slots(plan)
    site.talk.say(
        "confirm",
        f"{len(plan.candidates)} recipes, {len(plan.replicates)} fresh seeds and group folds: "
        f"{len(slots)} trainings",
    )
    with showing(site, joined.study, ("candidate", "replicate"), wall_seconds=None) as show:
        return work_on(
            site,
            joined.study,
            trials=len(slots),
            guesses=[{"candidate": s.candidate, "replicate": s.replicate} for s in slots],
            wall_seconds=None,
            on_look=[show],
        )


def _search_images(definition: Definition, prepared: Prepared, own: Development) -> int:
    """How many images a trial of the search was trained on; with folds, on average over them."""
    if definition.folds is None:
        return len(own.train)
    seed = definition.base().split.split_seed
    divisions = [Division(definition.folds, fold, seed) for fold in range(definition.folds)]
    return round(mean(len(develop_fold(prepared, one).train) for one in divisions))


def _unfit(development: Development) -> tuple[Check, ...]:
    """What `promote` has against all that is trained on these images."""
    checks = of_data(
        label_source=development.label_source,
        split_kind=development.split_kind,
        leaking=development.leaking,
        crossing=development.crossing,
    )
    return tuple(check for check in checks if not check.passed)


def _outcomes(
    site: Site, slots: Sequence[plans.Slot], found: Sequence[FrozenTrial]
) -> list[Outcome]:
    """What came of each training, with its predictions where they are here or in MLflow.

    Raises:
        DataError: predictions are not valid.
        TrackingError: the store failed.
    """
    outcomes = []
    for one in found:
        state, run_id = ending_of(one), one.user_attrs.get(name.RUN_ID)
        if state is None:
            continue
        table = None
        if run_id is not None and state == "complete":
            table = val_table(site.store, site.runs_dir, run_id)
        value, slot = one.value if state == "complete" else None, slots[one.number]
        outcomes.append(Outcome(slot.candidate, slot.replicate, state, value, run_id, table))
    return outcomes


def _cost(recipe: Recipe, development: Development) -> tuple[float, float]:
    """Parameters, and epochs x images x px^2 of one training."""
    work = recipe.training.epochs * len(development.train) * recipe.pixels.image_px**2
    return float(parameters_of(recipe, development.classes)), float(work)


def _winner_recipe(judged: Confirmation, base: Recipe, called: str) -> Recipe | None:
    if judged.winner is None:
        return None
    winner = judged.winner.candidate
    said = f"winner of a confirmed search: {winner.name}; {judged.reason}"
    recipe = trial_recipe(base, winner.overrides, name=called)
    return recipe.model_copy(update={"summary": said})


def _report(
    site: Site,
    folder: Path,
    judged: Confirmation,
    recipe: Recipe | None,
    title: str,
    group_kind: str,
) -> None:
    with replacing(folder) as new:
        text = json.dumps(judged.to_dict(), indent=2, ensure_ascii=False)
        (new / REPORT).write_text(text + "\n", encoding="utf-8")
        (new / "confirmation.txt").write_text(render(judged) + "\n", encoding="utf-8")
        style.save(
            drawn(judged, title=f"Study {title}", group_kind=group_kind), new / "confirmation.png"
        )
        if recipe is not None:
            (new / WINNER).write_text(recipe.to_yaml(), encoding="utf-8")
    for step, metrics in mlflow_metrics(judged).items():
        site.parent.log_metrics(metrics, step=step)
    site.parent.log_artifacts(folder, "confirmation")
