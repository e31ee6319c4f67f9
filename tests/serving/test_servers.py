"""Both servers of models:/name@champion: every form of a request, bad rows, hostile requests."""

import base64
import json
import sys
from typing import Any

import numpy as np
import pytest
from hostility import trial
from hostility.case import CSV, GOOD, OTHER, PARQUET, parquet, rows, text
from hostility.cases import all_cases, quick
from hostility.servers import Server
from hostility.wire import exchange_until_served, request

from histo_mlflow.registry.predictor import Predictor

pytestmark = pytest.mark.slow

A, B = text(GOOD), text(OTHER)
WRAPPED = base64.encodebytes(OTHER).decode()
ADDRESS = f"data:image/png;base64,{A}"
JSON_FORMS: dict[str, Any] = {
    "split": rows(A, B),
    "split with line breaks": rows(A, WRAPPED),
    "split with a data address": rows(ADDRESS, B),
    "split with lists of one": rows([A], [B]),
    "records": {"dataframe_records": [{"image": A}, {"image": B}]},
    **{
        f"{form}: {name}": {form: value}
        for form in ("inputs", "instances")
        for name, value in {
            "list": [A, B],
            "list of dictionaries": [{"image": A}, {"image": B}],
            "dictionary of lists": {"image": [A, B]},
            "lists of one": [[A], [B]],
            "data addresses": [ADDRESS, B],
            "line breaks": [A, WRAPPED],
        }.items()
    },
}
OTHER_FORMS = {
    "CSV": (f"image\n{A}\n{B}\n".encode(), CSV),
    "Parquet of bytes": (parquet([GOOD, OTHER]), PARQUET),
    "Parquet of text": (parquet([A, B]), PARQUET),
}


def rows_of(server: Server, body: bytes, content_type: str) -> list[dict[str, Any]]:
    answer = exchange_until_served(server.port, request(body, content_type=content_type))
    assert answer.status == 200, answer.body
    found: list[dict[str, Any]] = answer.json()["predictions"]
    return found


@pytest.mark.parametrize("kind", ["plain", "histo"])
@pytest.mark.parametrize("form", [*JSON_FORMS, *OTHER_FORMS])
def test_a_server_gives_the_whole_answer_to_every_form(
    request: pytest.FixtureRequest, oracle: Predictor, kind: str, form: str
) -> None:
    server: Server = request.getfixturevalue(kind)
    body, content_type = OTHER_FORMS.get(form, (b"", "application/json"))
    found = rows_of(server, body or json.dumps(JSON_FORMS[form]).encode(), content_type)

    expected = oracle.predict_bytes([GOOD, OTHER])
    assert [list(row) for row in found] == [
        ["class", "p_a", "p_b&c", "p_d e", "abstain", "model_version", "model_digest"]
    ] * 2
    told = [[row[f"p_{name}"] for name in oracle.classes] for row in found]
    np.testing.assert_allclose(told, expected, atol=1e-6)
    assert [row["class"] for row in found] == [oracle.classes[k] for k in expected.argmax(axis=1)]
    assert [row["abstain"] for row in found] == (expected.max(axis=1) < 0.8).tolist()
    assert {(r["model_version"], r["model_digest"]) for r in found} == {
        ("histo-test v1", oracle.digest)
    }


def test_one_image_in_a_dictionary_is_one_row(plain: Server) -> None:
    assert (
        len(rows_of(plain, json.dumps({"inputs": {"image": A}}).encode(), "application/json")) == 1
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "bytes or base64 text was expected, got nothing"),
        (5, "bytes or base64 text was expected, got int"),
        (True, "bytes or base64 text was expected, got bool"),
        ({"b64": A}, "bytes or base64 text was expected, got dict"),
        ([A, B], "bytes or base64 text was expected, got a list of 2"),
        (A[:-3], "the text is not base64"),
        (A[:40] + "!" + A[41:], "the text is not base64"),
        ("data:image/png;base64,", "empty file"),
        ("https://example.org/a.png", "the text is not base64"),
        (text(A.encode()), "not a JPEG, PNG or TIFF"),
    ],
    ids=[
        "null",
        "number",
        "bool",
        "dictionary",
        "list",
        "cut short",
        "foreign letter",
        "nothing in an address",
        "address",
        "base64 twice",
    ],
)
@pytest.mark.parametrize("kind", ["plain", "histo"])
def test_a_bad_row_is_named_with_its_reason(
    request: pytest.FixtureRequest, kind: str, value: object, reason: str
) -> None:
    server: Server = request.getfixturevalue(kind)
    answer = exchange_until_served(server.port, _post(rows(A, value, B)))

    assert answer.status == 400
    assert f"image 1: {reason}" in answer.json()["message"]
    assert "stack_trace" not in answer.json()


def _post(body: object) -> bytes:
    return request(json.dumps(body).encode())


@pytest.mark.parametrize("kind", ["plain", "histo"])
def test_some_hostile_requests_are_survived(
    request: pytest.FixtureRequest, trap: tuple[int, list[object]], oracle: Predictor, kind: str
) -> None:
    server: Server = request.getfixturevalue(kind)
    found = trial.run(server, quick(all_cases(trap[0])), [], oracle, settle_seconds=0.0)
    print(found.told(), file=sys.stderr)

    assert len(found.verdicts) >= 60
    assert found.surprises == {}
    assert found.opened == ()
    assert trap[1] == []
