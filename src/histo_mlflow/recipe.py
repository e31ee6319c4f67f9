"""A recipe: everything that decides a training run, in one frozen object.

A recipe is a YAML file in sections (`experiments/*.yaml`). Leaf names are unique over all sections,
so that one name is the YAML key, the option on the command line (`--lr`), the `mlflow run`
parameter (`-P lr=3e-4`), the MLflow param and the axis of a study's search space.

>>> load("demo", {"lr": "3e-4"}).optimisation.lr
0.0003
"""

from __future__ import annotations

import difflib
import stat
import sysconfig
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo

from histo_mlflow.errors import RecipeError

Monitor = Literal[
    "val/auc", "val/average_precision", "val/loss", "val/accuracy", "val/balanced_accuracy"
]
MONITORS: tuple[str, ...] = typing.get_args(Monitor)
"""What may choose the best epoch and stop early; the test split is not among them by design."""


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _blank_is_none(cls, value: Any) -> Any:
        """`--clip_norm null` on a command line means what `clip_norm: null` means in a file."""
        return None if isinstance(value, str) and value.strip().lower() in {"null", ""} else value


class DataSection(_Section):
    """Which images, and where."""

    source: Literal["ham10000", "pcam", "folders", "spider_skin", "demo"] = Field(
        "demo", description="layout of the data set"
    )
    data_dir: str = Field(
        "auto", description="folder of the data set; auto: data/<recipe name> (demo: generated)"
    )
    metadata_csv: str | None = Field(
        None, description="table of a spider_skin data set, relative to data_dir"
    )
    image_column: str | None = Field(None, description="its column with the image's file name")
    class_column: str | None = Field(None, description="its column with the class")
    group_column: str | None = Field(None, description="its column with the slide")
    placeholder_labels: bool = Field(
        False, description="the labels are stand-ins: the run is tagged and never promoted"
    )
    demo_images: int = Field(1200, ge=48, description="how many synthetic patches demo generates")


class SplitSection(_Section):
    """Who is trained on, who chooses, who judges."""

    split: Literal["group", "row", "given"] = Field(
        "group",
        description="group: whole lesions, slides or patients stay together; given: the data set's "
        "own split; row: image by image, which leaks and is tagged so",
    )
    leak_groups: Literal["join", "report"] = Field(
        "join",
        description="join: images that look the same stay on one side of the split; report: only "
        "tell (so always with split=given and split=row)",
    )
    val_fraction: float = Field(0.15, gt=0, lt=1, description="share of images for validation")
    test_fraction: float = Field(0.15, gt=0, lt=1, description="share of images for the test")
    folds: int | None = Field(None, ge=2, description="k-fold instead: number of folds")
    fold: int = Field(0, ge=0, description="k-fold: which fold is the test split, from 0")
    split_seed: int = Field(0, ge=0, description="seed of the split; keep it to compare runs")


class PixelsSection(_Section):
    """From a file's bytes to the square of pixels that the model sees."""

    image_px: int = Field(96, ge=16, le=2048, description="side of the model's input in pixels")
    fit: Literal["cover", "squash", "crop"] = Field(
        "cover",
        description="cover: short side to image_px, then centre crop; squash: both sides, "
        "aspect ignored; crop: centre crop of crop_px, then resize",
    )
    crop_px: int | None = Field(None, ge=8, description="fit=crop: side of the crop in pixels")


class AugmentSection(_Section):
    """What training does to a sample; a named policy, field by field replaceable."""

    policy: str = Field("dihedral", description="named policy to start from")
    hflip_p: float | None = Field(None, ge=0, le=1, description="probability of a left-right flip")
    vflip_p: float | None = Field(None, ge=0, le=1, description="probability of a top-bottom flip")
    quarter_turns: bool | None = Field(None, description="turn by 0, 90, 180 or 270 degrees")
    rotate_degrees: float | None = Field(None, ge=0, le=180, description="turn by up to +-degrees")
    rotate_p: float | None = Field(None, ge=0, le=1, description="probability of that turn")
    crop_resize_p: float | None = Field(
        None, ge=0, le=1, description="probability of centre crop and resize back"
    )
    crop_fraction: float | None = Field(
        None, gt=0, le=1, description="side of that crop as a share of the image"
    )
    scale: tuple[float, float] | None = Field(None, description="zoom range, such as 0.8,1.2")
    translate: float | None = Field(None, ge=0, le=0.5, description="shift, share of the side")
    brightness: float | None = Field(None, ge=0, le=1, description="jitter, half range")
    contrast: float | None = Field(None, ge=0, le=1, description="jitter, half range")
    saturation: float | None = Field(None, ge=0, le=1, description="jitter, half range")
    hue: float | None = Field(None, ge=0, le=0.5, description="jitter, half range in turns")
    erase_p: float | None = Field(None, ge=0, le=1, description="probability of random erasing")

    @field_validator("scale", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


class ModelSection(_Section):
    """The network."""

    model: str = Field("resnet18", description="any torchvision or timm classifier by name")
    weights: str = Field("imagenet", description="imagenet, none, or a file of weights")
    head: Literal["linear", "hidden", "three"] = Field(
        "linear", description="linear; hidden: one hidden layer; three: 256, 32, classes"
    )
    hidden: int = Field(512, ge=1, description="width of head=hidden")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout in the head")
    output: Literal["softmax", "sigmoid"] = Field(
        "softmax", description="K logits and cross-entropy, or one logit and BCE (two classes)"
    )
    normalisation: Literal["auto", "imagenet", "half", "none"] = Field(
        "auto", description="inside the model; auto: what its pretrained weights expect"
    )


class OptimisationSection(_Section):
    """How the weights move."""

    optimiser: Literal["adamw", "adam", "sgd"] = Field("adamw", description="update rule")
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    group_lrs: dict[str, float] = Field(
        default_factory=dict,
        description="learning rates by stage, such as head=1e-2,layer4=1e-3,rest=1e-4",
    )
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="factor on the rate for each stage further from the head"
    )
    weight_decay: float = Field(0.01, ge=0, description="decoupled for adamw; never on biases")
    momentum: float | None = Field(None, ge=0, lt=1, description="sgd only; unset is 0")
    schedule: Literal["constant", "cosine", "onecycle"] = Field("cosine", description="of the rate")
    warmup_epochs: float = Field(0.0, ge=0, description="linear warm-up before the schedule")
    frozen_epochs: int = Field(0, ge=0, description="epochs that train the head alone")
    clip_norm: float | None = Field(None, gt=0, description="largest gradient norm")
    accumulate: int = Field(1, ge=1, description="batches per optimiser step")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of the uniform label")
    class_weights: Literal["none", "balanced", "sqrt"] = Field(
        "none", description="loss weights from class counts, or from their square roots"
    )
    sampling: Literal["shuffled", "balanced"] = Field(
        "shuffled", description="balanced: every class equally likely, with replacement"
    )
    ema_decay: float = Field(
        0.0, ge=0, lt=1, description="weight averaging; 0 is off; the average is what is judged"
    )

    @field_validator("group_lrs", mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return {} if value is None else value
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        if any(not equals for _, equals, _ in pairs):
            raise ValueError("should be written stage=rate, separated by commas")
        return {stage.strip(): rate.strip() for stage, _, rate in pairs}

    @field_validator("group_lrs")
    @classmethod
    def _positive(cls, value: dict[str, float]) -> dict[str, float]:
        if wrong := [stage for stage, rate in value.items() if not rate > 0]:
            raise ValueError(f"should be above 0 for every stage, not so for {', '.join(wrong)}")
        return value


class TrainingSection(_Section):
    """How long, in what portions, and which epoch wins."""

    epochs: int = Field(10, ge=1, description="passes over the training split")
    batch_size: int = Field(64, ge=2, description="images per batch")
    eval_batch_size: int = Field(256, ge=1, description="images per batch when judging")
    seed: int = Field(0, ge=0, description="decides initial weights, order and augmentation")
    monitor: Monitor = Field("val/auc", description="chooses the best epoch and stops early")
    patience: int | None = Field(
        None, ge=1, description="stop after so many epochs without a better one"
    )


class MachineSection(_Section):
    """Where it runs; `auto` measures."""

    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="of the model")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="of the arithmetic; auto: bf16 where it measurably pays"
    )
    memory_format: Literal["auto", "contiguous", "channels_last"] = Field(
        "auto", description="of image tensors"
    )
    threads: int = Field(0, ge=0, description="CPU threads; 0: all cores, or OMP_NUM_THREADS")


class Recipe(BaseModel):
    """Everything that decides a run. Frozen; `flatten()` gives the MLflow params."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    summary: str = ""
    data: DataSection = Field(default_factory=lambda: DataSection())
    split: SplitSection = Field(default_factory=lambda: SplitSection())
    pixels: PixelsSection = Field(default_factory=lambda: PixelsSection())
    augment: AugmentSection = Field(default_factory=lambda: AugmentSection())
    model: ModelSection = Field(default_factory=lambda: ModelSection())
    optimisation: OptimisationSection = Field(default_factory=lambda: OptimisationSection())
    training: TrainingSection = Field(default_factory=lambda: TrainingSection())
    machine: MachineSection = Field(default_factory=lambda: MachineSection())

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        if problems := list(_disagreements(self)):
            raise ValueError("; ".join(problems))
        return self

    def flatten(self) -> dict[str, Any]:
        """Leaf name -> value, in the order of the file; the shape of MLflow params."""
        flat: dict[str, Any] = {"recipe": self.name}
        for section in _sections():
            flat.update(getattr(self, section).model_dump(mode="json"))
        return flat

    def to_yaml(self) -> str:
        """The recipe as a file that `load` reads back to an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _disagreements(recipe: Recipe) -> Iterator[str]:
    pixels, split, training = recipe.pixels, recipe.split, recipe.training
    data, optimisation = recipe.data, recipe.optimisation
    if (pixels.fit == "crop") != (pixels.crop_px is not None):
        yield (
            f"crop_px belongs to fit=crop: got fit={pixels.fit} and crop_px={pixels.crop_px}; "
            "give both or neither"
        )
    if split.val_fraction + split.test_fraction >= 1:
        yield (
            f"val_fraction and test_fraction leave nothing to train on: "
            f"{split.val_fraction} + {split.test_fraction}"
        )
    if split.folds is not None and split.fold >= split.folds:
        yield f"fold counts from 0 and should be below folds={split.folds}, got {split.fold}"
    if split.folds is not None and split.split == "given":
        yield "folds are drawn: split should be group (or row, which leaks), got given"
    if split.folds is None and split.fold:
        yield f"fold={split.fold} needs folds, the number of folds"
    if optimisation.frozen_epochs >= training.epochs:
        yield (
            f"frozen_epochs should be below epochs={training.epochs}, "
            f"got {optimisation.frozen_epochs}: the whole model would never train"
        )
    if 2 * optimisation.warmup_epochs > training.epochs:
        yield (
            f"warmup_epochs should be at most half of epochs={training.epochs}, "
            f"got {optimisation.warmup_epochs}"
        )
    if optimisation.schedule == "onecycle" and optimisation.warmup_epochs:
        yield "schedule=onecycle has its own warm-up: leave warmup_epochs at 0"
    if optimisation.optimiser != "sgd" and optimisation.momentum is not None:
        yield f"momentum belongs to optimiser=sgd, got optimiser={optimisation.optimiser}"
    columns = ("metadata_csv", "image_column", "class_column")
    missing = [column for column in columns if getattr(data, column) is None]
    if data.source == "spider_skin" and missing:
        yield f"source=spider_skin needs {', '.join(missing)}"
    if data.source != "spider_skin":
        yield from (
            f"{name} belongs to source=spider_skin, got source={data.source}"
            for name in (*columns, "group_column")
            if getattr(data, name) is not None
        )
    if data.source == "demo" and data.data_dir != "auto":
        yield "source=demo generates its own images: leave data_dir at auto"


@dataclass(frozen=True)
class RecipeField:
    """One leaf: what the command line needs to offer it as an option."""

    name: str
    section: str
    kind: str
    default: Any
    description: str


def fields() -> tuple[RecipeField, ...]:
    """All leaves, in the order of the sections."""
    return tuple(
        RecipeField(
            name=name,
            section=section,
            kind=_kind(info),
            default=info.get_default(call_default_factory=True, validated_data={}),
            description=info.description or "",
        )
        for section, model in _sections().items()
        for name, info in model.model_fields.items()
    )


def recipe_folder() -> Path:
    """Where the shipped recipes are: the checkout's `experiments/`, or what a wheel installed."""
    checkout = Path(__file__).parents[2] / "experiments"
    installed = Path(sysconfig.get_path("data")) / "share" / "histo-mlflow" / "experiments"
    return checkout if checkout.is_dir() else installed


def shipped() -> dict[str, Path]:
    """Name -> file of every recipe that comes with the project."""
    return {path.stem: path for path in sorted(recipe_folder().glob("*.yaml"))}


def load(name_or_path: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Read a recipe by its shipped name or its path, and lay overrides over it.

    Args:
        name_or_path: `ham10000`, or a path that ends in .yaml.
        overrides: leaf name -> value; text is converted as on the command line.

    Raises:
        RecipeError: naming every unknown field and every wrong value at once.
    """
    path = _find(name_or_path)
    raw = _content(path)
    if not isinstance(raw, dict):
        got = "it is empty" if raw is None else f"got {_shown(raw)}"
        raise RecipeError(f"{path} should hold the sections of a recipe, {got}")
    return build({"name": path.stem, **raw}, overrides or {}, where=str(name_or_path))


def build(raw: Mapping[str, Any], overrides: Mapping[str, Any], *, where: str) -> Recipe:
    """Validate a recipe given as nested mappings; see `load`."""
    recipe, problems = _validated(raw, overrides)
    if recipe is None:
        raise RecipeError(f"recipe {where}: " + "; ".join(problems))
    return recipe


def refusals(raw: Mapping[str, Any], overrides: Mapping[str, Any]) -> list[str]:
    """What `build` would refuse, a sentence each that begins with the field's name."""
    return _validated(raw, overrides)[1]


def field_value(name: str, value: Any) -> Any:
    """One field's value as a recipe has it (text converted, JSON types), whatever the other fields.

    Raises:
        RecipeError: the field does not take it; the sentence begins with the field's name.
    """
    home = next(field.section for field in fields() if field.name == name)
    try:
        section = _sections()[home].model_validate({name: value})
    except ValidationError as error:
        found = [{**detail, "loc": (home, *detail["loc"])} for detail in error.errors()]
        told = [_sentence(detail, [name]) for detail in found]
        raise RecipeError("; ".join(told)) from error
    return section.model_dump(mode="json")[name]


def _validated(
    raw: Mapping[str, Any], overrides: Mapping[str, Any]
) -> tuple[Recipe | None, list[str]]:
    """The recipe, or what is wrong with it."""
    sections = _sections()
    home = {field.name: field.section for field in fields()}
    merged: dict[str, Any] = {
        key: dict(value) if isinstance(value, Mapping) else value for key, value in raw.items()
    }
    problems = []
    for name, value in overrides.items():
        if name not in home:
            problems.append(f"unknown field {name}{did_you_mean(name, home)}")
            continue
        section = merged.setdefault(home[name], {})
        if isinstance(section, dict):
            section[name] = value
    recipe = None
    try:
        recipe = Recipe.model_validate(merged)
    except ValidationError as error:
        known = [*home, *sections, "name", "summary"]
        problems += [_sentence(detail, known) for detail in error.errors()]
    return (None if problems else recipe), problems


def _find(name_or_path: str) -> Path:
    if name_or_path.endswith((".yaml", ".yml")):
        path = Path(name_or_path)
        if problem := no_file(path, "recipe"):
            raise RecipeError(problem)
        return path
    known = shipped()
    if name_or_path not in known:
        raise RecipeError(
            f"no recipe is called {name_or_path!r}{did_you_mean(name_or_path, known)}; "
            f"there are {', '.join(known)}, or give the path of a .yaml file"
        )
    return known[name_or_path]


def no_file(path: Path, what: str) -> str | None:
    """Why a path given for a recipe or a study (`what`) is no file to read; None: it is one."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"no {what} file at {path}"
    except (OSError, ValueError) as error:
        # Too long, not to be looked into, links in a circle, or a null byte in the name.
        return f"{str(path)!r} cannot be a {what} file: {getattr(error, 'strerror', '') or error}"
    if stat.S_ISDIR(mode):
        return f"{path} is a folder, and should be a {what} file"
    return (
        None if stat.S_ISREG(mode) else f"{path} is no ordinary file, and should be a {what} file"
    )


def _content(path: Path) -> Any:
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is not a YAML file: {' '.join(str(error).split())}") from error
    except OSError as error:
        raise RecipeError(f"{path} cannot be read: {error.strerror or error}") from error
    except RecursionError as error:
        raise RecipeError(f"{path} is nested too deeply to be read") from error
    except (ValueError, ArithmeticError, LookupError, AttributeError) as error:
        # PyYAML's and Python's own errors for what looks like a date or number, or has a tag.
        why = str(error).split(";")[0] if isinstance(error, ValueError) else type(error).__name__
        raise RecipeError(
            f"{path} holds a value that cannot be read ({why}): put text that looks like a date or "
            "a number in quotes"
        ) from error


def _sections() -> dict[str, type[_Section]]:
    return {
        name: info.annotation
        for name, info in Recipe.model_fields.items()
        if isinstance(info.annotation, type) and issubclass(info.annotation, _Section)
    }


def _kind(info: FieldInfo) -> str:
    """A field's type as a reader of `--help` wants it."""
    annotation = info.annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        annotation = next(a for a in typing.get_args(annotation) if a is not type(None))
    if typing.get_origin(annotation) is Literal:
        return "|".join(typing.get_args(annotation))
    if typing.get_origin(annotation) is tuple:
        return "low,high"
    if typing.get_origin(annotation) is dict:
        return "stage=rate,..."
    names: dict[Any, str] = {int: "integer", float: "number", bool: "true|false", str: "text"}
    return names[annotation]


def _sentence(detail: Any, known: list[str]) -> str:
    path = [str(part) for part in detail["loc"]]
    field = path[1] if len(path) > 1 else (path[0] if path else "")
    if detail["type"] == "extra_forbidden":
        return f"unknown field {'.'.join(path)}{did_you_mean(path[-1], known)}"
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if not field:
        return str(message)
    message = message.replace("Input should be", "should be").replace("String should", "should")
    if detail["type"] == "string_pattern_mismatch" and field == "device":
        message = "should be auto, cpu, mps, cuda or cuda:N"
    if detail["type"] == "string_pattern_mismatch" and field == "name":
        message = "should be made of letters, digits, dots, dashes and underscores"
    if detail["type"] == "missing":
        message = "should be two numbers, low,high"
    message = message.split(", unable to")[0]
    return f"{field} {message}, got {_shown(detail['input'])}"


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:
        # Python writes out no integer of more than 4,300 digits, which a file can have as 0x...
        text = f"a value too long to be shown ({type(value).__name__})"
    return text if len(text) <= 60 else text[:57] + "..."


def did_you_mean(name: str, known: typing.Iterable[str]) -> str:
    """The nearest known name as a question in brackets after a wrong one, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" (did you mean {close[0]}?)" if close else ""
