"""The training step as this project runs it, against the plain fp32 loop.

Claim: with the plan's precision and memory format and the fused optimiser, a step of ResNet-18 at
96 px, batch 64, is at least 1.9 times as fast on a CPU with bf16 units; on a CPU without them the
plan stays in fp32 and what is left is the memory format. 5 pairs of 3 steps each, in turn.

    python benchmarks/step.py [--threads N] [--steps N] [--repeats N]
"""

import argparse
from collections.abc import Callable

import torch
import torchvision
from torch.nn import functional as F

from _timing import Row, pairs, report
from histo_mlflow.device import DevicePlan, plan_device
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.groups import parameter_groups
from histo_mlflow.models.losses import loss_function
from histo_mlflow.training.optim import build_optimiser

BATCH, PX, CLASSES = 64, 96, 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0: torch's choice")
    parser.add_argument("--steps", type=int, default=3, help="steps of each timing")
    parser.add_argument("--repeats", type=int, default=5, help="pairs")
    options = parser.parse_args()
    plan = plan_device(threads=options.threads)
    plan.use_threads()
    images = torch.randint(0, 256, (BATCH, 3, PX, PX), dtype=torch.uint8).to(plan.device)
    targets = torch.randint(0, CLASSES, (BATCH,)).to(plan.device)
    ours = planned(plan, images, targets, options.steps)
    theirs = plain(plan, images, targets, options.steps)
    timed = pairs(ours, theirs, options.repeats)
    memory_format = "channels_last" if plan.channels_last else "contiguous"
    row = Row(
        a=f"planned step, one image ({plan.precision}, {memory_format})",
        b="plain step, one image (fp32, contiguous)",
        pairs=timed,
        per=BATCH * options.steps,
        target=">= 1.9x where the CPU has bf16",
    )
    print(report(f"Training step, ResNet-18, {PX} px, batch {BATCH}", [row]))
    print("Plan:", plan.told())


def planned(
    plan: DevicePlan, images: torch.Tensor, targets: torch.Tensor, steps: int
) -> Callable[[], None]:
    """Steps as the project takes them: uint8 in, the plan's precision and memory format."""
    layout = plan.memory_format
    model = build(specify("resnet18", [str(n) for n in range(CLASSES)], image_px=PX))
    model = model.to(plan.device).to(memory_format=layout).train()
    batch = images.to(memory_format=layout)
    optimiser = build_optimiser("adamw", parameter_groups(model, lr=1e-3, weight_decay=0.01))
    loss = loss_function("softmax")
    scaler = torch.amp.GradScaler(plan.device.partition(":")[0], enabled=plan.precision == "fp16")

    def run() -> None:
        for _ in range(steps):
            with plan.autocast():
                answer = loss(model(batch), targets)
            scaler.scale(answer).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimiser)
            scaler.update()
            optimiser.zero_grad(set_to_none=True)
        answer.item()  # waits for the device

    return run


def plain(
    plan: DevicePlan, images: torch.Tensor, targets: torch.Tensor, steps: int
) -> Callable[[], None]:
    """Steps as the sources write them: float images, fp32, torch's defaults."""
    model = torchvision.models.resnet18(weights=None, num_classes=CLASSES).to(plan.device).train()
    batch = images.float().div(255)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)

    def run() -> None:
        for _ in range(steps):
            answer = F.cross_entropy(model(batch), targets)
            optimiser.zero_grad()
            answer.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        answer.item()

    return run


if __name__ == "__main__":
    main()
