"""Batch prediction: what the plain predictor says, whole or not at all, and gone on with."""

import hashlib
import json
import os
import shutil
import signal
import zipfile

import numpy as np
import pandas as pd
import pytest

from histo_mlflow.errors import DataError, DiskError, Interrupted, ResumeError
from histo_mlflow.inference import chunks
from histo_mlflow.inference.engine import make_engine
from histo_mlflow.inference.shards import Shard
from histo_mlflow.jobs import _predict_models
from histo_mlflow.jobs import predict as job
from histo_mlflow.jobs._predict_models import chosen_models
from histo_mlflow.jobs.predict import Wanted, predict
from histo_mlflow.jobs.predict_merge import merge_shards
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.registry.model_folder import folder_digest
from histo_mlflow.registry.predictor import Predictor
from tiny_models import CLASSES, image_bytes, write_images, write_model

QUIET = Talk(quiet=True)
P = [f"p_{name}" for name in CLASSES]
SMALL = Wanted(batch_size=4, chunk_images=8, threads=2)
N = 42


@pytest.fixture(scope="module", autouse=True)
def engines():
    """Each engine is prepared once; that takes longer than predicting."""
    made = {}

    def cached(model, kind="torch", **options):
        key = (model.digest, kind, *sorted(options.items()))
        if key not in made:
            made[key] = make_engine(model, kind, **options)
        return made[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_predict_models, "make_engine", cached)
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "model")


@pytest.fixture(scope="module")
def other_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "other"
    return write_model(folder, seed=2, temperature=2.0, abstain=ABSTAIN)


ABSTAIN = {"below": 0.6, "share": 0.1, "rows": 100}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, N)
    return folder


@pytest.fixture
def run(model, images, tmp_path):
    """Predict all images, unless told otherwise."""

    def go(inputs=None, out="p.parquet", wanted=SMALL, models=None, talk=QUIET):
        return predict(
            [str(one) for one in inputs or [images]],
            tmp_path / out,
            wanted,
            models=[str(one) for one in models or [model]],
            tracking_uri=f"sqlite:///{tmp_path}/none.db",
            talk=talk,
        )

    return go


@pytest.fixture
def expected(model, images):
    """What the plain predictor says of each image."""
    predictor = Predictor(model)
    names = sorted(p.relative_to(images).as_posix() for p in images.rglob("*.*"))
    answers = predictor.predict_bytes([(images / name).read_bytes() for name in names])
    return pd.DataFrame(answers, index=names, columns=P)


def changed(wanted=SMALL, **values):
    return Wanted(**{**vars(wanted), **values})


def bad_copy(images, tmp_path, names=("slide0/0000.jpg", "slide1/0007.png")):
    folder = tmp_path / "bad"
    shutil.copytree(images, folder)
    for name in names:
        (folder / name).write_bytes((folder / name).read_bytes()[:200])
    return folder, list(names)


def test_answers_are_those_of_the_plain_predictor(run, expected, model, tmp_path):
    done = run()

    found = pd.read_parquet(tmp_path / "p.parquet")
    assert list(found.columns) == ["id", "class", *P, "abstain", "model_version", "model_digest"]
    assert found["id"].tolist() == expected.index.tolist()
    np.testing.assert_allclose(found[P], expected, atol=1e-6)
    assert found["class"].tolist() == [CLASSES[k] for k in expected.to_numpy().argmax(axis=1)]
    assert len(set(found["class"])) > 1  # or the comparison would say little
    assert set(found["model_digest"]) == {folder_digest(model)}
    assert not found["abstain"].any()
    assert (done.images, done.bad, done.reused) == (N, 0, 0)
    assert sum(done.classes.values()) == N
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.parquet"]


def test_a_csv_says_the_same(run, tmp_path):
    run()
    run(out="p.csv")

    table, text = pd.read_parquet(tmp_path / "p.parquet"), pd.read_csv(tmp_path / "p.csv")
    np.testing.assert_allclose(text[P], table[P], rtol=1e-15)
    assert text["id"].tolist() == table["id"].tolist()
    assert sorted(path.name for path in tmp_path.glob("p.csv*")) == ["p.csv", "p.csv.json"]


def test_zip_table_and_kaggle_set_give_the_same_answers(run, images, expected, tmp_path):
    names = expected.index.tolist()
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as opened:
        for name in names:
            opened.write(images / name, name)
    table = pd.DataFrame({"id": range(N), "path": [str(images / name) for name in names]})
    table.iloc[::-1].to_csv(tmp_path / "list.csv", index=False)
    kaggle = tmp_path / "kaggle"
    (kaggle / "test").mkdir(parents=True)
    for index, name in enumerate(names):
        (kaggle / "test" / f"k{index}{(images / name).suffix}").write_bytes(
            (images / name).read_bytes()
        )
    pd.DataFrame({"id": [f"k{i}" for i in range(N)], "label": 0}).to_csv(
        kaggle / "sample_submission.csv", index=False
    )

    run()
    whole = pd.read_parquet(tmp_path / "p.parquet")[P]
    run([tmp_path / "set.zip"], "zip.parquet")
    run([tmp_path / "list.csv"], "table.parquet")
    run([kaggle], "kaggle.parquet")

    zipped = pd.read_parquet(tmp_path / "zip.parquet")
    assert zipped["id"].tolist() == names
    pd.testing.assert_frame_equal(zipped[P], whole)
    listed = pd.read_parquet(tmp_path / "table.parquet")
    assert listed["id"].tolist() == [str(i) for i in reversed(range(N))]
    np.testing.assert_allclose(listed[P].to_numpy()[::-1], whole, atol=1e-6)
    submitted = pd.read_parquet(tmp_path / "kaggle.parquet")
    assert submitted["id"].tolist() == [f"k{i}" for i in range(N)]
    pd.testing.assert_frame_equal(submitted[P], whole)


def test_neither_threads_nor_chunks_change_a_byte(run, tmp_path):
    run(out="a.parquet")
    run(out="b.parquet", wanted=changed(threads=1, chunk_images=16))

    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_the_real_kaggle_tiffs(run, model, realdata, tmp_path):
    folder = realdata / "pcam_kaggle"
    run([folder])

    found = pd.read_parquet(tmp_path / "p.parquet")
    listed = pd.read_csv(folder / "sample_submission.csv")["id"].tolist()
    assert found["id"].tolist() == listed
    data = [(folder / f"test/{name}.tif").read_bytes() for name in listed]
    np.testing.assert_allclose(found[P], Predictor(model).predict_bytes(data), atol=1e-6)


class TestModels:
    def test_its_own_threshold_decides_where_it_abstains(self, run, other_model, tmp_path):
        done = run(models=[other_model])

        found = pd.read_parquet(tmp_path / "p.parquet")
        below = found[P].max(axis=1) < ABSTAIN["below"]
        assert found["abstain"].tolist() == below.tolist()
        assert (done.abstained, done.abstain_below) == (below.sum(), 0.6)
        assert 0 < done.abstained < N

    def test_another_threshold_can_be_given(self, run, other_model, tmp_path):
        assert run(models=[other_model], wanted=changed(abstain_below=1.0)).abstained == N
        assert (
            run(out="q.csv", models=[other_model], wanted=changed(abstain_below=0)).abstained == 0
        )

    def test_several_answer_by_the_mean_of_their_logits(
        self, run, model, other_model, images, tmp_path
    ):
        done = run(models=[model, other_model])

        found = pd.read_parquet(tmp_path / "p.parquet")
        predictors = [Predictor(model), Predictor(other_model)]
        data = [(images / name).read_bytes() for name in found["id"]]
        logs = np.mean([np.log(one.predict_bytes(data)) for one in predictors], axis=0)
        mean = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(found[P], mean, atol=1e-6)
        digests = [folder_digest(model), folder_digest(other_model)]
        assert done.model_digest == hashlib.sha256("".join(digests).encode()).hexdigest()
        assert done.model_version == "+".join(digest[:12] for digest in digests)
        assert done.abstain_below == 0

    def test_other_classes_are_refused(self, run, model, tmp_path):
        stranger = write_model(tmp_path / "stranger", ("mel", "bkl", "nv"))

        with pytest.raises(DataError, match="same classes in the same order"):
            run(models=[model, stranger])

    def test_the_same_one_twice_is_refused(self, run, model):
        with pytest.raises(DataError, match="one of them twice"):
            run(models=[model, model])

    def test_eight_views_are_another_answer(self, run, expected, tmp_path):
        run(wanted=changed(tta=True))

        found = pd.read_parquet(tmp_path / "p.parquet")[P]
        assert np.abs(found.to_numpy() - expected.to_numpy()).max() > 1e-4

    def test_without_one_the_environment_is_asked(self, monkeypatch):
        monkeypatch.setenv("HISTO_MLFLOW_MODEL", "models:/m@champion")

        assert chosen_models([], None, QUIET) == ("models:/m@champion",)
        assert chosen_models(["x"], None, QUIET) == ("x",)

    def test_then_the_only_champion(self, store_uri, monkeypatch):
        from mlflow import MlflowClient

        monkeypatch.delenv("HISTO_MLFLOW_MODEL", raising=False)
        with pytest.raises(DataError, match="no registered model has a champion"):
            chosen_models([], store_uri, QUIET)
        client = MlflowClient(store_uri)
        for name in ("one", "two", "three"):
            client.create_registered_model(name)
            client.create_model_version(name, source="/nowhere")
        client.set_registered_model_alias("two", "champion", "1")
        client.set_registered_model_alias("one", "challenger", "1")
        assert chosen_models([], store_uri, QUIET) == ("models:/two@champion",)
        client.set_registered_model_alias("one", "champion", "1")
        with pytest.raises(DataError, match=r"2 registered models have a champion \(one, two\)"):
            chosen_models([], store_uri, QUIET)

    def test_a_store_that_is_not_there_is_not_made(self, tmp_path, monkeypatch):
        monkeypatch.delenv("HISTO_MLFLOW_MODEL", raising=False)
        with pytest.raises(DataError, match="name a model with --model"):
            chosen_models([], f"sqlite:///{tmp_path}/none.db", QUIET)

        assert list(tmp_path.iterdir()) == []


class TestBadImages:
    def test_they_fail_once_all_were_tried(self, run, images, tmp_path):
        folder, names = bad_copy(images, tmp_path)
        (folder / "text.png").write_text("no image")

        with pytest.raises(DataError) as caught:
            run([folder])

        said = str(caught.value)
        assert f"3 of {N + 1} images cannot be used: slide0/0000.jpg: truncated" in said
        assert "p.parquet.bad.csv" in said
        assert "--on-error skip" in said
        listed = pd.read_csv(tmp_path / "p.parquet.bad.csv")
        assert listed["id"].tolist() == [*names, "text.png"]
        assert listed["path"].tolist()[0] == str(folder / names[0])
        assert listed["reason"].tolist()[2] == "not a JPEG, PNG or TIFF"
        assert not (tmp_path / "p.parquet").exists()

    def test_they_are_skipped_when_asked_without_predicting_again(
        self, run, images, tmp_path, capfd
    ):
        folder, names = bad_copy(images, tmp_path)
        with pytest.raises(DataError):
            run([folder])

        done = run([folder], wanted=changed(skip_bad=True), talk=Talk())

        assert (done.images, done.bad, done.reused) == (N - 2, 2, N)
        found = pd.read_parquet(tmp_path / "p.parquet")
        assert len(found) == N - 2
        assert not set(names) & set(found["id"])
        assert f"WARN     bad-images: 2 of {N} images are left out" in capfd.readouterr().err

    def test_those_that_are_mended_are_done_again_alone(self, run, images, tmp_path, monkeypatch):
        folder, names = bad_copy(images, tmp_path)
        with pytest.raises(DataError):
            run([folder])
        for name in names:
            (folder / name).write_bytes((images / name).read_bytes())
        written = spied(monkeypatch)

        run([folder])

        assert written == [0, 3]  # of six chunks
        run(out="undisturbed.parquet", inputs=[folder])
        assert (tmp_path / "p.parquet").read_bytes() == (
            tmp_path / "undisturbed.parquet"
        ).read_bytes()
        assert not (tmp_path / "p.parquet.bad.csv").exists()

    def test_more_than_five_are_counted(self, run, tmp_path):
        for index in range(7):
            (tmp_path / f"{index}.png").write_bytes(b"")
        (tmp_path / "good.png").write_bytes(image_bytes(1))

        with pytest.raises(DataError, match=r"4.png: empty file; and 2 more\. All are listed"):
            run([tmp_path])

    def test_all_of_them_cannot_be_skipped(self, run, tmp_path):
        (tmp_path / "a.png").write_bytes(b"")

        with pytest.raises(DataError, match="1 of 1 images cannot be used"):
            run([tmp_path], wanted=changed(skip_bad=True))


def spied(monkeypatch, after=None, act=None):
    """Note which chunks are written; `act` after so many."""
    written, original = [], chunks.Work.write

    def write(self, index, items, chunk):
        original(self, index, items, chunk)
        written.append(index)
        if len(written) == after:
            act()

    monkeypatch.setattr(chunks.Work, "write", write)
    return written


class TestGoingOn:
    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["int", "term"]
    )
    def test_a_signal_keeps_what_is_done_and_says_so(
        self, run, tmp_path, monkeypatch, number, code
    ):
        run(out="undisturbed.parquet")
        with monkeypatch.context() as patch:
            spied(patch, 2, lambda: os.kill(os.getpid(), number))
            with pytest.raises(Interrupted) as caught:
                run()

        assert caught.value.exit_code == code
        (note,) = caught.value.__notes__
        assert "of 42 images are kept in" in note
        assert "give the same command again to go on" in note
        assert not (tmp_path / "p.parquet").exists()
        written = spied(monkeypatch)

        done = run()

        assert done.reused >= 8
        assert written[0] in (1, 2)
        assert (tmp_path / "p.parquet").read_bytes() == (
            tmp_path / "undisturbed.parquet"
        ).read_bytes()
        assert not list(tmp_path.glob(".p.parquet*"))

    def test_a_full_disk_keeps_what_is_done(self, run, tmp_path, monkeypatch):
        def full():
            raise DiskError("the disk is full")

        with monkeypatch.context() as patch:
            spied(patch, 3, full)
            with pytest.raises(DiskError) as caught:
                run()

        assert "16 of 42 images are kept" in caught.value.__notes__[0]
        assert run().reused == 24

    def interrupted(self, run, monkeypatch, **options):
        def end():
            raise Interrupted(signal.SIGTERM)

        with monkeypatch.context() as patch:
            spied(patch, 3, end)
            with pytest.raises(Interrupted):
                run(**options)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"batch_size": 2}, "batch size 4 then, 2 now"),
            ({"chunk_images": 16}, "chunk images 8 then, 16 now"),
            ({"tta": True}, "tta False then, True now"),
        ],
        ids=["batch", "chunk", "tta"],
    )
    def test_other_settings_are_refused(self, run, monkeypatch, options, said):
        self.interrupted(run, monkeypatch)

        with pytest.raises(ResumeError, match=said):
            run(wanted=changed(**options))
        assert run().reused == 24

    def test_another_model_is_refused_until_it_begins_anew(
        self, run, other_model, tmp_path, monkeypatch
    ):
        self.interrupted(run, monkeypatch)

        with pytest.raises(ResumeError, match=r"model \w{12}... then, \w{12}... now"):
            run(models=[other_model])
        done = run(models=[other_model], wanted=changed(restart=True))

        assert done.reused == 0
        run(out="q.parquet", models=[other_model])
        assert (tmp_path / "p.parquet").read_bytes() == (tmp_path / "q.parquet").read_bytes()

    def test_other_images_are_refused(self, run, images, tmp_path, monkeypatch):
        folder = tmp_path / "copy"
        shutil.copytree(images, folder)
        self.interrupted(run, monkeypatch, inputs=[folder])
        (folder / "more.png").write_bytes(image_bytes(3))
        with pytest.raises(ResumeError, match="images 42 then, 43 now"):
            run([folder])
        (folder / "more.png").unlink()
        (folder / "slide0/0000.jpg").write_bytes(image_bytes(3, "jpg"))

        with pytest.raises(ResumeError, match=r"between 'slide0/0000.jpg' and .* have changed"):
            run([folder])

    def test_a_damaged_chunk_is_done_again(self, run, tmp_path, monkeypatch):
        run(out="undisturbed.parquet")
        self.interrupted(run, monkeypatch)
        chunk = tmp_path / ".p.parquet.work/chunk-00001.bin"
        chunk.write_bytes(chunk.read_bytes()[:-1] + b"x")
        written = spied(monkeypatch)

        run()

        assert written == [1, 3, 4, 5]
        assert (tmp_path / "p.parquet").read_bytes() == (
            tmp_path / "undisturbed.parquet"
        ).read_bytes()

    def test_other_software_is_told(self, run, tmp_path, monkeypatch, capfd):
        self.interrupted(run, monkeypatch)
        path = tmp_path / ".p.parquet.work/manifest.json"
        noted = json.loads(path.read_text())
        noted["noted"]["torch"] = "1.0"
        path.write_text(json.dumps(noted))

        run(talk=Talk())

        assert "other-software: torch 1.0 then" in capfd.readouterr().err

    def test_a_whole_output_is_not_made_again(self, run, other_model, tmp_path):
        first = run()
        before = (tmp_path / "p.parquet").stat().st_mtime_ns

        again = run()

        assert (again.reused, again.classes, again.images) == (N, first.classes, N)
        assert (tmp_path / "p.parquet").stat().st_mtime_ns == before
        with pytest.raises(DataError, match=r"made otherwise \(model, model_version, settings\)"):
            run(models=[other_model])
        assert run(models=[other_model], wanted=changed(restart=True)).reused == 0

    def test_a_restart_that_was_ended_is_gone_on_with(
        self, run, other_model, tmp_path, monkeypatch
    ):
        run()
        before = (tmp_path / "p.parquet").read_bytes()
        wanted = changed(restart=True)
        self.interrupted(run, monkeypatch, models=[other_model], wanted=wanted)
        assert (tmp_path / "p.parquet").read_bytes() == before

        assert run(models=[other_model]).reused == 24
        run(out="q.parquet", models=[other_model])
        assert (tmp_path / "p.parquet").read_bytes() == (tmp_path / "q.parquet").read_bytes()

    def test_what_an_end_after_the_last_step_leaves_is_removed(self, run, tmp_path, monkeypatch):
        def end(folder):
            raise Interrupted(signal.SIGTERM)

        with monkeypatch.context() as patch:
            patch.setattr(job.files, "remove_folder", end)
            with pytest.raises(Interrupted):
                run()
        assert (tmp_path / ".p.parquet.work").is_dir()

        assert run().reused == N
        assert [path.name for path in tmp_path.iterdir()] == ["p.parquet"]

    def test_a_file_of_somebody_else_is_not_replaced(self, run, tmp_path):
        (tmp_path / "p.csv").write_text("mine")

        with pytest.raises(DataError, match="no prediction of ours"):
            run(out="p.csv")

        assert (tmp_path / "p.csv").read_text() == "mine"
        assert not list(tmp_path.glob(".p.csv*"))

    def test_an_answer_that_is_not_a_number_is_a_bad_image(self, run, monkeypatch, tmp_path):
        original = job.decode_and_predict

        class Broken:
            """An engine whose second answer of each chunk is NaN."""

            def __init__(self, engine):
                self.engine, self.begun = engine, False

            def __getattr__(self, name):
                return getattr(self.engine, name)

            def logits(self, images):
                found = self.engine.logits(images)
                if not self.begun:
                    found[1] = np.nan
                    self.begun = True
                return found

        def broken(members, items, *, batch, threads):
            members = [(Broken(engine), rule) for engine, rule in members]
            return original(members, items, batch=batch, threads=1)

        monkeypatch.setattr(job, "decode_and_predict", broken)

        with pytest.raises(DataError, match=r"6 of 42 .* no finite answer"):
            run()


class TestShards:
    @pytest.mark.parametrize("suffix", ["parquet", "csv"])
    def test_joined_they_are_the_whole_byte_for_byte(self, run, tmp_path, suffix):
        run(out=f"whole.{suffix}")
        sizes = [
            run(out=f"p.{suffix}", wanted=changed(shard=Shard(index, 4))).images
            for index in (3, 1, 4, 2)
        ]

        merged = merge_shards(tmp_path / f"p.{suffix}", talk=QUIET)

        assert sum(sizes) == N == merged.images
        for name in (f"{{}}.{suffix}", *([f"{{}}.{suffix}.json"] if suffix == "csv" else [])):
            assert (tmp_path / name.format("p")).read_bytes() == (
                tmp_path / name.format("whole")
            ).read_bytes()
        assert (tmp_path / f"p-00003-of-00004.{suffix}").is_file()

    def test_a_shard_that_is_made_again_is_the_same(self, run, tmp_path):
        wanted = changed(shard=Shard(2, 3))
        run(wanted=wanted)
        path = tmp_path / "p-00002-of-00003.parquet"
        before = path.read_bytes()
        path.unlink()

        run(wanted=wanted)

        assert path.read_bytes() == before

    def test_a_merged_whole_is_not_predicted_again(self, run, tmp_path):
        for index in (1, 2):
            run(wanted=changed(shard=Shard(index, 2)))
        merge_shards(tmp_path / "p.parquet", talk=QUIET)

        assert run().reused == N
        with pytest.raises(DataError, match="which is there"):
            merge_shards(tmp_path / "p.parquet", talk=QUIET)

    def test_bad_images_are_joined_too(self, run, images, tmp_path):
        folder, names = bad_copy(images, tmp_path)
        for index in (1, 2):
            run([folder], wanted=changed(shard=Shard(index, 2), skip_bad=True))

        merged = merge_shards(tmp_path / "p.parquet", talk=QUIET)

        assert (merged.images, merged.bad) == (N - 2, 2)
        assert pd.read_csv(tmp_path / "p.parquet.bad.csv")["id"].tolist() == names

    def test_what_cannot_be_joined_is_told(self, run, other_model, images, tmp_path):
        out = tmp_path / "p.parquet"
        with pytest.raises(DataError, match="got none"):
            merge_shards(out, talk=QUIET)
        run(wanted=changed(shard=Shard(1, 2)))
        with pytest.raises(DataError, match=r"1 are missing \(2/2\)"):
            merge_shards(out, talk=QUIET)
        run(wanted=changed(shard=Shard(2, 2)), models=[other_model])
        with pytest.raises(DataError, match="differ in model, model_version, settings"):
            merge_shards(out, talk=QUIET)
        (tmp_path / "p-00002-of-00002.parquet").write_bytes(b"damaged")
        with pytest.raises(DataError, match="is damaged"):
            merge_shards(out, talk=QUIET)
        run(wanted=changed(shard=Shard(1, 3)))
        with pytest.raises(DataError, match="parts of 2 and of 3"):
            merge_shards(out, talk=QUIET)
        assert not out.exists()

    def test_shards_of_other_images_are_told(self, run, images, tmp_path):
        run(wanted=changed(shard=Shard(1, 2)))
        folder = tmp_path / "copy"
        shutil.copytree(images, folder)
        (folder / "slide0/0000.jpg").unlink()
        run([folder], wanted=changed(shard=Shard(2, 2)))

        with pytest.raises(DataError, match="differ in input"):
            merge_shards(tmp_path / "p.parquet", talk=QUIET)

    def test_copies_on_other_machines_are_the_same_images(self, run, images, tmp_path):
        folder = tmp_path / "copy"
        shutil.copytree(images, folder, copy_function=shutil.copyfile)  # with other times
        run(wanted=changed(shard=Shard(1, 2)))
        run([folder], wanted=changed(shard=Shard(2, 2)))

        assert merge_shards(tmp_path / "p.parquet", talk=QUIET).images == N
