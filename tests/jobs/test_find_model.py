"""Whatever a model is called, the same folder is found, and nothing that lies beside it is run."""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

import finished_runs
import hostile_folders as hostile
import model_folders
from histo_mlflow.errors import DataError, HistoMlflowError, ModelFolderError, TrackingError
from histo_mlflow.jobs.find_model import FoundModel, find_model
from histo_mlflow.registry.log_model import log_once
from histo_mlflow.registry.model_folder import folder_digest, read_model_folder
from histo_mlflow.tracking.start import start_run
from histo_mlflow.tracking.store import connect

NAME = "histo-pcam"
ELSEWHERE = "f" * 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folders.write(tmp_path_factory.mktemp("models") / "model")


class Store:
    """A store with one registered model; its files can be tampered with and put back."""

    def __init__(self, at: Path, database: Path, folder: Path) -> None:
        self.uri = f"sqlite:///{shutil.copy(database, at / 'mlflow.db')}"
        with start_run(connect(self.uri), "demo", "first", {}, {}, system_metrics=False) as run:
            self.run_id = run.run_id
            self.model_id = log_once(run, folder, model_folders.image(0))
        client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        location = client.get_logged_model(self.model_id).artifact_location
        self.files = Path(location.removeprefix("file://"))
        client.create_registered_model(NAME)
        with pytest.MonkeyPatch.context() as patch:
            # MLflow's registry looks for the logged model in the store of the environment.
            patch.setenv("MLFLOW_TRACKING_URI", self.uri)
            client.create_model_version(NAME, f"models:/{self.model_id}")
        client.set_registered_model_alias(NAME, "champion", "1")
        self.client = client


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, fresh_database: Path, folder: Path) -> Store:
    return Store(tmp_path_factory.mktemp("store"), fresh_database, folder)


@pytest.fixture
def files(store: Store, tmp_path: Path) -> Iterator[Path]:
    """The files of the logged model, put back afterwards."""
    shutil.copytree(store.files, tmp_path / "kept", symlinks=True)
    yield store.files
    shutil.rmtree(store.files)
    shutil.copytree(tmp_path / "kept", store.files, symlinks=True)


def found_as(reference: str, store: Store, runs_dir: Path) -> FoundModel:
    with find_model(reference, tracking_uri=store.uri, runs_dir=runs_dir) as found:
        assert read_model_folder(found.folder).digest == found.digest
    return found


def test_every_name_of_a_model_leads_to_the_same_folder(
    store: Store, folder: Path, tmp_path: Path
) -> None:
    version = f"{NAME} v1"
    names = {
        f"models:/{NAME}@champion": version,
        f"models:/{NAME}/1": version,
        f"models:/{store.model_id}": store.model_id,
        store.model_id: store.model_id,
        store.run_id: store.model_id,
        f"runs:/{store.run_id}/model": store.model_id,
    }
    for name, called in names.items():
        found = found_as(name, store, tmp_path)
        assert (found.reference, found.version) == (name, called)
        assert (found.digest, found.run_id) == (folder_digest(folder), store.run_id)
        assert found.model_id == store.model_id
        registered = (NAME, 1) if called == version else (None, None)
        assert (found.registered_name, found.registered_version) == registered
        assert not found.folder.exists(), "what was fetched is gone"


def test_folders_are_found_without_a_store(
    store: Store, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    digest = folder_digest(folder)
    for place in (folder, store.files):
        with find_model(str(place)) as found:
            assert (found.version, found.digest, found.run_id) == (digest[:12], digest, None)
            assert found.folder.is_relative_to(place)
    assert folder.is_dir()
    assert not (tmp_path / "mlflow.db").exists()


def test_a_run_that_is_here_is_taken_from_its_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = finished_runs.write_run(tmp_path / "runs" / ELSEWHERE, ELSEWHERE, finished_runs.cases())
    if run.model.is_dir():
        shutil.rmtree(run.model)
    shutil.copytree(folder, run.model)
    monkeypatch.chdir(tmp_path)
    for reference in (ELSEWHERE, f"runs/{ELSEWHERE}"):
        with find_model(reference) as found:
            assert found.run_id == ELSEWHERE
            assert found.folder.resolve() == run.model.resolve()
            assert found.digest == folder_digest(folder)


@pytest.mark.parametrize(
    ("reference", "kind", "says"),
    [
        ("", ModelFolderError, "Expected a model of the registry"),
        ("models:/", DataError, "Expected a model"),
        ("models:/../../etc/passwd", DataError, "Expected a model"),
        ("models:/a@b@c", DataError, "Expected a model"),
        ("file:///etc", DataError, "Expected a model"),
        ("https://example.org/model", DataError, "Expected a model"),
        ("x" * 5000, DataError, "Expected a model"),
        ("a\0b", DataError, "Expected a model"),
        ("models:/nobody@champion", TrackingError, "has no model models:/nobody@champion"),
        (f"models:/{NAME}@challenger", TrackingError, "has no model"),
        (f"models:/{NAME}/99", TrackingError, "has no model"),
        (f"m-{'0' * 32}", TrackingError, "has no model m-000"),
        (ELSEWHERE, DataError, "has no such run"),
    ],
)
def test_what_is_no_model_is_one_plain_sentence(
    store: Store, tmp_path: Path, reference: str, kind: type[HistoMlflowError], says: str
) -> None:
    with (
        pytest.raises(kind, match=says) as caught,
        find_model(reference, tracking_uri=store.uri, runs_dir=tmp_path),
    ):
        pass
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'none.db'}"
    with (
        pytest.raises(TrackingError, match="there is no tracking store"),
        find_model(f"models:/{NAME}@champion", tracking_uri=uri),
    ):
        pass
    assert not (tmp_path / "none.db").exists()


EVENTS: list[str] = []
WATCHED: list[Path] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    """Once in a process a hook stays, so that it looks only where a test says so."""
    if WATCHED and event in ("os.system", "subprocess.Popen", "pickle.find_class"):
        EVENTS.append(event)
    elif WATCHED and event == "exec":
        name = getattr(arguments[0], "co_filename", "")
        EVENTS.extend(f"exec {name}" for place in WATCHED if str(place) in name)


@pytest.fixture
def watched(files: Path, tmp_path: Path) -> Iterator[Callable[[], list[str]]]:
    if _hook not in _HOOKED:
        sys.addaudithook(_hook)
        _HOOKED.append(_hook)
    EVENTS.clear()
    WATCHED.append(files)
    path = list(sys.path)
    yield lambda: list(EVENTS)
    WATCHED.clear()
    assert sys.path == path, "code that came along was put on the path"


_HOOKED: list[object] = []


@pytest.mark.parametrize("name", [key for key, (_, says) in hostile.LOGGED.items() if not says])
def test_what_an_mlflow_model_brings_along_is_not_run(
    store: Store,
    files: Path,
    folder: Path,
    watched: Callable[[], list[str]],
    tmp_path: Path,
    name: str,
) -> None:
    canary = tmp_path / "canary"
    hostile.LOGGED[name][0](files, canary)
    for reference in (f"models:/{NAME}@champion", store.model_id, str(files)):
        found = found_as(reference, store, tmp_path)
        assert found.digest == folder_digest(folder)
    assert watched() == []
    assert not canary.exists()


def test_the_watch_sees_what_mlflow_itself_would_run(
    files: Path, watched: Callable[[], list[str]], tmp_path: Path
) -> None:
    """The control: the same model, loaded by MLflow, runs its code."""
    canary = tmp_path / "canary"
    (files / "serving_model.py").write_text(hostile.code(canary))
    before = list(sys.path)
    mlflow.pyfunc.load_model(str(files))
    sys.path[:] = before
    assert canary.exists()
    assert watched() != []


INSIDE: dict[str, tuple[hostile.Make, str]] = {
    **{
        name: hostile.REFUSED[name]
        for name in ("an added pickle", "a card altered", "a linked file of weights")
    },
    "a pipe for the weights": (hostile.REFUSED["a pipe for the weights"][0], "."),
    "a link to a device without an end": (
        hostile.REFUSED["a link to a device without an end"][0],
        ".",
    ),
}


@pytest.mark.parametrize("name", list(INSIDE))
def test_an_altered_model_folder_of_a_store_is_refused(
    store: Store, files: Path, tmp_path: Path, name: str
) -> None:
    """As fetched by MLflow, which follows links within the model and refuses those out of it."""
    hostile.inside(INSIDE[name][0])(files, tmp_path / "canary")
    if name == "a linked file of weights":
        with pytest.raises(ModelFolderError, match="is a link or no plain file"):
            found_as(str(files), store, tmp_path)
        return
    with pytest.raises(HistoMlflowError) as caught:
        found_as(f"models:/{NAME}@champion", store, tmp_path)
    assert "Traceback" not in str(caught.value)


def test_a_description_altered_since_it_was_logged_is_refused(
    store: Store, files: Path, tmp_path: Path
) -> None:
    """In itself it is sound, its seals are new: only the store knows that it was another."""
    inside = files / "artifacts" / "model_folder"
    hostile.edit(inside, ("provenance", "metrics"), {"test/auc": 1.0})
    assert found_as(str(files), store, tmp_path).digest == folder_digest(inside)
    for reference in (f"models:/{NAME}@champion", store.model_id, store.run_id):
        with pytest.raises(ModelFolderError, match=r"model.json of .* was altered since"):
            found_as(reference, store, tmp_path)
