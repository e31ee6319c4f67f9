"""Whether a prediction that is killed again and again comes out as if nothing had happened.

Claim: `histo-mlflow predict` over all images of a folder, killed by SIGKILL at --kills random
moments and gone on with each time, writes the undisturbed output byte for byte.
n: --kills kills of one prediction. Four of five come while it predicts, after a time drawn from 0
to twice its share of the undisturbed one's; every fifth comes while it starts.

    python benchmarks/predict_kills.py --data-dir DIR --model MODEL [--kills N] [-- OPTION...]

Prints images/s of the undisturbed prediction, and what each kill left. Ends with 1 if a byte
differs. Options after `--` go to both predictions, such as `-- --engine onnx --tta`.
"""

import argparse
import hashlib
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="images")
    parser.add_argument("--model", required=True, help="as of `histo-mlflow predict`")
    parser.add_argument("--kills", type=int, default=10, help="kills at random moments")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--format", default="parquet", choices=["parquet", "csv"], help="of both")
    parser.add_argument("options", nargs="*", help="of `histo-mlflow predict`, after --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        whole, killed = (folder / f"{name}.{options.format}" for name in ("whole", "killed"))
        command = [
            *(sys.executable, "-m", "histo_mlflow.cli", "predict", str(options.data_dir)),
            *("--model", options.model, "--json", *options.options),
        ]
        undisturbed, seconds = predict([*command, "--out", str(whole)])
        told("undisturbed", undisturbed, seconds)
        started = seconds - undisturbed["seconds"]
        again = [*command, "--out", str(killed)]
        kill_often(again, killed, options.kills, undisturbed, started, options.seed)
        told("killed", *predict(again))
        sys.exit(0 if same(whole, killed) else 1)


def predict(command: list[str]) -> tuple[dict[str, Any], float]:
    """Run to the end; what it printed and the seconds it took."""
    begun = time.monotonic()
    done = subprocess.run([*command, "--quiet"], stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout), time.monotonic() - begun


def kill_often(
    command: list[str], out: Path, kills: int, whole: dict[str, Any], started: float, seed: int
) -> None:
    """Kill successive attempts; one that is whole before its kill is begun anew.

    Args:
        command: of an attempt.
        out: its output.
        kills: how many.
        whole: what the undisturbed one printed.
        started: seconds that it took to start.
        seed: of the moments.
    """
    draw = random.Random(seed)
    work = out.with_name(f".{out.name}.work")
    done = 0
    while done < kills:
        early = done % 5 == 4
        pause = draw.uniform(0, started if early else 2 * whole["seconds"] / kills)
        process = subprocess.Popen([*command, "--quiet"], stdout=subprocess.DEVNULL)
        if not early:
            reaches(process, work, len(list(work.glob("chunk-*"))))
        try:
            code = process.wait(pause)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            done += 1
            kept = len(list(work.glob("chunk-*")))
            when = "of its start" if early else "after its first chunk"
            print(f"kill {done:3}, {pause:6.2f} s {when}: {kept} chunks kept", flush=True)
            continue
        if code:
            sys.exit(f"the prediction ended with {code}")
        print("whole before its kill: begun anew", flush=True)
        out.unlink()


def reaches(process: subprocess.Popen[bytes], work: Path, chunks: int) -> None:
    """Wait until an attempt has written a chunk of its own, or ended."""
    while process.poll() is None and len(list(work.glob("chunk-*"))) <= chunks:
        time.sleep(0.005)


def told(name: str, found: dict[str, Any], seconds: float) -> None:
    rate = found["images_per_second"]
    print(
        f"{name}: {found['images']:,} images, {found['bad']} bad, {found['reused']:,} done before, "
        f"{seconds:.1f} s with start" + (f", {rate:.1f} images/s" if rate else ""),
        flush=True,
    )


def same(whole: Path, killed: Path) -> bool:
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (whole, killed)]
    equal = digests[0] == digests[1]
    print(f"bytes {'equal' if equal else 'DIFFER'}: {whole.stat().st_size:,}, {digests[0][:16]}")
    return equal


if __name__ == "__main__":
    main()
