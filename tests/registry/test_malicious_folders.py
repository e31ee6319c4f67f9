"""Model folders with something in them that wants to run: none of it does.

All are read in one process that is watched by Python's audit hook; see `hostile_folders`.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import hostile_folders as hostile
from histo_mlflow.errors import ModelError, ModelFolderError
from histo_mlflow.registry import model_folder as reading
from histo_mlflow.registry.model_folder import folder_digest, read_model_folder
from histo_mlflow.registry.predictor import Predictor

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs links, pipes and limits")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory, write_folder: Callable[..., Path]) -> Path:
    return write_folder(tmp_path_factory.mktemp("hostile") / "sound", card="# Card")


def mlflow_model(folder: Path, at: Path) -> Path:
    """What MLflow makes of a model folder, as far as a reader could stumble over it."""
    shutil.copytree(folder, at / "artifacts" / "model_folder")
    (at / "code").mkdir()
    flavor = {"loader_module": "mlflow.pyfunc.model", "model_code_path": "serving_model.py"}
    (at / "MLmodel").write_text(yaml.safe_dump({"flavors": {"python_function": flavor}}))
    (at / "serving_model.py").write_text("")
    return at


@pytest.fixture(scope="module")
def read(sound: Path) -> dict[str, Any]:
    """What came of each case, by its name."""
    root = sound.parent
    cases = root / "cases"
    cases.mkdir()
    names = {}
    for kind, attacks in (("folder", hostile.REFUSED), ("logged", hostile.LOGGED)):
        for k, (name, (make, _)) in enumerate(attacks.items()):
            at = cases / f"{kind}-{k:03d}"
            at.mkdir()
            if kind == "folder":
                model = Path(shutil.copytree(sound, at / "model"))
            else:
                model = mlflow_model(sound, at / "model")
            make(model, at / hostile.CANARY)
            names[at.name] = name
    done = subprocess.run(
        [sys.executable, hostile.__file__, str(root)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    return {
        "peak_mib": found["peak_mib"],
        "canaries": [path.parent.name for path in cases.glob(f"*/{hostile.CANARY}")],
        **{names[key]: value for key, value in found["cases"].items()},
    }


@pytest.mark.parametrize("name", list(hostile.REFUSED))
def test_a_hostile_model_folder_is_refused_in_one_plain_sentence(
    read: dict[str, Any], name: str
) -> None:
    outcome = read[name]["outcome"]
    assert outcome.startswith("refused "), outcome
    assert re.search(hostile.REFUSED[name][1], outcome), outcome
    assert "Traceback" not in outcome
    assert len(outcome) < 1000


@pytest.mark.parametrize("name", list(hostile.LOGGED))
def test_of_an_mlflow_model_only_the_model_folder_is_looked_at(
    read: dict[str, Any], sound: Path, name: str
) -> None:
    outcome, says = read[name]["outcome"], hostile.LOGGED[name][1]
    if says is None:
        assert outcome == f"read {folder_digest(sound)}"
    else:
        assert outcome.startswith("refused ")
        assert says in outcome, outcome


def test_nothing_of_them_is_executed_and_none_takes_long_or_much_memory(
    read: dict[str, Any],
) -> None:
    cases = {name: read[name] for name in (*hostile.REFUSED, *hostile.LOGGED)}
    executed = {name: case["events"] for name, case in cases.items() if case["events"]}
    print(f"{len(executed) + len(read['canaries'])} executed of {len(cases)}")
    assert len(cases) >= 60
    assert executed == {}
    assert read["canaries"] == []
    slow = {name: case["seconds"] for name, case in cases.items() if case["seconds"] > 10}
    assert slow == {}
    assert read["peak_mib"] < 3000


def test_the_canary_sings_where_a_pickle_is_loaded(sound: Path, tmp_path: Path) -> None:
    """The watch itself: the same bomb, loaded as MLflow's own loader would."""
    canary = tmp_path / "canary"
    (tmp_path / "bomb").write_bytes(hostile.pickled(canary))
    script = (
        "import sys; sys.path.insert(0, sys.argv[3]); import hostile_folders, pickle, pathlib\n"
        "events = []; hostile_folders.watch(pathlib.Path(sys.argv[2]), events)\n"
        "pickle.load(open(sys.argv[1], 'rb')); print(events)"
    )
    arguments = [str(tmp_path / "bomb"), str(tmp_path), str(Path(hostile.__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True
    )
    assert canary.exists()
    assert "pickle.find_class" in done.stdout
    assert "os.system" in done.stdout


def test_every_byte_counts(sound: Path, tmp_path: Path) -> None:
    """120 bytes anywhere, each altered by one bit: refused, or known to be another model."""
    random = np.random.default_rng(4)
    copy = Path(shutil.copytree(sound, tmp_path / "copy"))
    digest = folder_digest(sound)
    for path in sorted(copy.iterdir()):
        whole = path.read_bytes()
        for place in random.integers(len(whole), size=40):
            data = bytearray(whole)
            data[place] ^= 1 << int(random.integers(8))
            path.write_bytes(data)
            try:
                model = read_model_folder(copy)
            except ModelFolderError:
                continue
            assert path.name == "model.json"
            assert model.digest != digest
        path.write_bytes(whole)
    assert read_model_folder(copy).digest == digest


def test_weights_that_are_swapped_after_the_check_are_refused(
    sound: Path, write_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time between looking and using: the model is built in between, which takes a while."""
    copy = Path(shutil.copytree(sound, tmp_path / "copy"))
    other = write_folder(tmp_path / "other", seeds=(9,))
    build = reading.build

    def swap_and_build(spec: Any) -> Any:
        (other / "weights.safetensors").replace(copy / "weights.safetensors")
        return build(spec)

    monkeypatch.setattr(reading, "build", swap_and_build)
    with pytest.raises(ModelFolderError, match=r"weights.safetensors was altered"):
        read_model_folder(copy)


def test_a_description_that_is_swapped_after_the_check_is_not_what_the_digest_says(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(sound, tmp_path / "copy"))
    digest, build = folder_digest(copy), reading.build

    def swap_and_build(spec: Any) -> Any:
        hostile.edit(copy, ("provenance", "metrics"), {"test/auc": 1.0})
        return build(spec)

    monkeypatch.setattr(reading, "build", swap_and_build)
    model = read_model_folder(copy)
    assert (model.digest, model.facts["metrics"]) == (digest, {"test/auc": 0.9})


def test_a_link_that_is_put_in_place_of_the_weights_after_the_check_is_refused(
    sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(sound, tmp_path / "copy"))
    build = reading.build

    def swap_and_build(spec: Any) -> Any:
        hostile.link("weights.safetensors")(copy, tmp_path)
        return build(spec)

    monkeypatch.setattr(reading, "build", swap_and_build)
    with pytest.raises(ModelFolderError, match="is a link or no plain file"):
        read_model_folder(copy)


def test_a_hard_link_is_a_file_like_any_other(sound: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sound, tmp_path / "copy"))
    weights = copy / "weights.safetensors"
    os.link(weights, tmp_path / "outside")
    assert read_model_folder(copy).digest == folder_digest(sound)
    with (tmp_path / "outside").open("r+b") as file:
        file.write(b"\0")
    with pytest.raises(ModelFolderError, match="was altered"):
        read_model_folder(copy)


def test_a_model_that_answers_with_no_number_says_so(
    sound: Path, tmp_path: Path, images: list[bytes]
) -> None:
    """Statistics so small that a pixel overflows: a NaN would be taken for the first class."""
    copy = Path(shutil.copytree(sound, tmp_path / "copy"))
    hostile.spec("std", [1e-320] * 3)(copy, tmp_path)
    with pytest.raises(ModelError, match="NaN or infinity, which is no probability"):
        Predictor(copy).predict_bytes(images[:1])


def test_markup_in_the_name_of_a_class_stays_a_name(sound: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(sound, tmp_path / "copy"))
    names = ("<script>alert(1)</script>", "../../etc", "{{7*7}}")
    hostile.spec("classes", names)(copy, tmp_path)
    assert read_model_folder(copy).spec.classes == names
