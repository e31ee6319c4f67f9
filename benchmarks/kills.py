"""How many trainings go on as the same run after a SIGKILL, and whether that test can fail.

Claims: of 100 real trainings killed at random moments, and of processes ended after each file
operation of a checkpoint (also half-way through a write, and as by a power cut), every one ends
with the weights, the optimiser state, the sample order and the metrics of the undisturbed run, as
one MLflow run without stray files; and every broken variant of the code is caught.
n: --kills random kills; each operation of two checkpoints, and every --stride-th of the job's
beginning and outcome.

    python benchmarks/kills.py [--kills N] [--seed N] [--stride N] [--no-sweep] [--no-variants]

Ends with 1 if one of them is not so. The harness is the one of `tests/crash`.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "crash"))

from harness import trials  # type: ignore[import-not-found]
from harness.variants import VARIANTS  # type: ignore[import-not-found]

LOOPS = (("save 1 3", "adamw"), ("epoch 2", "adamw"), ("save 1 3", "sgd"), ("epoch 2", "sgd"))
JOBS = ("begin", "outcome")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100, help="kills at random moments")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--stride", type=int, default=2, help="of the sweep of whole jobs")
    parser.add_argument("--no-sweep", action="store_true", help="leave out the file operations")
    parser.add_argument("--no-variants", action="store_true", help="leave out the broken code")
    parser.add_argument("--folder", type=Path, help="where failed runs stay; default: nowhere")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch) / "lab"
        cache = Path(os.environ.get("HISTO_MLFLOW_CACHE") or Path(scratch) / "cache")
        lab = trials.Laboratory(folder, cache)
        try:
            whole = kills(lab, options.kills, options.seed)
            whole &= options.no_sweep or sweeps(lab, options.stride)
            whole &= options.no_variants or variants(lab)
        finally:
            lab.close()
    sys.exit(0 if whole else 1)


def kills(lab: Any, number: int, seed: int) -> bool:
    started = time.monotonic()
    tally = trials.random_kills(lab, number, seed)
    report("random SIGKILLs", tally, started)
    print("what the process was doing when it was killed:")
    print(trials.shown_phases(tally))
    return bool(tally.whole)


def sweeps(lab: Any, stride: int) -> bool:
    whole = True
    for window, recipe in LOOPS:
        started = time.monotonic()
        tally = trials.sweep(lab, window, recipe=recipe)
        report(f"sweep of '{window}', {recipe}, every operation", tally, started)
        whole &= tally.whole
    for window in JOBS:
        started = time.monotonic()
        tally = trials.sweep(lab, window, kind="train", stride=stride)
        report(f"sweep of '{window}' of a whole job, every {stride}.", tally, started)
        whole &= tally.whole
    return whole


def variants(lab: Any) -> bool:
    started = time.monotonic()
    missed = []
    for name in VARIANTS:
        caught = trials.try_variant(lab, name)
        if not caught.rightly:
            missed.append(f"{name}: {sorted(caught.missed)} not seen, {sorted(caught.wrong)} seen")
    seconds = time.monotonic() - started
    print(
        f"broken variants: {len(VARIANTS) - len(missed)}/{len(VARIANTS)} caught for their reason "
        f"({seconds:.0f} s)",
        *missed,
        sep="\n  ",
        flush=True,
    )
    return not missed


def report(title: str, tally: Any, started: float) -> None:
    seconds = time.monotonic() - started
    print(f"{title}: {tally.survived}/{tally.tried} survived ({seconds:.0f} s)", flush=True)
    for failure in tally.failures:
        print(f"  {failure[:1500]}", flush=True)


if __name__ == "__main__":
    main()
