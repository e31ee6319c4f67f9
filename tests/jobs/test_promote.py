"""Promotion over real stores: evidence is read from runs and models, decisions are kept."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import finished_runs
import promotable_runs
from histo_mlflow.errors import HistoMlflowError, PromotionError, TrackingError
from histo_mlflow.evaluation import predictions
from histo_mlflow.jobs import promote as jobs
from histo_mlflow.jobs.promote import promote
from histo_mlflow.jobs.promote_text import render, render_status
from histo_mlflow.jobs.roll_back import roll_back, status
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.promotion import ledger
from histo_mlflow.promotion.gate import Rules
from histo_mlflow.promotion.versions import versions
from histo_mlflow.tracking.store import connect

cases = finished_runs.cases
PICTURE = "test_every_decision_is_in_the_ledger_in_tags_and_in_files"


@pytest.fixture(scope="module")
def store_uri(fresh_database, tmp_path_factory):
    """One store for all tests, each of which has a registered model of its own."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    shutil.copy(fresh_database, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="module")
def store(store_uri):
    return connect(store_uri)


@pytest.fixture(scope="module")
def run(store, tmp_path_factory):
    """Make a run with a model; the same one again for the same wishes, unless it is `fresh`."""
    made = {}

    def make(fresh=False, **how):
        key = repr(how) if not fresh and "table" not in how else object()
        if key not in made:
            folder = tmp_path_factory.mktemp("run") / "run"
            made[key] = promotable_runs.made(store, folder, **how)
        return made[key]

    return make


@pytest.fixture
def name(request):
    return request.node.name[:100]


@pytest.fixture(autouse=True)
def picture(request, monkeypatch):
    """Draw in one test only, which takes a second."""
    if request.node.name != PICTURE:
        monkeypatch.setattr(
            "histo_mlflow.jobs._promotion_record.save", lambda _, path: path.write_bytes(b"PNG")
        )


@pytest.fixture
def ask(store_uri, name):
    """Ask for a promotion."""

    def go(reference, **how):
        how = {"replicates": 100, "name": name, "talk": Talk(quiet=True), **how}
        return promote(str(reference), tracking_uri=store_uri, **how)

    return go


@pytest.fixture
def where(store_uri):
    return {"tracking_uri": store_uri, "talk": Talk(quiet=True)}


def refusing(found):
    return {check.name for check in found.decision.checks if check.refuses}


def test_the_better_of_two_is_champion_and_the_worse_its_challenger(run, ask, store, name):
    weak, strong = run(skill=1.0, seed=1), run(skill=2.0, seed=2)

    first = ask(weak.run_id)
    better = ask(f"models:/{strong.model_id}")
    worse = ask(weak.model_id)

    assert (first.promoted, better.promoted, worse.promoted) == (True, True, False)
    assert (first.version, better.version, worse.version) == (1, 2, 1)
    assert (better.was, better.is_champion) == (1, 2)
    assert refusing(worse) == {"no worse", "margin"}
    model = store.client.get_registered_model(name)
    assert {alias: int(n) for alias, n in model.aliases.items()} == {"champion": 2, "challenger": 1}
    assert store.client.get_model_version_by_alias(name, "champion").run_id == strong.run_id
    assert str(worse.refusal()).startswith(f"demo {weak.run_id[:6]} is refused as champion of")


def test_every_decision_is_in_the_ledger_in_tags_and_in_files(run, ask, store, name):
    weak, strong = run(skill=1.0, seed=1), run(skill=2.0, seed=2)
    for one in (weak, strong, weak):
        ask(one.run_id)

    client, now = store.client, ledger.find(store, name)
    assert [entry.decision for entry in now.entries] == ["promoted", "promoted", "refused"]
    version = client.get_model_version(name, "1")
    of_run = client.get_run(weak.run_id).data.tags
    for tags in (version.tags, of_run):
        assert tags["histo.promotion.decision"] == "refused"
        assert tags["histo.promotion.entry"] == "3"
        assert "it is worse" in tags["histo.promotion.reasons"]
    assert of_run["histo.promotion.name"] == name
    assert client.get_run(weak.run_id).info.status == "FINISHED"
    assert client.get_model_version(name, "2").tags["histo.promotion.decision"] == "promoted"
    got = client.download_artifacts(now.run_id, "promotions/000003-refused.json")
    kept = json.loads(Path(got).read_text("utf-8"))
    assert kept["gate"]["promoted"] is False
    assert kept["gain"]["rows"] == 120
    assert {"promotions/000003-refused.png"} < {
        entry.path for entry in client.list_artifacts(now.run_id, "promotions")
    }


def test_what_speaks_against_a_model_is_found_all_at_once_and_nothing_is_registered(
    run, ask, store, name
):
    bad = run(
        ending="failed",
        calibration=None,
        tags={
            "histo.data.label_source": "synthetic",
            "histo.split.leaking": "true",
            "histo.leak_groups.crossing": "5",
            "histo.git.dirty": "true",
        },
    )
    found = ask(bad.run_id)

    assert refusing(found) == {"run", "labels", "split", "look-alikes", "code", "calibration"}
    assert (found.version, found.ledger, found.is_champion) == (None, None, None)
    assert ledger.find(store, name) is None
    tags = store.client.get_run(bad.run_id).data.tags
    assert tags["histo.promotion.decision"] == "refused"
    assert "synthetic" in tags["histo.promotion.reasons"]
    assert store.client.get_run(bad.run_id).info.status == "FAILED"
    (kept,) = store.client.list_artifacts(bad.run_id, "promotions")
    assert kept.path.endswith("-refused.json")


def test_what_the_model_says_counts_whatever_tags_were_set(run, ask):
    washed = run(label_source="synthetic", leaking=True)
    assert refusing(ask(washed.run_id)) == {"labels", "split"}


def test_force_and_made_up_labels_are_let_through_and_recorded(run, ask, store, name):
    ask(run(skill=2.0, seed=1).run_id)
    bad = run(skill=0.5, seed=2, label_source="synthetic", calibration=None)

    assert refusing(ask(bad.run_id, rules=Rules(force=True))) == {"labels"}
    found = ask(bad.run_id, rules=Rules(force=True, allow_synthetic=True))

    assert found.promoted
    forced = ("labels", "calibration", "no worse", "margin")
    assert found.decision.forced == forced
    assert ledger.find(store, name).newest.forced == forced
    tags = store.client.get_model_version(name, str(found.version)).tags
    assert tags["histo.promotion.forced"] == ", ".join(forced)
    assert "forced" in render(found).splitlines()[-1]


def test_a_patch_with_the_run_makes_a_dirty_tree_good_enough(run, ask, store, tmp_path):
    dirty = run(fresh=True, tags={"histo.git.dirty": "true"})
    assert refusing(ask(dirty.run_id, dry_run=True)) == {"code"}
    (tmp_path / "changes.patch").write_text("+ a line\n")
    store.client.log_artifact(dirty.run_id, str(tmp_path / "changes.patch"), "provenance")
    assert ask(dirty.run_id).promoted


def test_a_model_that_is_altered_gone_or_another_runs_is_never_let_through(run, ask, store, name):
    force = Rules(force=True, allow_synthetic=True)
    altered, gone, other, none = (
        run(fresh=True),
        run(fresh=True),
        run(origin="e" * 32),
        run(with_model=False),
    )
    place = store.client.get_logged_model(altered.model_id).artifact_location
    (weights,) = Path(place.removeprefix("file://")).rglob("weights.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    place = store.client.get_logged_model(gone.model_id).artifact_location
    shutil.rmtree(place.removeprefix("file://"))

    assert refusing(ask(altered.run_id, rules=force)) == {"model"}
    assert refusing(ask(gone.run_id, rules=force)) == {"model"}
    assert refusing(ask(other.run_id, rules=force)) == {"origin"}
    assert refusing(ask(none.run_id, rules=force)) == {"model"}
    assert ledger.find(store, name) is None


def test_predictions_of_another_model_are_told(run, ask):
    other = run(test={"metrics": {"auc": {"value": 0.99}}})
    (reason,) = ask(other.run_id).reasons
    assert "but the model was written with 0.9900" in reason
    classes = run(classes=("a", "b", "c"))
    (reason,) = ask(classes.run_id).reasons
    assert "the model knows a, b, c" in reason


def test_models_without_a_common_image_or_of_other_classes_cannot_be_compared(run, ask):
    ask(run(seed=1).run_id)
    apart = cases(seed=2)
    renamed = apart.assign(id="x" + apart["id"])
    two = cases(seed=2, classes=("benign", "malignant"))

    assert refusing(ask(run(table=renamed).run_id)) == {"comparable"}
    assert refusing(ask(run(table=two, classes=("benign", "malignant")).run_id)) == {"comparable"}
    assert ask(run(table=renamed).run_id, rules=Rules(force=True)).promoted


def test_images_that_one_was_trained_on_are_told_with_the_number(run, ask):
    champion = run(seed=1)
    ask(champion.run_id)
    table = cases(seed=2, skill=2.0)
    held_out = predictions.of_split(table, "test")["group"]
    seen = run(table=table, train=("t0", "t1", "t2", held_out.iloc[0]))  # its group is "of-g..."
    assert ask(seen.run_id, dry_run=True).promoted
    table["group"] = [f"of-{g}" if g == held_out.iloc[0] else g for g in table["group"]]
    both = cases(seed=1).assign(group=table["group"])

    other = ask(run(table=both).run_id, name="other")
    assert other.promoted
    found = ask(run(table=table, train=("t0", "t1", "t2", held_out.iloc[0])).run_id, name="other")
    assert refusing(found) == {"unseen"}
    assert "2 of the compared images belong to a group" in found.reasons[0]


def test_a_champion_whose_run_is_gone_can_only_be_replaced_by_force(run, ask, store):
    first, second = run(fresh=True, seed=1), run(skill=2.0, seed=2)
    ask(first.run_id)
    store.client.delete_run(first.run_id)
    found = ask(second.run_id)
    assert refusing(found) == {"comparable"}
    assert ask(second.run_id, rules=Rules(force=True)).promoted


def test_a_trial_writes_nothing(run, ask, store, name):
    one = run(fresh=True)
    found = ask(one.run_id, dry_run=True)
    assert found.promoted
    assert ledger.find(store, name) is None
    assert "histo.promotion.decision" not in store.client.get_run(one.run_id).data.tags
    assert "would be promoted" in render(found).splitlines()[-1]


def test_whoever_is_overtaken_is_refused_and_becomes_challenger(run, ask, store, monkeypatch, name):
    first, second, third = (run(skill=1.0 + n, seed=n) for n in range(3))
    ask(first.run_id)

    def faster(*args, **how):
        monkeypatch.setattr(jobs, "decide", decide)
        ask(second.run_id)  # while the other one compares
        return decide(*args, **how)

    decide = jobs.decide
    monkeypatch.setattr(jobs, "decide", faster)
    found = ask(third.run_id)

    assert not found.promoted
    assert "to be version 1, but meanwhile it is version 2" in found.reasons[-1]
    assert "--force" not in str(found.refusal())
    now = ledger.find(store, name)
    assert (now.champion, now.challenger, now.newest.decision) == (2, 3, "refused")
    assert ask(third.run_id).promoted, "compared anew it may win"


def test_the_metric_that_decides_can_be_another_one_and_lower_can_be_better(run, ask):
    ask(run(skill=1.0, seed=1).run_id)
    found = ask(run(skill=2.0, seed=2).run_id, rules=Rules(metric="log_loss"), dry_run=True)
    assert found.promoted
    assert found.gain.better == "lower"
    assert found.gain.gain > 0
    assert found.gain.challenger < found.gain.champion
    with pytest.raises(PromotionError, match=r"Expected a metric, one of auc, .*, got 'mcc'"):
        ask("x", rules=Rules(metric="mcc"))
    binary = ask(run(skill=2.0, seed=2).run_id, rules=Rules(metric="sensitivity"), dry_run=True)
    assert refusing(binary) == {"comparable"}


def test_probabilities_are_compared_as_they_are_served(run, ask):
    """Two models of one set of logits differ in nothing but their temperature."""
    table = cases(seed=1)
    ask(run(table=table, calibration={"temperature": 1.0, "thresholds": {}}).run_id)
    hot = run(table=table, calibration={"temperature": 5.0, "thresholds": {}})
    found = ask(hot.run_id, rules=Rules(metric="log_loss"), dry_run=True)
    logits = predictions.logits_of(predictions.of_split(table, "test"))
    truth = predictions.targets_of(predictions.of_split(table, "test"))

    def loss(z):
        z = z - z.max(1, keepdims=True)
        return float((np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), truth]).mean())

    assert found.gain.champion == pytest.approx(loss(logits))
    assert found.gain.challenger == pytest.approx(loss(logits / 5))


def test_back_to_the_champion_before_and_forward_only_by_force(
    run, ask, store, store_uri, where, name
):
    weak, strong = run(skill=1.0, seed=1), run(skill=2.0, seed=2)
    ask(weak.run_id), ask(strong.run_id)

    assert roll_back(name, dry_run=True, **where).champion == 1
    assert ledger.find(store, name).champion == 2
    done = roll_back(name, **where)

    assert (done.was, done.champion) == (2, 1)
    assert refusing(ask(strong.run_id)) == {"rolled back"}
    with pytest.raises(PromotionError, match="there is none: the champion is version 1"):
        roll_back(name, **where)
    assert ask(f"models:/{name}@challenger", rules=Rules(force=True)).promoted
    assert "rolled back" in render_status(status(name, tracking_uri=store_uri))


def test_an_earlier_champion_that_is_broken_is_not_gone_back_to(
    run, ask, store, store_uri, where, name
):
    made = [run(fresh=True, skill=float(n), seed=n) for n in (1, 2, 3)]
    for one in made:
        assert ask(one.run_id).promoted
    place = store.client.get_logged_model(made[1].model_id).artifact_location
    shutil.rmtree(place.removeprefix("file://"))

    with pytest.raises(PromotionError, match=r"version 2 .* cannot be gone back to.*--to names"):
        roll_back(name, **where)
    assert ledger.find(store, name).champion == 3
    with pytest.raises(PromotionError, match=r"\(2, 1\), got version 9 with --to"):
        roll_back(name, to=9, **where)
    assert roll_back(name, to=1, **where).champion == 1
    assert status(name, tracking_uri=store_uri).ledger.earlier() == ()


def test_an_alias_moved_by_hand_stops_everything_until_it_is_named(
    run, ask, store, store_uri, name
):
    weak, strong = run(skill=1.0, seed=1), run(skill=2.0, seed=2)
    ask(weak.run_id), ask(strong.run_id)
    store.client.set_registered_model_alias(name, "champion", "1")

    with pytest.raises(PromotionError, match="moved by hand; give --expect 1"):
        ask(strong.run_id)
    seen = status(name, tracking_uri=store_uri)
    assert "moved by hand to version 1" in seen.warning
    assert "WARN" in render_status(seen)
    assert ask(strong.run_id, expect="1").promoted
    assert [entry.decision for entry in ledger.find(store, name).entries][2:] == [
        "adopted", "promoted",
    ]  # fmt: skip


def test_one_model_has_one_version_however_often_it_is_asked_for(run, ask, store, name):
    ask(run(skill=2.0, seed=2).run_id)
    weak = run(skill=1.0, seed=1)
    assert {ask(weak.run_id).version for _ in range(3)} == {2}
    assert len(versions(store, name)) == 2


def test_a_champion_by_hand_without_a_model_of_ours_is_compared_with_by_force_only(
    run, ask, store, name
):
    store.client.create_registered_model(name)
    store.client.create_model_version(name, "/nowhere", await_creation_for=0)
    store.client.set_registered_model_alias(name, "champion", "1")
    one = run()
    with pytest.raises(PromotionError, match="--adopt"):
        ask(one.run_id)
    assert refusing(ask(one.run_id, adopt=True)) == {"comparable"}
    assert ask(one.run_id, rules=Rules(force=True)).promoted


def test_mistakes_are_told_in_one_sentence(run, ask, store, tmp_path, store_uri, name):
    two = run(fresh=True)
    store.client.finalize_logged_model(
        store.client.create_logged_model(
            store.client.get_run(two.run_id).info.experiment_id, source_run_id=two.run_id
        ).model_id,
        "READY",
    )
    for reference, told in {
        "c" * 32: "has no such run",
        "m-" + "c" * 32: "none of that id",
        "": "has no such run",
        "no/where": "has no such run",
        "models:/none@champion": "has no such version",
        two.run_id: "has 2 models: name the one that is meant",
    }.items():
        with pytest.raises(PromotionError, match=told):
            ask(reference)
    for wrong in ("", " ", "a/b", "a:b", "a@b", "x" * 300):
        with pytest.raises(PromotionError, match="Expected the name of a registered model"):
            ask(two.model_id, name=wrong)
    with pytest.raises(TrackingError, match="there is no tracking store"):
        promote("x", name=name, tracking_uri=f"sqlite:///{tmp_path}/none.db")
    for call in (status, roll_back):
        with pytest.raises(HistoMlflowError, match="no registered model 'none'"):
            call("none", tracking_uri=store_uri)


def test_a_decision_that_cannot_be_kept_says_who_is_champion(run, ask, store, monkeypatch, name):
    one = run()

    def fails(*_):
        raise TrackingError("the disk of the store is full")

    monkeypatch.setattr(jobs, "write_record", fails)
    with pytest.raises(TrackingError) as caught:
        ask(one.run_id)
    assert caught.value.__notes__ == [f"version 1 of {name} is the champion all the same"]
    assert ledger.find(store, name).champion == 1


def test_a_cross_validation_is_judged_by_its_out_of_fold_predictions(run, ask):
    folds = run(seed=1, calibration=None, tags={"histo.crossval.folds": "5"})
    assert refusing(ask(folds.run_id)) == {"calibration"}
    assert ask(folds.run_id, rules=Rules(force=True)).promoted
    found = ask(run(skill=2.0, seed=2).run_id)
    assert found.promoted
    assert any("out-of-fold" in note for note in found.decision.notes)


def test_the_ledger_and_the_registry_speak_of_the_same_version(run, ask, store, name):
    one = run()
    ask(one.run_id)
    entry = ledger.find(store, name).newest
    assert (entry.version, entry.model_id, entry.run_id) == (1, one.model_id, one.run_id)


def test_the_address_of_the_store_is_left_as_it_was(run, ask, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///elsewhere.db")
    assert ask(run(seed=1).run_id).promoted
    assert os.environ["MLFLOW_TRACKING_URI"] == "sqlite:///elsewhere.db"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert ask(run(skill=2.0, seed=2).run_id).promoted
    assert "MLFLOW_TRACKING_URI" not in os.environ
