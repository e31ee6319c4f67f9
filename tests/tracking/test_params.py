import pytest

from histo_mlflow.recipe import build
from histo_mlflow.tracking.params import differences, same_param


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("1e-3", "0.001"),
        ("0.10", "0.1"),
        ("3", "3.0"),
        ("+5", "5"),
        ("true", "True"),
        ("yes", "True"),
        ("0", "False"),
        ("null", "None"),
        ("", "None"),
        ("", "{}"),
        (" resnet18 ", "resnet18"),
        ("'resnet18'", "resnet18"),
        ("0.8,1.20", "[0.8, 1.2]"),
        ("a, b", "['a', 'b']"),
        ("head=1e-2,rest=1e-4", "{'head': 0.01, 'rest': 0.0001}"),
        ("head=1e-2", "{'head': 0.01}"),
        ("9007199254740993", "9007199254740993"),
    ],
)
def test_one_value_in_two_writings_is_the_same(a: str, b: str) -> None:
    assert same_param(a, b)
    assert same_param(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("0.001", "0.002"),
        ("9007199254740993", "9007199254740992"),
        ("true", "False"),
        ("1", "0"),
        ("None", "0"),
        ("none", "False"),
        ("resnet18", "resnet34"),
        ("resnet18", "None"),
        ("val/auc", "val/loss"),
        ("data/a", "data/b"),
        ("Data", "data"),
        ("0.8,1.2", "[0.8, 1.3]"),
        ("0.8,1.2", "0.8"),
        ("head=1e-2,rest=1e-4", "{'head': 0.01, 'rest': 0.001}"),
        ("head=1e-2", "{'rest': 0.01}"),
        ("a=b", "a,b,c"),
        ("nan", "0"),
    ],
)
def test_two_values_differ(a: str, b: str) -> None:
    assert not same_param(a, b)
    assert not same_param(b, a)


def test_the_raw_text_of_an_option_is_what_the_recipe_makes_of_it() -> None:
    raw = {
        "lr": "3.0e-4",
        "epochs": "12",
        "scale": "0.80,1.2",
        "group_lrs": "head=1e-2, rest=1e-4",
        "quarter_turns": "true",
        "monitor": "val/loss",
    }
    flat = build({"name": "x"}, raw, where="test").flatten()
    assert {name: str(flat[name]) for name in raw} != raw
    assert all(same_param(text, str(flat[name])) for name, text in raw.items())


def test_every_difference_is_named_and_what_only_one_side_has_is_none() -> None:
    has = {"lr": "0.001", "epochs": "10", "old": "1", "long": "x" * 300, "model": ""}
    given = {"lr": "0.002", "epochs": "10.0", "new": "1", "long": "y" * 300, "model": "resnet18"}
    lr, long, model = differences(has, given)
    assert lr == "lr: the run has 0.001, this recipe says 0.002"
    assert len(long) < 250
    assert model == "model: the run has nothing, this recipe says resnet18"
