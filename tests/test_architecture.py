"""The one way through: imports run from the top of the list in docs/design.md to its bottom."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "src" / "histo_mlflow"

LAYERS = (
    "errors",
    "paths",
    "files",
    "yaml_places",
    "recipe",
    "randomness",
    "probe",
    "device",
    "vision",
    "data",
    "models",
    "training",
    "evaluation",
    "explain",
    "tracking",
    "registry",
    "promotion",
    "inference",
    "jobs",
    "tuning",
    "cli",
)
OF_TUNING = ("shared", "study", "report", "confirm")
"""Its packages in the same order; what works on a study, in `tuning/` itself, is above them all."""
BUNDLED = {"errors", "randomness", "vision", "models", "registry"}
"""What a served model carries; it may lean on nothing else of the package."""


def names_imported_by(path: Path) -> set[str]:
    """The modules of the package that a file imports, or imports from, with all their dots."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            names = [node.module or ""]
            if node.module in ("histo_mlflow", "histo_mlflow.tuning"):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        found |= {name for name in names if name.startswith("histo_mlflow.")}
    return found


def imported_by(path: Path) -> set[str]:
    """The top-level parts of the package that a file imports, wherever the import stands."""
    return {name.split(".")[1] for name in names_imported_by(path)}


def files() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if path.parent != PACKAGE.parent)


def layer_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_arrow_runs_back(path):
    layer = layer_of(path)
    if layer == "__init__":
        assert imported_by(path) == set()
        return
    upstream = set(LAYERS[: LAYERS.index(layer) + 1])

    assert imported_by(path) - upstream == set()


@pytest.mark.parametrize("package", OF_TUNING)
def test_no_arrow_runs_back_within_tuning(package):
    above = {*OF_TUNING[OF_TUNING.index(package) + 1 :]}
    for path in (PACKAGE / "tuning" / package).rglob("*.py"):
        inner = {name.split(".")[2] for name in names_imported_by(path) if ".tuning." in name}

        assert inner <= {*OF_TUNING} - above, path


@pytest.mark.parametrize(
    "path",
    [path for path in files() if layer_of(path) in BUNDLED],
    ids=lambda path: str(path.relative_to(PACKAGE)),
)
def test_what_a_served_model_carries_stands_alone(path):
    allowed = BUNDLED if layer_of(path) == "registry" else BUNDLED - {"registry"}
    if path.name == "log_model.py":
        allowed = allowed | {"tracking"}

    assert imported_by(path) - allowed == set()


def test_the_recipe_reaches_only_jobs_and_the_command_line():
    readers = {layer_of(path) for path in files() if "recipe" in imported_by(path)}

    assert readers - {"recipe"} <= {"jobs", "tuning", "cli"}


def test_training_knows_nothing_of_mlflow():
    for path in (PACKAGE / "training").rglob("*.py"):
        assert "mlflow" not in path.read_text(encoding="utf-8").replace(
            "histo_mlflow", ""
        ).lower().replace("knows nothing of mlflow", ""), path


def test_help_needs_neither_torch_nor_mlflow():
    code = (
        "import sys, histo_mlflow.cli; "
        "print(sorted({'torch', 'mlflow', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_every_package_has_a_docstring():
    for path in PACKAGE.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_forbidden_shortcuts_are_absent():
    """No silent loading, no pickle, no truncated images, no swallowed exception."""
    forbidden = (
        "strict=False)",
        "weights_only=False",
        "LOAD_TRUNCATED_IMAGES",
        "pickle.load",
        "except: ",
        "except Exception:\n        pass",
    )
    for path in files():
        text = path.read_text(encoding="utf-8")
        assert [word for word in forbidden if word in text] == [], path
