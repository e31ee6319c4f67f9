"""What is served is what MLflow's own server says of the same model, and what `Predictor` says."""

import asyncio
import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model
from mlflow.pyfunc import PyFuncModel, scoring_server

from histo_mlflow.inference.serving.app import Access, App
from histo_mlflow.inference.serving.explain import Explainer
from histo_mlflow.inference.serving.limits import Limits
from histo_mlflow.inference.serving.model import ServedModel
from histo_mlflow.registry.answer import answer_columns
from histo_mlflow.registry.log_model import signature
from histo_mlflow.registry.model_folder import read_model_folder
from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.registry.serving_model import PatchClassifier
from serving_client import Client, png

JSON, PNG, PARQUET = b"application/json", b"image/png", b"application/vnd.apache.parquet"
IMAGES = [png(1), png(2, 64, 96, "JPEG"), png(3, 33, 50, "TIFF"), png(4, kind="JPEG")]
TEXTS = [base64.b64encode(data).decode() for data in IMAGES]
FORMS: dict[str, Any] = {
    "dataframe_split": {"dataframe_split": {"columns": ["image"], "data": [[t] for t in TEXTS]}},
    "split with an id": {
        "dataframe_split": {"columns": ["id", "image"], "data": [[0, text] for text in TEXTS]}
    },
    "dataframe_records": {"dataframe_records": [{"image": text} for text in TEXTS]},
    "inputs": {"inputs": {"image": TEXTS}},
    "inputs, a list": {"inputs": TEXTS},
    "inputs, one": {"inputs": {"image": TEXTS[0]}},
    "instances": {"instances": [{"image": text} for text in TEXTS]},
    "instances, a list": {"instances": TEXTS},
}
BAD = [b"", b"no image", IMAGES[0], IMAGES[1][:99]]
BAD_TEXTS = [base64.b64encode(data).decode() for data in BAD]
REASONS = (
    "3 of 4 images cannot be used: image 0: empty file; image 1: not a JPEG, PNG or TIFF; image 3: "
)


def parquet(images: list[bytes]) -> bytes:
    file = io.BytesIO()
    pd.DataFrame({"image": images}).to_parquet(file)
    return file.getvalue()


@pytest.fixture(scope="module")
def predictor(served_folder: Path) -> Predictor:
    return Predictor(served_folder)


@pytest.fixture(scope="module")
def client(served_folder: Path, predictor: Predictor) -> Iterator[Client]:
    limits = Limits(images=100)
    model = ServedModel(predictor, "demo v3", limits)
    explainer = Explainer(read_model_folder(served_folder).members, predictor.rule)
    app = App(model, explainer, limits, Access(None, None), {})
    yield Client(app)
    app.workers.close()


@pytest.fixture(scope="module")
def mlflows(predictor: Predictor) -> Client:
    """MLflow's own application around the model as it is logged."""
    logged = PatchClassifier()
    logged._predictor, logged._version = predictor, "demo v3"

    class Loaded:
        def predict(self, data: Any, params: Any = None) -> pd.DataFrame:
            return logged.predict(None, data, params)

    flavors = {"python_function": {"loader_module": "x"}}
    meta = Model(signature=signature(predictor.classes), flavors=flavors)
    return Client(scoring_server.init(PyFuncModel(meta, Loaded())))


def test_answers_are_the_predictors_bit_by_bit(client: Client, predictor: Predictor) -> None:
    many = (IMAGES * 20)[:70]  # more than one batch
    texts = [base64.b64encode(data).decode() for data in many]
    answer = client("POST", "/invocations", json.dumps({"inputs": texts}).encode(), kind=JSON)
    rows = answer.json["predictions"]
    expected = predictor.predict_bytes(many)
    assert [list(row) for row in rows] == [answer_columns(predictor.classes)] * 70
    found = [[row[f"p_{name}"] for name in predictor.classes] for row in rows]
    np.testing.assert_array_equal(found, expected)
    assert [row["abstain"] for row in rows] == [bool(p.max() < 0.6) for p in expected]
    assert {(row["model_version"], row["model_digest"]) for row in rows} == {
        ("demo v3", predictor.digest)
    }


@pytest.mark.parametrize("form", FORMS)
def test_json_is_answered_as_by_mlflows_own_server(
    client: Client, mlflows: Client, form: str
) -> None:
    body = json.dumps(FORMS[form]).encode()
    ours = client("POST", "/invocations", body, kind=JSON)
    theirs = mlflows("POST", "/invocations", body, kind=JSON)
    assert (ours.status, ours.body) == (200, theirs.body)
    assert ours.headers["content-type"] == theirs.headers["content-type"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_tables_are_answered_as_by_mlflows_own_server(
    client: Client, mlflows: Client, kind: str
) -> None:
    text = "id,image\n" + "".join(f"{i},{t}\n" for i, t in enumerate(TEXTS))
    body, mime = (text.encode(), b"text/csv") if kind == "csv" else (parquet(IMAGES), PARQUET)
    ours = client("POST", "/invocations", body, kind=mime)
    assert (ours.status, ours.body) == (200, mlflows("POST", "/invocations", body, kind=mime).body)


@pytest.mark.parametrize("kind", [PNG, b"image/jpeg", b"image/tiff", b"application/octet-stream"])
def test_one_image_as_it_is_gets_one_row(client: Client, predictor: Predictor, kind: bytes) -> None:
    rows = client("POST", "/invocations", IMAGES[0], kind=kind).json["predictions"]
    expected = predictor.predict_bytes(IMAGES[:1])[0]
    assert [[row[f"p_{name}"] for name in predictor.classes] for row in rows] == [expected.tolist()]


def test_no_rows_get_no_rows(client: Client) -> None:
    body = b'{"dataframe_split": {"columns": ["image"], "data": []}}'
    answer = client("POST", "/invocations", body, kind=JSON)
    assert (answer.status, answer.json) == (200, {"predictions": []})


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (JSON, json.dumps({"inputs": BAD_TEXTS}).encode()),
        (JSON, json.dumps({"instances": [{"image": text} for text in BAD_TEXTS]}).encode()),
        (JSON, json.dumps({"dataframe_records": [{"image": t} for t in BAD_TEXTS]}).encode()),
        (PARQUET, parquet(BAD)),
    ],
    ids=["inputs", "instances", "records", "parquet"],
)
def test_every_bad_row_is_a_400_with_its_number_and_reason(
    client: Client, kind: bytes, body: bytes
) -> None:
    answer = client("POST", "/invocations", body, kind=kind)
    assert (answer.status, answer.json["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert answer.json["message"].startswith(REASONS)
    assert set(answer.json) == {"error_code", "message"}


def test_bad_rows_of_csv_are_named(client: Client) -> None:
    body = "\n".join(["image,id", *(f"{text},1" for text in [*BAD_TEXTS, "%"])]).encode()
    answer = client("POST", "/invocations", body, kind=b"text/csv")
    assert answer.status == 400
    assert "image 0: bytes or base64 text was expected, got nothing" in answer.json["message"]
    assert "image 4: the text is not base64" in answer.json["message"]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"text/csv", b""),
        (b"text/csv", b"\xff\xfe\x00"),
        (b"text/csv", b'image\n"' + b"x" * 100),
        (b"text/csv", b"picture\nabc\n"),
        (JSON, b"{"),
        (PARQUET, b"PAR1"),
    ],
)
def test_what_mlflow_cannot_read_is_told_in_our_words(
    client: Client, kind: bytes, body: bytes
) -> None:
    answer = client("POST", "/invocations", body, kind=kind)
    assert answer.status == 400
    said = answer.json["message"]
    assert not [word for word in ("Traceback", "mlflow", "pandas", "\n", ".py") if word in said]


def test_an_image_above_the_limit_is_refused_by_its_header(predictor: Predictor) -> None:
    limits = Limits(pixels=64 * 96)
    model = ServedModel(predictor, "demo v3", limits)
    app = App(model, Explainer((), predictor.rule), limits, Access(None, None), {})
    good = Client(app)("POST", "/invocations", IMAGES[1], kind=PNG)
    answer = Client(app)("POST", "/invocations", png(1, 65, 96), kind=PNG)
    app.workers.close()
    assert (good.status, answer.status) == (200, 400)
    assert "image 0: too large: 65 x 96 pixels, at most 6,144 are read" in answer.json["message"]


def test_an_explanation_has_the_same_answer_and_two_pictures(client: Client) -> None:
    plain = client("POST", "/invocations", IMAGES[1], kind=PNG).json["predictions"][0]
    found = client("POST", "/explain", IMAGES[1], kind=PNG).json
    assert (found["prediction"], found["explained"]) == (plain, plain["class"])
    for name in ("seen", "overlay"):
        assert found[name].startswith("data:image/png;base64,iVBOR")
    other = client("POST", "/explain", IMAGES[1], kind=PNG, query=b"class=b%26c").json
    assert (other["prediction"], other["explained"]) == (plain, "b&c")


def test_explanations_take_one_image_and_a_class_of_the_model(client: Client) -> None:
    assert client("POST", "/explain", b"{}", kind=JSON).status == 415
    assert client("POST", "/explain", b"bad", kind=PNG).status == 400
    answer = client("POST", "/explain", IMAGES[0], kind=PNG, query=b"class=../etc")
    assert (answer.status, answer.json["message"]) == (400, "The model has no class of that name.")


def test_eight_clients_at_once_each_get_their_own_answer(client: Client) -> None:
    async def run() -> list[Any]:
        asked = [client.send("POST", "/invocations", data, kind=PNG) for data in IMAGES * 2]
        return await asyncio.gather(*asked)

    answers = [answer.body for answer in asyncio.run(run())]
    alone = [client("POST", "/invocations", data, kind=PNG).body for data in IMAGES]
    assert len(set(alone)) == len(IMAGES)
    assert answers == alone * 2
