"""The sections of a recipe and their fields: names, types, bounds, defaults, descriptions."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.fields import FieldInfo

from histo_mlflow.recipe._agreement import disagreements

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
        if problems := list(disagreements(self)):
            raise ValueError("; ".join(problems))
        return self

    def flatten(self) -> dict[str, Any]:
        """Leaf name -> value, in the order of the file; the shape of MLflow params."""
        flat: dict[str, Any] = {"recipe": self.name}
        for section in sections():
            flat.update(getattr(self, section).model_dump(mode="json"))
        return flat

    def to_yaml(self) -> str:
        """The recipe as a file that `load` reads back to an equal recipe."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


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
        for section, model in sections().items()
        for name, info in model.model_fields.items()
    )


def sections() -> dict[str, type[BaseModel]]:
    """Name -> model of every section, in the order of the file."""
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
