"""The Benign/Malignant notebook's own way against the mended recipe: same splits, weights, pixels.

    python benchmarks/benign_malignant.py --data-dir FOLDER --weights FILE --model NAME

The notebook is rebuilt with its mistakes: the optimiser never gets the early stages; `eval()` is
never called, so that BatchNorm normalises with (and learns from) validation and test batches and
dropout stays on while judging; the training images are augmented once; accuracy stops. The recipe
is `experiments/benign_malignant.yaml`. Each seed draws its own 60/20/20 split; both ways get it.
The interval is a paired bootstrap over the test images of each seed; their number is printed.

The notebook judges shuffled batches here. In the order of the folders each batch would hold one
class, whose statistics BatchNorm without eval() takes away: AUC 0.56 (one seed, 280 images), which
cannot be how its 0.8834 came about.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter

import click
import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from _timing import machine
from histo_mlflow import recipe as recipes
from histo_mlflow.data.batches import PackedDataset, batches, epoch_order
from histo_mlflow.jobs.metrics import epoch_measure
from histo_mlflow.jobs.ready import Ready, get_ready
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.models.build import Classifier, build
from histo_mlflow.models.groups import stages
from histo_mlflow.models.losses import loss_function
from histo_mlflow.models.weights import load_pretrained
from histo_mlflow.randomness import derive
from histo_mlflow.training.judging import predict_logits
from histo_mlflow.training.loop import fit
from histo_mlflow.vision.augment import augment

# The notebook's stages at 1e-3, on a ResNet and on what corresponds in an EfficientNet. The stages
# before them are left out in the notebook; in the recipe they get 1e-4.
LATE_STAGES = {
    "resnet": ("layer3", "layer4"),
    "efficientnet": ("blocks.3", "blocks.4", "blocks.5", "blocks.6", "conv_head"),
}
PATIENCE = 5


@dataclass(frozen=True)
class Outcome:
    """Test targets and probabilities of "malignant" of one training."""

    targets: np.ndarray
    scores: np.ndarray
    epochs: int
    seconds: float

    @property
    def accuracy(self) -> float:
        """Share of right answers at 0.5."""
        return float(((self.scores > 0.5) == self.targets).mean())

    @property
    def auc(self) -> float:
        """Area under the ROC curve."""
        return float(roc_auc_score(self.targets, self.scores))


def positive(logits: Tensor) -> np.ndarray:
    return logits.double().softmax(dim=1)[:, 1].numpy()


def mended(ready: Ready) -> Outcome:
    """The recipe as `histo-mlflow train` runs it, without tracking."""
    started = perf_counter()
    best: dict[str, Tensor] = {}
    for record in fit(
        ready.state,
        ready.prepared.dataset("train"),
        ready.prepared.dataset("val"),
        ready.settings,
        loss_function=loss_function("softmax"),
        measure=lambda targets, logits: epoch_measure(
            targets, logits, ready.recipe.model.output, ready.prepared.manifest.classes
        ),
        plan=ready.plan,
    ):
        if record.improved:
            best = copy.deepcopy(ready.state.judged_model.state_dict())
    ready.state.judged_model.load_state_dict(best)
    test = ready.prepared.dataset("test")
    logits = predict_logits(
        ready.state.judged_model, test, batch_size=ready.settings.eval_batch_size, plan=ready.plan
    )
    return Outcome(
        test.labels, positive(torch.from_numpy(logits)), record.epoch, perf_counter() - started
    )


def notebook(ready: Ready) -> Outcome:
    """The notebook's loop, mistakes included."""
    started = perf_counter()
    spec, seed = ready.state.model.spec, ready.settings.seed
    model = build(spec, derive(seed, "weights"))
    load_pretrained(model, ready.recipe.model.weights)
    model = model.to(memory_format=torch.channels_last).train()
    by_stage = stages(model)
    late = late_stages(spec.name)
    groups = [
        {"params": [p for _, p in by_stage["head"]], "lr": 1e-2},
        {"params": [p for stage in late for _, p in by_stage[stage]], "lr": 1e-3},
    ]
    optimiser = torch.optim.Adam(groups)  # the early stages are forgotten
    train, val, test = (ready.prepared.dataset(split) for split in ("train", "val", "test"))
    once = augmented_once(train, ready)
    best_accuracy, best, waited, epoch = -1.0, copy.deepcopy(model.state_dict()), 0, 0
    size = ready.settings.batch_size
    for epoch in range(ready.settings.epochs):
        order = epoch_order(len(train), seed, epoch, sampling="shuffled")
        torch.manual_seed(derive(seed, "notebook", epoch))
        for at in range(0, len(order), size):
            chosen = order[at : at + size]
            if len(chosen) < 2:
                continue
            logits = model(once[torch.from_numpy(chosen)])
            loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(train.labels[chosen]))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        scores = judged_in_train_mode(model, val, size)
        accuracy = float(((scores > 0.5) == val.labels).mean())
        if accuracy > best_accuracy:
            best_accuracy, best, waited = accuracy, copy.deepcopy(model.state_dict()), 0
        else:
            waited += 1
        if waited >= PATIENCE:
            break
    model.load_state_dict(best)
    scores = judged_in_train_mode(model, test, size)
    return Outcome(test.labels, scores, epoch + 1, perf_counter() - started)


def augmented_once(train: PackedDataset, ready: Ready) -> Tensor:
    order = np.arange(len(train), dtype=np.int64)
    parts = [
        augment(batch.images, ready.settings.policy, ready.settings.seed, 0, batch.positions)
        for batch in batches(train, order, 128, drop_last=False)
    ]
    return torch.cat(parts)


@torch.no_grad()
def judged_in_train_mode(model: Classifier, dataset: PackedDataset, size: int) -> np.ndarray:
    """No eval(): BatchNorm uses and learns the batch's statistics, dropout drops."""
    order = epoch_order(len(dataset), 0, 0, sampling="shuffled")
    parts = [model(batch.images) for batch in batches(dataset, order, size, drop_last=False)]
    scores = np.empty(len(dataset))
    scores[order] = positive(torch.cat(parts))
    return scores


def late_stages(name: str) -> tuple[str, ...]:
    return LATE_STAGES["efficientnet" if "efficientnet" in name else "resnet"]


def paired_interval(
    pairs: list[tuple[Outcome, Outcome]], statistic: Callable[[np.ndarray, np.ndarray], float]
) -> tuple[float, float, float]:
    """Mean difference (second minus first) over seeds, and its 95 % bootstrap interval."""
    rng = np.random.default_rng(0)

    def difference(rows: list[np.ndarray]) -> float:
        return float(
            np.mean(
                [
                    statistic(b.targets[r], b.scores[r]) - statistic(a.targets[r], a.scores[r])
                    for (a, b), r in zip(pairs, rows, strict=True)
                ]
            )
        )

    sizes = [len(a.targets) for a, _ in pairs]
    draws = [difference([rng.integers(0, n, n) for n in sizes]) for _ in range(2000)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return difference([np.arange(n) for n in sizes]), float(low), float(high)


@click.command()
@click.option("--data-dir", required=True, help="Folder with Benign/ and Malignant/.")
@click.option("--weights", required=True, help="imagenet, or a file of weights.")
@click.option("--model", default="resnet18", show_default=True)
@click.option("--image-px", default=224, show_default=True)
@click.option("--epochs", default=15, show_default=True)
@click.option("--seeds", default=3, show_default=True, help="How many.")
@click.option("--first-seed", default=0, show_default=True)
def main(
    data_dir: str,
    weights: str,
    model: str,
    image_px: int,
    epochs: int,
    seeds: int,
    first_seed: int,
) -> None:
    late = ",".join(f"{stage}=1e-3" for stage in late_stages(model))
    pairs = []
    print(f"# Notebook against recipe, {model} at {image_px} px\n\n{machine()}\n")
    print(
        "| seed | n test | way | accuracy | AUC | epochs | seconds |\n|---|---|---|---|---|---|---|"
    )
    for seed in range(first_seed, first_seed + seeds):
        ready = get_ready(
            recipes.load(
                "benign_malignant",
                {
                    "data_dir": data_dir,
                    "weights": weights,
                    "model": model,
                    "image_px": image_px,
                    "epochs": epochs,
                    "seed": seed,
                    "split_seed": seed,
                    "group_lrs": f"head=1e-2,{late},rest=1e-4",
                },
            ),
            talk=Talk(quiet=True),
        )
        outcomes = {"notebook": notebook(ready), "recipe": mended(ready)}
        pairs.append((outcomes["notebook"], outcomes["recipe"]))
        for way, outcome in outcomes.items():
            print(
                f"| {seed} | {len(outcome.targets)} | {way} | {outcome.accuracy:.4f} "
                f"| {outcome.auc:.4f} | {outcome.epochs} | {outcome.seconds:.0f} |",
                flush=True,
            )
    for name, statistic in (
        ("AUC", lambda targets, scores: float(roc_auc_score(targets, scores))),
        ("accuracy", lambda targets, scores: float(((scores > 0.5) == targets).mean())),
    ):
        mean, low, high = paired_interval(pairs, statistic)
        print(
            f"\n{name}: recipe minus notebook {mean:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}"
        )


if __name__ == "__main__":
    main()
