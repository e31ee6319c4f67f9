"""The parts of a model card about using it: for what, how to train it again, how to load it."""

import shlex
from collections.abc import Sequence
from pathlib import PurePath

from histo_mlflow.evaluation._card_facts import CardFacts
from histo_mlflow.evaluation._card_model import uncommitted
from histo_mlflow.evaluation._card_text import NOT_RECORDED, fact, number, yes_no
from histo_mlflow.evaluation.page import Block, Code, Items, Note, Section, Table, Text


def intended_use(facts: CardFacts) -> Section:
    """For what, and for what not."""
    classes = f"its {len(facts.classes)} classes" if facts.classes else "its classes"
    return Section(
        "Intended Use",
        [
            Text(
                f"Research: sorting images like those of its data set into {classes}, comparing "
                "models, studying where they fail. Out of scope:"
            ),
            Items(
                [
                    "Diagnosis, triage or any decision about a patient. It is not a medical "
                    "device.",
                    "Images of another kind than those of its data set (other scanners, stains, "
                    "cameras, magnifications, hospitals): how it does on them is not known.",
                    "Images that show none of its classes: it names one of them all the same.",
                ]
            ),
        ],
    )


def reproduce(facts: CardFacts) -> Section:
    """The commands that train it again."""
    tags, params = facts.tags, facts.params
    commit, run_id = fact(tags, "histo.git.commit"), facts.run_id
    lines = [f"git checkout {commit}"] if commit != NOT_RECORDED else []
    if run_id is not None:
        lines.append(
            f"mlflow artifacts download --run-id {run_id} --artifact-path recipe.yaml --dst-path ."
        )
    project = "mlflow run . -P dataset=recipe.yaml"
    blocks: list[Block] = [
        Text("The run keeps its whole recipe as the artifact recipe.yaml. With it:"),
        Code("\n".join([*lines, "histo-mlflow train --dataset recipe.yaml"])),
        Text("or, as an MLflow project, with an environment of its own:"),
        Code("\n".join([*lines, project])),
    ]
    if commit == NOT_RECORDED:
        blocks.append(Note(f"The commit of the code is {NOT_RECORDED}: {uncommitted(facts)}."))
    elif yes_no(fact(tags, "histo.git.dirty")):
        blocks.append(
            Note(
                "The code had changes that were not committed: apply the run's artifact "
                "provenance/changes.patch to the commit first."
            )
        )
    rows = [
        ("digest of the data (tag histo.data.digest)", fact(tags, "histo.data.digest")),
        ("seed", fact(params, "seed")),
        ("split_seed", fact(params, "split_seed")),
        ("device", fact(tags, "device.device")),
        ("precision", fact(tags, "device.precision")),
        ("channels_last", fact(tags, "device.channels_last")),
        ("threads", fact(tags, "device.threads")),
        ("the run was started by", _command(fact(tags, "histo.command"))),
    ]
    caption = "What has to be the same for the same numbers to the last bit"
    return Section("How to Reproduce", [*blocks, Table(("what", "value"), rows, caption)])


def _command(command: str) -> str:
    """The command as one types it, without where the program lies."""
    try:
        program, *arguments = shlex.split(command)
    except ValueError:
        return command
    if command == NOT_RECORDED:
        return command
    name = PurePath(program).name
    return shlex.join(["histo-mlflow" if name == "__main__.py" else name, *arguments])


def get_started(facts: CardFacts) -> Section:
    """How to load it, serve it, ask it."""
    blocks: list[Block] = []
    if facts.model_id is not None:
        blocks += [
            Code(_lines(_LOAD, facts.model_id)),
            Text("or behind HTTP:"),
            Code(f"mlflow models serve -m models:/{facts.model_id} --env-manager local"),
        ]
    else:
        blocks.append(
            Text(
                "The model's id was not recorded: MLflow gives it when the model is logged, after "
                "this card is written. It is on the page of the run, and it is loaded as "
                "models:/<id>."
            )
        )
        if facts.run_id is not None:
            blocks.append(Code(_lines(_FIND, facts.run_id)))
    blocks += [Text("The folder of the model alone is enough as well:"), Code(_lines(_FOLDER))]
    served = (facts.calibration or {}).get("temperature")
    calibrated = (
        "Probabilities are not calibrated: no temperature is stored with the model."
        if served is None
        else f"Probabilities are calibrated: logits are divided by {number(served)} first."
    )
    return Section("How to Get Started with the Model", [*blocks, Text(calibrated)])


def _lines(lines: Sequence[str], value: str = "") -> str:
    return "\n".join(lines).replace("ID", value)


_LOAD = (
    "import mlflow, pandas as pd",
    'model = mlflow.pyfunc.load_model("models:/ID")',
    'model.predict(pd.DataFrame({"image": [open("image.png", "rb").read()]}))',
)
_FIND = (
    "import mlflow",
    'run = mlflow.get_run("ID")',
    "[output.model_id for output in run.outputs.model_outputs]",
)
_FOLDER = (
    "from pathlib import Path",
    "from histo_mlflow.registry.predictor import Predictor",
    'Predictor(Path("model")).predict_bytes([Path("image.png").read_bytes()])',
)
