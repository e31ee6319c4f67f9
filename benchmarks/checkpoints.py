"""What it costs a training that it can be gone on with, as a share of its wall time.

Claim: in one real `train()` of HAM10000 (EfficientNet-Lite0, 96 px, its recipe, tracked in SQLite)
the seconds inside `Checkpoints.save`, `save_best` and `Journal.append` are below 1 % of the wall
time of all epochs. n: one run. The calls are timed in the process itself, since the difference of
two runs on a shared machine wavers by more than what is looked for. Those of the thread that trains
count; the sampler's appends hold nobody up. Processor time of the thread is shown too: other work
on the machine draws out wall time, and that of the disk most.

Shown without a claim, for ResNet-18 at 96 px, batch 64: the seconds of a step, of its looks at
numbers and of the saves (median of REPEATS), and what the saves come to in an epoch of HAM10000
(110 steps) and of PCam (2,407 steps). Reckoned, not run.

    python benchmarks/checkpoints.py --data_dir DIR [--weights FILE] [--epochs N] [--threads N]
"""

import argparse
import logging
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from _timing import duration, machine
from histo_mlflow.device import plan_device
from histo_mlflow.jobs.epochs import Epochs
from histo_mlflow.jobs.talk import Talk
from histo_mlflow.jobs.train import train
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.groups import parameter_groups
from histo_mlflow.models.losses import loss_function
from histo_mlflow.recipe import load
from histo_mlflow.tracking.journal import Journal
from histo_mlflow.training.checkpoint import Checkpoints
from histo_mlflow.training.numbers import NumberWatch
from histo_mlflow.training.optim import build_optimiser
from histo_mlflow.training.state import LoopState
from histo_mlflow.training.step import train_step
from histo_mlflow.training.stopping import Stopping

BATCH, PX, REPEATS = 64, 96, 5
Noted = dict[str, list[tuple[float, float, bool]]]
"""(seconds, processor seconds, whether in the thread that trains) of each call, by its name."""
EPOCHS = {"HAM10000": 110, "PCam": 2407}
TIMED: tuple[tuple[type, str], ...] = (
    (Checkpoints, "save"),
    (Checkpoints, "save_best"),
    (Journal, "append"),
    (NumberWatch, "expect"),
    (NumberWatch, "look"),
    (Epochs, "train"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data_dir", help="HAM10000; without it only the parts are timed")
    parser.add_argument("--weights", default="imagenet", help="of EfficientNet-Lite0")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    options = parser.parse_args()
    if options.data_dir:
        print(real_run(options.data_dir, options.weights, options.epochs, options.threads))
    print(reckoned(options.threads))
    print(machine())


def real_run(data_dir: str, weights: str, epochs: int, threads: int) -> str:
    """One training of HAM10000 with every call in `TIMED` on the watch."""
    given = {"data_dir": data_dir, "weights": weights, "epochs": str(epochs)}
    recipe = load("ham10000", {**given, "threads": str(threads)})
    seconds: Noted = {}
    for owner, name in TIMED:
        watch(owner, name, seconds)
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as scratch:
        train(
            recipe,
            tracking_uri=f"sqlite:///{scratch}/mlflow.db",
            runs_dir=Path(scratch) / "runs",
            talk=Talk(),
        )
    ((whole, _, _),) = seconds.pop("Epochs.train")
    kept = ("Checkpoints", "Journal")
    mine = {name: [one for one in each if one[2]] for name, each in seconds.items()}
    spent, processor = (
        sum(one[i] for name, each in mine.items() if name.startswith(kept) for one in each)
        for i in (0, 1)
    )
    lines = [
        f"## HAM10000, EfficientNet-Lite0, {PX} px, {epochs} epoch(s): {whole:.1f} s of training",
        "",
        "| call, in the thread that trains | times | seconds | of it processor | share |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {name} | {len(each)} | {sum(one[0] for one in each):.3f} "
            f"| {sum(one[1] for one in each):.3f} | {sum(one[0] for one in each) / whole:.3%} |"
            for name, each in mine.items()
        ),
        f"| checkpoints and journal | | {spent:.3f} | {processor:.3f} | **{spent / whole:.2%}** "
        "(target < 1 %) |",
    ]
    return "\n".join(lines) + "\n"


def watch(owner: type, name: str, seconds: Noted) -> None:
    """Note how long every call of a method takes, under `Owner.name`."""
    original: Callable[..., Any] = getattr(owner, name)
    noted = seconds.setdefault(f"{owner.__name__}.{name}", [])

    def timed(*arguments: Any, **options: Any) -> Any:
        started, worked = time.perf_counter(), time.thread_time()
        try:
            return original(*arguments, **options)
        finally:
            mine = threading.current_thread() is threading.main_thread()
            noted.append((time.perf_counter() - started, time.thread_time() - worked, mine))

    setattr(owner, name, timed)


def reckoned(threads: int) -> str:
    """The parts for ResNet-18, and what they come to in an epoch."""
    plan = plan_device(threads=threads)
    plan.use_threads()
    model = build(specify("resnet18", ("one", "two"), image_px=PX)).to(plan.device)
    model = model.to(memory_format=plan.memory_format).train()
    groups = parameter_groups(model, lr=1e-3, weight_decay=0.01)
    state = LoopState(
        model=model,
        optimiser=build_optimiser("adamw", groups),
        scaler=torch.amp.GradScaler(plan.device.partition(":")[0], enabled=False),
        stopping=Stopping("val/loss", None, best_value=0.5, best_epoch=1),
    )
    images = torch.randint(0, 256, (BATCH, 3, PX, PX), dtype=torch.uint8, device=plan.device)
    images = images.contiguous(memory_format=plan.memory_format)
    labels = torch.randint(0, 2, (BATCH,), device=plan.device)

    def step() -> None:
        train_step(
            model,
            loss_function("softmax"),
            state.optimiser,
            images,
            labels,
            autocast=plan.autocast,
            scaler=state.scaler,
            share=1.0,
            update=True,
            clip_norm=None,
        ).loss.item()

    def numbers() -> None:
        parameters = list(model.parameters())
        for _ in range(2):  # of the gradients, which have the shapes of the weights, and of these
            float(nn.utils.get_total_norm([p.detach() for p in parameters]))

    step()
    with tempfile.TemporaryDirectory() as scratch:
        checkpoints = Checkpoints(Path(scratch), {})

        def save() -> None:
            state.progress.steps += 1
            checkpoints.save(state)

        checkpoints.save_best(state)
        costs = {
            "a step": median(step),
            "its looks at numbers": median(numbers),
            "a save": median(save),
            "a save of the best weights": median(lambda: checkpoints.save_best(state)),
        }
    of_step, looks, *saves = costs.values()
    shares = [
        f"{name} ({steps:,} steps): {sum(saves) / (steps * of_step):.2%}"
        for name, steps in EPOCHS.items()
    ]
    parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in costs.items())
    return (
        f"## ResNet-18, {PX} px, batch {BATCH}\n\n{parts}.\n"
        f"Reckoned share of an epoch with one save of each kind: {'; '.join(shares)}. "
        f"The looks are {looks / of_step:.2%} of a step.\n"
    )


def median(work: Callable[[], object]) -> float:
    """Median seconds of `REPEATS` calls after one that is not timed."""
    work()
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


if __name__ == "__main__":
    main()
