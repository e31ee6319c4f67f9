"""What the server imports that the workers are forked from; nothing else imports this.

A signal that goes to all processes of a command at once, as those of `timeout`, Slurm and systemd
do, must not end it before the workers, which save: only through it is known how they ended. So it
holds back the signals that end a process; a worker lets them through as it begins, and one that
came before that is not lost.

What is there then is frozen: it is never garbage, so that the collector of a worker does not touch,
and thereby copy, the pages that all workers share, and none of it is taken apart object by object
when the server ends, which takes seconds.
"""

from __future__ import annotations

import gc
import signal
from importlib import import_module

signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGHUP))
for name in (
    "histo_mlflow.tuning.objective",
    "mlflow.store.tracking.sqlalchemy_store",
    "timm",
):
    import_module(name)
gc.freeze()
