"""What a training through an outage of its MLflow server leaves, against an undisturbed one.

Claims: whatever a real `mlflow server` does in mid-run (killed for 30 s, killed for ever, answers
500, nothing or 403, resets connections after its commit, hangs), its database ends with that of the
undisturbed training: no metric point lost, doubled or different, one finished run, one model; and
no call from the training loop waits for the server.
n: one training of --epochs epochs for each scenario, on demo data, with a pause after each epoch so
that the outage falls into the middle.

    python benchmarks/outages.py [--outage-seconds N] [--hiccup-seconds N] [--only NAME ...]

What is compared are SQL rows, so that neither MLflow nor the code under test can hide one. Ends
with 1 if a scenario does not come to what the undisturbed one is. Server and misbehaving proxy are
those of `tests/tracking`.
"""

import argparse
import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "tracking"))

from bad_proxy import BadProxy, Mode  # type: ignore[import-not-found]
from real_server import Server  # type: ignore[import-not-found]

MAX_STALL_S = 1.0
AT_EPOCH = 5
RECIPE = {
    "--dataset": "demo",
    "--demo-images": "60",
    "--image-px": "32",
    "--model": "shufflenet_v2_x0_5",
    "--batch-size": "16",
    "--precision": "fp32",
    "--memory-format": "contiguous",
    "--threads": "1",
    "--doctor": "off",
}
# What the clock decides differs from run to run: there only key and step are compared. How many
# system samples there are does too: they are compared with the run's own journal.
BY_THE_CLOCK = ("images_per_second", "epoch_seconds", "train_seconds", "data_wait_share")
# The command line itself; it tells at its end the longest time that one call for metrics took.
TRAINING = """
import atexit, sys, time
from histo_mlflow.cli import main
from histo_mlflow.tracking.run import TrackedRun
stalls = [0.0]
def timed(call, pause):
    def wrapped(*args, **options):
        began = time.perf_counter()
        try:
            call(*args, **options)
        finally:
            stalls.append(time.perf_counter() - began)
        time.sleep(pause)
    return wrapped
TrackedRun.log_epoch = timed(TrackedRun.log_epoch, float(sys.argv.pop(1)))
TrackedRun.log_metrics = timed(TrackedRun.log_metrics, 0.0)
atexit.register(lambda: print(f"stall {max(stalls):.4f}", file=sys.stderr))
main()
"""


@dataclass
class Left:
    """What process and database say of one scenario."""

    codes: list[int]
    sentences: list[str]
    stall: float
    rows: list[tuple[str, int, float]]
    noted: set[tuple[str, int]]
    """Key and step of the journal's points."""
    others: tuple[str, int, int, int]
    """Runs with status and ending; models, dataset inputs and artifact files."""


@dataclass(frozen=True)
class Trouble:
    """The address to train against, what happens in mid-run, and whether `runs sync` follows."""

    uri: str
    strike: Callable[[], object] = lambda: None
    for_ever: bool = False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds after each epoch")
    parser.add_argument("--outage-seconds", type=float, default=30.0, help="of the killed server")
    parser.add_argument("--hiccup-seconds", type=float, default=12.0, help="of the other ones")
    parser.add_argument("--only", nargs="*", choices=list(SCENARIOS)[1:], help="these alone")
    parser.add_argument("--folder", type=Path, help="where all files stay; default: nowhere")
    options = parser.parse_args()
    print(
        f"{'scenario':<20}{'expected':>8}{'lost':>6}{'doubled':>9}{'different':>11}  "
        f"{'exit codes':<12}{'runs':<20}{'models':>7}{'inputs':>8}{'files':>7}"
        f"{'stall':>9}{'took':>7}"
    )
    good, undisturbed = True, None
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("undisturbed", *(options.only or list(SCENARIOS)[1:])):
            began = time.monotonic()
            folder = (options.folder or Path(scratch)).absolute() / name
            left = tried(SCENARIOS[name], folder, options)
            undisturbed = undisturbed or left
            good &= reported(name, left, undisturbed, time.monotonic() - began)
    sys.exit(0 if good else 1)


def killed(server: Server, options: argparse.Namespace) -> Trouble:
    def strike() -> None:
        server.kill()
        Timer(options.outage_seconds, server.start).start()

    return Trouble(server.uri, strike)


def hanging(server: Server, options: argparse.Namespace) -> Trouble:
    def strike() -> None:
        server.signal(signal.SIGSTOP)
        Timer(options.hiccup_seconds, server.signal, [signal.SIGCONT]).start()

    return Trouble(server.uri, strike)


def rude(mode: Mode, only: str = "") -> Callable[[Server, argparse.Namespace], Trouble]:
    def scenario(server: Server, options: argparse.Namespace) -> Trouble:
        proxy = BadProxy(server.uri)

        def strike() -> None:
            proxy.behave(mode, only)
            Timer(options.hiccup_seconds, proxy.behave, ["pass"]).start()

        return Trouble(proxy.uri, strike)

    return scenario


SCENARIOS: dict[str, Callable[[Server, argparse.Namespace], Trouble]] = {
    "undisturbed": lambda server, _: Trouble(server.uri),
    "killed-and-back": killed,
    "killed-for-ever": lambda server, _: Trouble(server.uri, server.kill, for_ever=True),
    "answers-500": rude("error"),
    "answers-nothing": rude("empty", "log-batch"),
    "denies": rude("denied"),
    "resets-after-commit": rude("reset", "log-batch"),
    "hangs": hanging,
}


def tried(
    scenario: Callable[[Server, argparse.Namespace], Trouble],
    folder: Path,
    options: argparse.Namespace,
) -> Left:
    """One training against a server of its own."""
    folder.mkdir(parents=True)
    server = Server(folder / "mlflow.db", folder)
    try:
        server.wait()
        trouble = scenario(server, options)
        code, said = trained(folder, trouble, options)
        (run_dir,) = (folder / "runs").iterdir()
        codes, sentences = [code], [s for s in said if s.startswith("histo-mlflow: ")]
        for _ in range(2 if trouble.for_ever else 0):
            if server.process.poll() is not None:
                server.start()
            server.wait()
            sync = [sys.executable, "-m", "histo_mlflow.cli", "runs", "sync", str(run_dir)]
            done = subprocess.run(sync, cwd=folder, capture_output=True, text=True, check=False)
            codes.append(done.returncode)
            sentences += (done.stdout + done.stderr).splitlines()
        stall = max((float(s.split()[1]) for s in said if s.startswith("stall ")), default=1e9)
        rows, others = held(server.database, folder / "artifacts")
        return Left(codes, sentences, stall, rows, noted(run_dir / "journal.jsonl"), others)
    finally:
        server.over = True  # a timer may still be about to start it
        server.kill()


def trained(folder: Path, trouble: Trouble, options: argparse.Namespace) -> tuple[int, list[str]]:
    """Train as a user does, with the trouble after an early epoch; exit code and stderr."""
    command = [sys.executable, "-c", TRAINING, str(options.pause), "train"]
    command += [word for pair in RECIPE.items() for word in pair]
    command += ["--epochs", str(options.epochs), "--tracking-uri", trouble.uri]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    said = []
    for line in process.stderr or ():
        said.append(line.rstrip("\n"))
        if line.startswith(f"epoch {AT_EPOCH:>6}/"):
            trouble.strike()
    return process.wait(), said


def held(
    database: Path, artifacts: Path
) -> tuple[list[tuple[str, int, float]], tuple[str, int, int, int]]:
    """Metric rows, and whatever else there is."""
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as connection:
        ask = connection.execute
        rows = ask("select key, step, value from metrics").fetchall()
        runs = ask(
            "select status || '/' || coalesce(value, '-') from runs left join tags "
            "on tags.run_uuid = runs.run_uuid and tags.key = 'histo.ending'"
        ).fetchall()
        (models,) = ask("select count(*) from logged_models").fetchone()
        (inputs,) = ask("select count(*) from inputs where source_type = 'DATASET'").fetchone()
    files = sum(path.is_file() for path in artifacts.rglob("*"))
    return rows, (" ".join(run for (run,) in runs), models, inputs, files)


def noted(journal: Path) -> set[tuple[str, int]]:
    lines = map(json.loads, journal.read_text("utf-8").splitlines())
    return {(key, step) for line in lines for key, _, _, step in line["points"]}


def reported(name: str, left: Left, undisturbed: Left, seconds: float) -> bool:
    """Print a scenario; whether it came to what the undisturbed one did."""
    times = Counter((key, step) for key, step, _ in left.rows)
    values = {(key, step): value for key, step, value in left.rows}
    wanted = {(k, s): v for k, s, v in undisturbed.rows if not k.startswith("system/")}
    lost = (wanted.keys() | left.noted) - times.keys()
    doubled = [point for point, number in times.items() if number > 1]
    other = [p for p in values if not p[0].startswith("system/") and p not in wanted]
    other += [p for p, v in wanted.items() if p[0] not in BY_THE_CLOCK and values.get(p, v) != v]
    runs, models, inputs, files = left.others
    print(
        f"{name:<20}{len(wanted.keys() | left.noted):>8}{len(lost):>6}{len(doubled):>9}"
        f"{len(other):>11}  {'/'.join(map(str, left.codes)):<12}{runs:<20}{models:>7}{inputs:>8}"
        f"{files:>7}{1000 * left.stall:>6.0f} ms{seconds:>5.0f} s",
        *(f"    {sentence}" for sentence in left.sentences),
        sep="\n",
        flush=True,
    )
    whole = not (lost or doubled or other) and left.others == undisturbed.others
    return whole and left.stall < MAX_STALL_S


if __name__ == "__main__":
    main()
