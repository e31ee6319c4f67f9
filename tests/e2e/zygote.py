"""A process that has imported everything once and forks the real command line for each request.

Starting Python, torch and mlflow takes seconds, a fork none. A request is a line of JSON on stdin:

    {"arguments": [...], "cwd": "...", "environment": {...}, "log": "...", "moment": "step:3",
     "signals": [[2, 0.0], [15, 0.2]], "hang": 0.0, "gate": null, "fill": null,
     "poison": false, "blank": false, "terminal": null, "nohup": false}

and is answered with {"pid": ...}; {"wait": pid} with its exit code and when it ended. The child is
a session of its own, on the pseudo-terminal `terminal` if that is given, under `nohup` or not; it
runs `histo_mlflow.cli.main` and ends as any process does. At the `moment` it makes a file
`<gate>.there`, waits until there is a file `gate`, notes the time in `<log>.moment`, then sends
itself the signals, each after its pause; or it writes into the file `fill` until the disk is full,
or `poison`s the loss of that step. Where pictures are to be `blank`, a few bytes are written where
each would be.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path


def warm():
    """Import what a training imports; run nothing and start no thread."""
    import matplotlib.pyplot
    import mlflow.pyfunc
    import pyarrow.parquet
    import sklearn.metrics
    import timm
    import torchvision

    import histo_mlflow.cli
    import histo_mlflow.jobs.crossval
    import histo_mlflow.jobs.deliver
    import histo_mlflow.jobs.train

    assert all((matplotlib, mlflow, pyarrow, sklearn, timm, torchvision, histo_mlflow))
    # What has moved is missed by the first test that asks for a process, not by a slow one alone.
    assert [name for name, target in targets().items() if not hasattr(*target)] == []
    assert threading.enumerate() == [threading.main_thread()]


def targets():
    """Where a moment is: the functions that the command line calls then, by name."""
    from mlflow import MlflowClient
    from mlflow.models import Model

    from histo_mlflow.data import _packing
    from histo_mlflow.inference.chunks import Work
    from histo_mlflow.jobs import beginning, illustrate, opening, outcome, train
    from histo_mlflow.training import loop

    return {
        "packing": (_packing, "fill_chunk"),
        "making": (opening, "find_or_make"),
        "noting": (opening, "_note"),
        "starting": (train, "start_run"),
        "begin": (beginning, "draw_data"),
        "step": (loop, "train_step"),
        "validation": (loop, "predict_logits"),
        "results": (outcome, "draw_results"),
        "model-folder": (outcome, "write_model_folder"),
        "example": (outcome, "_example_image"),
        "drawing": (illustrate, "draw_images"),
        "upload": (MlflowClient, "log_artifacts"),
        "model": (Model, "log"),
        "chunk": (Work, "write"),
    }


def poisoned(loss_function):
    """A loss that is NaN."""
    return lambda logits, labels: loss_function(logits, labels) * float("nan")


def at(moment, act):
    """Call `act` when the function of a moment ("step:3": the third step) is entered."""
    name, _, count = moment.partition(":")
    owner, attribute = targets()[name]
    original, left = getattr(owner, attribute), [int(count or 1)]

    def entered(*arguments, **options):
        left[0] -= 1
        if left[0] == 0 and act is poisoned:
            arguments = (arguments[0], poisoned(arguments[1]), *arguments[2:])
        elif left[0] == 0:
            act()
        return original(*arguments, **options)

    setattr(owner, attribute, entered)


def fill(path):
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
    for size in (1 << 20, 1 << 12, 1):
        try:
            while True:
                os.write(descriptor, bytes(size))
        except OSError:
            continue
    os.close(descriptor)


def blank(figure, path, **options):
    Path(path).write_bytes(b"a picture")


def send(request):
    if request["fill"]:
        fill(request["fill"])
        return
    if gate := request["gate"]:
        Path(f"{gate}.there").touch()
        while not Path(gate).exists():
            time.sleep(0.01)
    Path(f"{request['log']}.moment").write_text(repr(time.time()))
    (first, _), *more = request["signals"]
    sent = threading.Event()

    def rest():
        sent.wait()
        for number, pause in more:
            time.sleep(pause)
            os.kill(os.getpid(), number)

    if more:
        threading.Thread(target=rest, daemon=True).start()
    try:
        os.kill(os.getpid(), first)  # what it raises comes from here
    finally:
        sent.set()
    time.sleep(request.get("hang", 0.0))


def fork():
    """`os.fork`, which gives the parent its answer when the child has a session of its own.

    Before that, a signal to the child's group would find none.
    """
    ours, theirs = os.pipe()
    if (pid := os.fork()) == 0:
        os.setsid()
        os.close(ours)
    os.close(theirs)
    if pid != 0:
        os.read(ours, 1)  # returns once the child has closed its end
        os.close(ours)
    return pid


def become(request):
    """What the child does; it leaves through the end of the script, as a real process does."""
    os.chdir(request["cwd"])
    os.environ.update(request["environment"])
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    outputs = log
    if request["terminal"]:
        # The first that a leader of a session opens is the one whose end it is told of.
        terminal = os.open(request["terminal"], os.O_RDWR)
        os.dup2(terminal, 0)
        outputs = log if request["nohup"] else terminal
    # However the tests themselves are run.
    signal.signal(signal.SIGHUP, signal.SIG_IGN if request["nohup"] else signal.SIG_DFL)
    os.dup2(outputs, 1)
    os.dup2(outputs, 2)
    if request["blank"]:
        from matplotlib.figure import Figure

        Figure.savefig = blank
    if request.get("moment"):
        at(request["moment"], poisoned if request["poison"] else lambda: send(request))
    sys.argv = ["histo-mlflow", *request["arguments"]]
    from histo_mlflow.cli import main

    main()


def answer(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    warm()
    answer({"ready": True})
    child = None
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            answer({"status": os.waitstatus_to_exitcode(status), "ended": time.time()})
            continue
        if (pid := fork()) == 0:
            child = asked
            break
        answer({"pid": pid})
    if child is not None:
        become(child)
