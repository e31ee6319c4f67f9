"""The model card: everything from the facts, what is missing said, two forms that agree."""

import copy
import html
import json
import re
import subprocess
import sys
from dataclasses import fields, replace
from typing import Any

import pandas as pd
import pytest

from histo_mlflow.evaluation._card_text import ends, number, signed, with_interval
from histo_mlflow.evaluation.card import CardFacts, card, card_html, counted

COMMIT, DIGEST, RUN = "c0ffee" * 6 + "abcd", "d1" * 32, "a0" * 16
TAGS = {
    "histo.recipe": "ham10000",
    "histo.data.digest": DIGEST,
    "histo.data.label_source": "metadata",
    "histo.data.group_kind": "lesion",
    "histo.split.kind": "group",
    "histo.split.leaking": "false",
    "histo.leak_groups.crossing": 0,
    "histo.weights.source": "https://example.org/weights.pth",
    "histo.weights.sha256": "none",
    "histo.git.commit": COMMIT,
    "histo.git.dirty": "false",
    "histo.command": "/somewhere/bin/histo-mlflow train --dataset ham10000 --lr 3e-4",
    "device.device": "cpu",
    "device.device_name": "Some CPU",
    "device.precision": "fp32",
    "device.channels_last": "true",
    "device.threads": 2,
}
PARAMS = {
    "source": "ham10000", "epochs": 9, "batch_size": 64, "lr": 0.002, "seed": 7, "split_seed": 3,
    "val_fraction": 0.15, "test_fraction": 0.15, "folds": None, "fold": 0, "leak_groups": "join",
    "patience": None, "policy": "dermoscopy",
}  # fmt: skip
SPEC = {
    "name": "timm/tf_efficientnet_lite0", "classes": ["mel", "nv"], "head": "linear",
    "hidden": 512, "dropout": 0.0, "output": "softmax", "image_px": 96,
    "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5],
}  # fmt: skip
RULE = {"rule_version": 1, "image_px": 96, "fit": "squash", "crop_px": None, "draft": False}
LEAKS = {
    "equal_pairs_across_groups": 3, "near_pairs_across_groups": 1234,
    "pairs_with_different_labels": 2, "near_pairs_held_back": 11,
}  # fmt: skip


def metric(name: str, *values: float | None, label: str | None = None, why: str = "") -> Any:
    keys = ("value", "low", "high", "naive_low", "naive_high")
    return {"metric": name, "class": label, **dict(zip(keys, values, strict=True)), "why": why}


def threshold(rule: str, value: float, specificity: float | None) -> dict[str, Any]:
    return {
        "rule": rule,
        "class": "nv",
        "value": value,
        "validation": {"sensitivity": 0.91, "specificity": 0.82},
        "test": {"sensitivity": 0.873, "specificity": specificity},
    }


def sliced(column: str, name: str, difference: float, worse: bool) -> dict[str, Any]:
    return {
        "column": column, "slice": name, "rows": 1200, "groups": 88, "value": 0.7, "rest": 0.81,
        "difference": difference, "low": difference - 0.05, "high": difference + 0.05, "p": 0.031,
        "worse": worse,
    }  # fmt: skip


EVALUATION = {
    "format": 1, "split": "test", "rows": 1511, "groups": 1120, "group_kind": "lesion",
    "level": 0.95, "replicates": 2000, "seed": 0,
    "metrics": [
        metric("auc", 0.95412, 0.94061, 0.96549, 0.9467, 0.9612),
        metric("balanced_accuracy", 0.9, 0.87, 0.9996, 0.88, 0.92),
        metric("ece", 0.0312, 0.02, 0.05, 0.021, 0.048),
        metric("auc", 0.954, 0.94, 0.965, 0.946, 0.961, label="mel"),
        metric("recall", 0.61, 0.5, 0.7, 0.52, 0.69, label="mel"),
        metric("auc", 0.9, 0.89, 0.91, 0.892, 0.908, label="nv"),
    ],
    "calibration": {
        "temperature": {
            "value": 1.437, "at_limit": False, "loss_before": 0.41, "loss_after": 0.38,
            "rows": 1498,
        },
        "before": {"log_loss": 0.401, "brier": 0.111, "ece": 0.0312},
        "after": {"log_loss": 0.377, "brier": 0.109, "ece": 0.0117},
    },
    "thresholds": [threshold("youden", 0.4123, 0.795), threshold("sensitivity", 0.21, None)],
    "slice_metric": "accuracy",
    "slices": [sliced("sex", "male", -0.11, True), sliced("age", "0 to 39", 0.02, False)],
    "notes": ["no slices by dx: 200 different values"],
}  # fmt: skip


def table(groups: int = 40) -> pd.DataFrame:
    """`groups` groups of two images in each split, the first half of them mel."""
    rows = [
        (f"{split}-{i}", label, f"{split}-{i // 2}", split)
        for split in ("train", "val", "test")
        for i in range(2 * groups)
        for label in (["mel", "nv"][i >= groups],)
    ]
    return pd.DataFrame(rows, columns=["id", "label", "group", "split"])


def facts(**changes: Any) -> CardFacts:
    made = CardFacts(
        tags=TAGS,
        params=PARAMS,
        spec=SPEC,
        rule=RULE,
        calibration={"temperature": 1.437, "thresholds": {}},
        counts=counted(table(80)),
        leaks=LEAKS,
        outcome={"best_epoch": 6, "epochs": 9, "seconds": 1234.5},
        provenance={"python": "3.11.7", "packages": {"torch": "2.9.1", "mlflow": "3.7.0"}},
        evaluation=EVALUATION,
        summary="dermatoscopic images",
        run_id=RUN,
        model_id="m-1",
    )
    return replace(made, **changes)


def tagged(**changes: Any) -> CardFacts:
    return facts(tags={**TAGS, **{f"histo.{key}": value for key, value in changes.items()}})


def evaluated(**changes: Any) -> CardFacts:
    return facts(evaluation={**copy.deepcopy(EVALUATION), **changes})


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n")[1].split("\n## ")[0]


def row(text: str, first: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_a_metric_has_its_interval_by_group_beside_the_naive_one() -> None:
    found = section(card(facts()), "Evaluation")
    assert row(found, "ROC-AUC") == ["ROC-AUC", "0.954 (0.941 to 0.965)", "0.947 to 0.961"]
    assert "1,511 images in 1,120 groups (lesion)" in found
    assert "(95 %) are from 2,000 bootstrap draws of whole groups, seed 0" in found
    assert "| nv | 0.900 (0.890 to 0.910) | not recorded |" in found
    # the class with the lowest AUC first
    assert found.index("| nv |") < found.index("| mel |")
    assert "no slices by dx: 200 different values" in found


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (0.95412, "0.954"), (0.9, "0.900"), (1.0, "1.00"), (0.99962, "0.9996"), (0.0, "0.000"),
        (0.00123456, "0.00123"), (12.34, "12.3"), (1234.5, "1,234"), (-0.0523, "-0.0523"),
        (None, "undefined"), (float("nan"), "undefined"), (float("inf"), "undefined"),
    ],
    ids=str,
)  # fmt: skip
def test_a_number_has_three_significant_digits(value: float | None, told: str) -> None:
    assert number(value) == told


def test_what_is_undefined_is_said_with_its_reason() -> None:
    assert with_interval(None, None, None, "one class") == "undefined: one class"
    assert with_interval(None, None, None, "undefined on these rows") == "undefined"
    assert with_interval(0.9, None, None, "one group") == "0.900 (no interval: one group)"
    assert with_interval(0.9, float("nan"), 1.0) == "0.900 (no interval)"
    assert (ends(None, 1.0), ends(0.1, 0.2)) == ("none", "0.100 to 0.200")
    assert (signed(0.1), signed(-0.1), signed(0.0), signed(None)) == (
        "+0.100", "-0.100", "0.000", "undefined",
    )  # fmt: skip

    undefined = metric("auc", None, None, None, None, None, why="undefined on these rows")
    text = card(evaluated(metrics=[undefined, *EVALUATION["metrics"][3:]]))
    assert row(section(text, "Evaluation"), "ROC-AUC") == ["ROC-AUC", "undefined", "none"]
    limits = section(text, "Bias, Risks and Limitations")
    assert "Undefined on the tested images, and not replaced by a number: ROC-AUC." in limits
    assert "- **ROC-AUC (test)**: undefined" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"data.label_source": "synthetic"}, "> Synthetic data: the images and their labels were"),
        ({"data.label_source": "placeholder"}, "> Placeholder labels: they are stand-ins"),
        ({"data.label_source": None}, "> Where the labels come from is not recorded."),
        ({"split.leaking": "true"}, "> The split leaks: it was drawn image by image"),
        ({"leak_groups.crossing": "2545"}, "> 2,545 images have one that belongs to them or looks"),
    ],
    ids=["synthetic", "placeholder", "unknown", "leaking", "crossing"],
)
def test_what_makes_scores_worthless_is_the_first_section(
    changes: dict[str, Any], words: str
) -> None:
    text = card(tagged(**changes))
    assert text.index("\n## Warning\n") < text.index("\n## Model Details\n")
    assert section(text, "Warning").strip().startswith(words)


def test_without_a_reason_there_is_no_warning() -> None:
    assert "Warning" not in card(facts())


def test_few_groups_are_a_limit() -> None:
    enough = section(card(facts()), "Bias, Risks and Limitations")
    assert "Few groups" not in enough
    assert "fewer than 30 groups" not in enough
    few = facts(evaluation={**EVALUATION, "groups": 29}, counts=counted(table(groups=50)))
    text = section(card(few), "Bias, Risks and Limitations")
    assert "Few groups: 29 (lesion) were tested on, fewer than 30." in text
    assert "fewer than 30 groups in the test split: mel (50 in 25), nv (50 in 25)." in text


def test_a_class_without_test_images_is_a_limit() -> None:
    rows = table()
    one = rows[(rows["split"] != "test") | (rows["label"] == "nv")]
    text = section(card(facts(counts=counted(one))), "Bias, Risks and Limitations")
    assert "Classes without an image in the test split: mel." in text
    assert "The test split has one class" in text


def test_every_card_says_that_it_is_research_and_one_data_set() -> None:
    for made in (facts(), CardFacts()):
        text = section(card(made), "Bias, Risks and Limitations")
        assert "Research use only. Not a medical device" in text
        assert "There is no external validation" in text


def test_the_commands_to_reproduce_are_exact() -> None:
    text = section(card(facts()), "How to Reproduce")
    fetch = f"mlflow artifacts download --run-id {RUN} --artifact-path recipe.yaml --dst-path ."
    first, second = re.findall(r"```\n(.*?)\n```", text, flags=re.DOTALL)
    start = [f"git checkout {COMMIT}", fetch]
    assert first.splitlines() == [*start, "histo-mlflow train --dataset recipe.yaml"]
    assert second.splitlines() == [*start, "mlflow run . -P dataset=recipe.yaml"]
    assert row(text, "digest of the data (tag histo.data.digest)")[1] == DIGEST
    assert (row(text, "seed")[1], row(text, "split_seed")[1]) == ("7", "3")
    # where the program lies is nobody's business
    told = row(text, "the run was started by")[1]
    assert told == "histo-mlflow train --dataset ham10000 --lr 3e-4"
    assert "not committed" not in text


def test_code_that_was_not_committed_is_said() -> None:
    dirty = section(card(tagged(**{"git.dirty": "true"})), "How to Reproduce")
    assert "changes that were not committed: apply the run's artifact provenance/changes.patch" in (
        dirty
    )
    problem = {"git.commit": None, "git.dirty": None, "git.problem": "git is not installed"}
    text = section(card(tagged(**problem)), "How to Reproduce")
    assert "The commit of the code is not recorded: git is not installed." in text
    assert "git checkout" not in text


def test_a_model_is_loaded_by_its_id_or_the_card_says_that_it_is_not_known() -> None:
    title = "How to Get Started with the Model"
    known = section(card(facts()), title)
    assert 'mlflow.pyfunc.load_model("models:/m-1")' in known
    assert "mlflow models serve -m models:/m-1" in known
    assert "logits are divided by 1.44 first" in known
    unknown = section(card(facts(model_id=None, calibration=None)), title)
    assert "The model's id was not recorded" in unknown
    assert f'mlflow.get_run("{RUN}")' in unknown
    assert "Probabilities are not calibrated" in unknown


def test_calibration_is_told_before_and_after() -> None:
    text = section(card(facts()), "Calibration")
    assert "The temperature is 1.44 (the model was too sure), fitted on 1,498 validation" in text
    assert row(text, "ECE") == ["ECE", "0.0312", "0.0117"]
    assert 'The metrics under "Evaluation" are those before the temperature.' in text
    none = {"temperature": None, "before": EVALUATION["calibration"]["before"], "after": None}
    text = card(evaluated(calibration=none))
    assert "No temperature was fitted." in section(text, "Calibration")
    assert row(section(text, "Calibration"), "ECE") == ["ECE", "0.0312", "undefined"]
    assert "probabilities may be too sure" in section(text, "Bias, Risks and Limitations")


def test_a_temperature_that_does_not_exist_is_a_limit() -> None:
    found = copy.deepcopy(EVALUATION["calibration"])
    found["temperature"] |= {"value": 1.0, "at_limit": True}
    text = card(evaluated(calibration=found))
    assert "ask for no finite temperature" in section(text, "Calibration")
    assert "calibration is not known" in section(text, "Bias, Risks and Limitations")


def test_thresholds_are_of_validation_and_told_on_test() -> None:
    text = section(card(facts()), "Thresholds")
    rows = [line for line in text.splitlines() if line.startswith("| nv |")]
    assert rows[0].endswith("(Youden) | 0.412 | 0.910, 0.820 | 0.873, 0.795 |")
    assert rows[1].endswith("| 0.210 | 0.910, 0.820 | 0.873, undefined |")
    assert "Chosen on validation" in text
    assert "No thresholds were chosen." in section(card(evaluated(thresholds=[])), "Thresholds")


def test_slices_say_how_many_were_looked_at() -> None:
    text = section(card(facts()), "Factors: Slices of the Data")
    assert "2 slices by sex, age were looked at, the most surely worst first; 2 are shown" in text
    assert "simultaneous: they allow for all 2 looks" in text
    assert "1 of them is surely worse" in text
    assert row(text, "sex: male") == [
        "sex: male", "1,200", "88", "0.700", "0.810", "-0.110 (-0.160 to -0.0600)", "0.0310", "yes",
    ]  # fmt: skip
    assert text.index("sex: male") < text.index("age: 0 to 39")


def test_of_many_slices_and_classes_the_worst_are_shown() -> None:
    many = [sliced("site", str(i), -0.1, False) for i in range(40)]
    text = section(card(evaluated(slices=many)), "Factors: Slices of the Data")
    assert "40 slices by site were looked at, the most surely worst first; 15 are shown" in text
    assert text.count("| site: ") == 15
    classes = [f"c{i}" for i in range(10_000)]
    metrics = [metric("auc", 0.5 + i / 1e5, 0.4, 0.6, 0.4, 0.6, label=c)
               for i, c in enumerate(classes)]  # fmt: skip
    made = replace(evaluated(metrics=metrics), spec={**SPEC, "classes": classes})
    assert "9,970 more classes are not listed" in section(card(made), "Evaluation")
    assert len(card(made)) < 30_000


def test_the_split_and_its_audit_are_told() -> None:
    text = section(card(facts()), "Split and Leak Audit")
    assert row(text, "kind")[1] == "group: whole lesion groups, none of them in two splits"
    assert row(text, "does it leak by design")[1] == "no"
    assert row(text, "near-duplicate pairs across groups")[1] == "1,234"
    folds = section(card(facts(params={**PARAMS, "folds": 5, "fold": 2})), "Split and Leak Audit")
    assert row(folds, "shares")[1] == "fold 2 of 5 is the test split"


def test_images_and_groups_are_counted_by_class_and_split() -> None:
    rows = table(groups=3)
    found = {(one["split"], one["class"]): one for one in counted(rows)}
    for split in ("train", "val", "test"):
        for label in ("mel", "nv", None):
            mine = rows[(rows["split"] == split) & ((rows["label"] == label) | (label is None))]
            one = found[(split, label)]
            assert (one["images"], one["groups"]) == (len(mine), len(set(mine["group"])))
    text = section(card(facts(counts=counted(rows))), "Training Data")
    assert row(text, "mel") == ["mel", "3 (2)", "3 (2)", "3 (2)"]
    assert row(text, "all") == ["all", "6 (3)", "6 (3)", "6 (3)"]


def test_names_of_classes_break_neither_table_nor_page() -> None:
    odd = ["a|b\nc", "<script>alert(1)</script>"]
    metrics = [metric("auc", 0.9, 0.8, 0.95, 0.85, 0.93, label=name) for name in odd]
    rows = table()
    rows["label"] = rows["label"].map({"mel": odd[0], "nv": odd[1]})
    made = replace(evaluated(metrics=metrics), spec={**SPEC, "classes": odd}, counts=counted(rows))
    text = card(made)
    assert row(text, "classes")[1] == "2: a\\|b c, \\<script\\>alert(1)\\</script\\>"
    assert row(section(text, "Evaluation"), "a\\|b c") == ["a\\|b c", "0.900 (0.800 to 0.950)"]
    for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
        widths = {len(re.split(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1
    assert "<script>" not in card_html(made)


def test_what_is_missing_is_said_to_be_missing() -> None:
    text = card(CardFacts())
    assert text.startswith("# Model card: not recorded\n")
    assert "The evaluation of this model is not recorded." in text
    assert "the data's digest, the source of the labels, the kind of split, the leak audit" in text
    numbers = re.findall(r"\d+\.\d+", text)
    assert numbers == []
    assert "None" not in text
    assert "nan" not in text.lower().replace("finance", "")


@pytest.mark.parametrize("name", [field.name for field in fields(CardFacts)])
def test_a_card_is_written_whatever_is_missing(name: str) -> None:
    default = getattr(CardFacts(), name)
    text = card(facts(**{name: default}))
    assert card_html(facts(**{name: default}))
    assert "None" not in text.replace("None of them", "")


@pytest.mark.parametrize("name", sorted(EVALUATION))
def test_a_card_is_written_whatever_the_evaluation_lacks(name: str) -> None:
    less = {key: value for key, value in EVALUATION.items() if key != name}
    text = card(facts(evaluation=less))
    assert "None" not in text.replace("None of them", "")


def test_the_facts_of_a_store_give_the_card_of_the_training() -> None:
    """MLflow keeps tags and params as text."""
    stored = facts(
        tags={key: str(value) for key, value in TAGS.items()},
        params={key: str(value) for key, value in PARAMS.items()},
        evaluation=json.loads(json.dumps(EVALUATION)),
    )
    assert card(stored) == card(facts())


def numbers_in(text: str) -> list[str]:
    return re.findall(r"[\w.,]*\d[\w.,]*", html.unescape(re.sub(r"</?\w[^>]*>", " ", text)))


def test_markdown_and_html_tell_the_same_numbers() -> None:
    made = facts()
    head, body = card_html(made).split("<h1>")[1].split("<nav")
    told = numbers_in(head + body.split("</nav>")[1])
    assert len(told) > 150
    assert numbers_in(card(made)) == told


def test_the_card_needs_neither_torch_nor_mlflow() -> None:
    code = (
        "import sys; import histo_mlflow.evaluation.card;"
        "assert not {'torch', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
