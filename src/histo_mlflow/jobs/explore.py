"""A data set on one page, before anything is trained on it, and as an MLflow run of its own."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import pandas as pd

from histo_mlflow import files
from histo_mlflow.data.checks import to_json
from histo_mlflow.evaluation.page import page
from histo_mlflow.jobs import leaks
from histo_mlflow.jobs._explore_draw import draw
from histo_mlflow.jobs._explore_json import to_json as facts_of
from histo_mlflow.jobs._explore_look import (
    Overview,
    Seer,
    audited_with_sizes,
    get_seer,
    look_over,
)
from histo_mlflow.jobs._explore_page import sections
from histo_mlflow.jobs._explore_short import tiles
from histo_mlflow.jobs.output_folder import refuse_strangers, replacing
from histo_mlflow.jobs.ready import code_folder
from histo_mlflow.jobs.signals import ending_by_signal
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.trainable import policy_of
from histo_mlflow.paths import cache_dir
from histo_mlflow.recipe import Recipe
from histo_mlflow.tracking.provenance import Provenance, collect
from histo_mlflow.tracking.run import TrackedRun
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import Store, connect
from histo_mlflow.vision.augment import Policy

PAGE, FACTS = "explore.html", "explore.json"
OUTPUT = (
    PAGE, FACTS, "figures", "leaks", "checks.json", "recipe.yaml", "embedding.csv", "provenance",
)  # fmt: skip
"""What a folder of a page holds."""
SAMPLE = 2_000
SECTIONS = ("data", "split", "pixels", "augment", "model")
"""Of the recipe: what decides the page."""
MOST_CLASS_METRICS = 50
_BYTES = 5_000_000
"""About what the folder needs."""


@dataclass(frozen=True)
class Explored:
    """Where the page is, and what is on it.

    Attributes:
        folder: holds `explore.html` and all that is on it.
        run_id: of MLflow; None where nothing was tracked.
        seconds: the whole time.
        facts: what `explore.json` holds.
    """

    folder: Path
    run_id: str | None
    seconds: float
    facts: Mapping[str, Any]

    @property
    def page(self) -> Path:
        """The page."""
        return self.folder / PAGE


def explore(
    recipe: Recipe,
    *,
    out: Path | None = None,
    sample: int = SAMPLE,
    track: bool = True,
    tracking_uri: str | None = None,
    experiment: str | None = None,
    talk: Talk | None = None,
) -> Explored:
    """Check, pack and audit a data set, and write what it holds as one page.

    Everything that can be wrong with what was asked for is found before a run is made. The folder
    appears whole, or stays as it was.

    Args:
        recipe: which data, and how training would see them.
        out: folder of the page; None: `explore/<recipe>`. An earlier page in it is replaced.
        sample: images whose features are laid out, at most; 0 for none.
        track: log it as an MLflow run.
        tracking_uri: MLflow store; None: `MLFLOW_TRACKING_URI`, or `sqlite:///mlflow.db`.
        experiment: MLflow experiment; None: the recipe's name.
        talk: says what happens.

    Raises:
        HistoMlflowError: what is wrong with the recipe, the data, the model, the store or the
            folder.
        Interrupted: SIGINT, SIGTERM or SIGHUP; the run is closed as KILLED.
    """
    talk, started = talk or Talk(), perf_counter()
    folder = out or Path("explore") / recipe.name
    with ExitStack() as stack:
        signals = stack.enter_context(ending_by_signal())
        refuse_strangers(folder, FACTS, OUTPUT)
        chosen = policy_of(recipe)
        store = connect(tracking_uri) if track else None
        with files.told_if_full(cache_dir()):
            seer = get_seer(recipe, wanted=sample > 0, talk=talk)
            found, scanned = audited_with_sizes(recipe, talk=talk)
        files.assert_writable(folder.absolute().parent)
        provenance = collect(code_folder(), sys.argv)
        run = None
        if store is not None:
            with signals.whole():  # until there is somebody to close it
                run = _start(store, recipe, experiment, sample, provenance)
                stack.enter_context(run)
            talk.say("run", f"{run.run_id} in {store.shown_uri}")
        view = look_over(recipe, found, scanned, seer, sample, talk=talk)
        facts = facts_of(view, recipe, seer)
        with replacing(folder) as new, files.told(folder, _BYTES):
            _write(new, view, facts, recipe, chosen, seer, provenance)
        talk.say("page", str(folder / PAGE))
        seconds = perf_counter() - started
        if run is not None:
            _log(run, view, recipe, seer, folder, seconds)
            run.end("finished")
            talk.say("look", run.url)
    return Explored(folder, None if run is None else run.run_id, seconds, facts)


def _write(
    folder: Path,
    view: Overview,
    facts: Mapping[str, Any],
    recipe: Recipe,
    chosen: Policy,
    seer: Seer,
    provenance: Provenance,
) -> None:
    figures = folder / "figures"
    figures.mkdir()
    made = draw(figures, view, recipe, chosen, seer)
    leaks.write_folder(view.leaks, folder / "leaks")
    leak_picture = folder / "leaks" / "leak_pairs.png"  # where there are pairs
    title = f"Data set of the recipe {recipe.name}"
    parts = sections(view, recipe, chosen, seer, made, leak_picture, provenance.command)
    (folder / PAGE).write_text(page(title, tiles(view), parts), encoding="utf-8")
    files.write_json(folder / "checks.json", to_json(view.audited.findings))
    files.write_text(folder / "recipe.yaml", recipe.to_yaml())
    if view.seen.points is not None:
        table = view.audited.manifest.table.iloc[view.seen.rows][["id", "label", "group"]]
        laid = pd.DataFrame(view.seen.points.round(4), columns=["tsne_1", "tsne_2"])
        joined = pd.concat([table.reset_index(drop=True), laid], axis=1)
        files.write_text(folder / "embedding.csv", joined.to_csv(index=False))
    provenance.write(folder / "provenance")
    files.write_json(folder / FACTS, facts)


def _start(
    store: Store, recipe: Recipe, experiment: str | None, sample: int, provenance: Provenance
) -> TrackedRun:
    params: dict[str, object] = {"recipe": recipe.name, "explore_sample": sample}
    for section in SECTIONS:
        params |= getattr(recipe, section).model_dump(mode="json")
    tags = {"histo.job": "explore", "histo.recipe": recipe.name, **provenance.tags()}
    title = experiment or recipe.name
    return start_run(store, title, f"explore {recipe.name}", params, tags, system_metrics=False)


def _log(
    run: TrackedRun, view: Overview, recipe: Recipe, seer: Seer, folder: Path, seconds: float
) -> None:
    audited, manifest = view.audited, view.audited.manifest
    counts = manifest.class_counts()
    weights = seer.weights
    run.set_tags(
        {
            "histo.data.digest": audited.digest,
            "histo.data.label_source": manifest.label_source,
            "histo.data.group_kind": manifest.group_kind,
            "histo.weights.source": "unavailable" if weights is None else weights.source,
            "histo.weights.sha256": (weights and weights.sha256) or "none",
        }
    )
    summary = audited.leaks.summary()
    totals: dict[str, float] = {
        "data/images": len(manifest.table),
        "data/classes": len(manifest.classes),
        "data/groups": int(view.groups.sum()),
        "data/leak_groups": summary["leak_groups"],
        "data/equal_pairs_across_groups": summary["equal_pairs_across_groups"],
        "data/near_pairs_across_groups": summary["near_pairs_across_groups"],
        "data/pairs_with_different_labels": summary["pairs_with_different_labels"],
        "data/images_embedded": len(view.seen.rows),
        "explore/seconds": seconds,
    }
    if view.seen.agreement is not None and view.seen.agreement.share is not None:
        totals["data/nearest_has_same_label"] = view.seen.agreement.share
    largest = sorted(counts.items(), key=lambda item: -item[1])[:MOST_CLASS_METRICS]
    run.log_metrics({**totals, **{f"data/images/{name}": n for name, n in largest}})
    run.log_dataset(
        recipe.name,
        audited.digest,
        str(manifest.root),
        {"images": len(manifest.table), "groups": int(view.groups.sum())},
        context="explore",
    )
    run.log_artifacts(folder)
