"""`histo-mlflow`, whose workers count as dead after seconds of silence rather than a minute.

The workers import this file before they work, as Python's `multiprocessing` does with the program
that starts a process; so both sides have the same bounds.

`STOP_IN_WRITE="N FILE"` halts the first worker that gets to its N-th transaction in the study's
SQLite file, as a SIGSTOP at that moment does: it holds the file's write lock. Its process id is
left in FILE.
"""

import os
import signal
from pathlib import Path
from typing import Any

from sqlalchemy import event

from histo_mlflow.tuning import _pulse
from histo_mlflow.tuning.shared import _sqlite
from histo_mlflow.tuning.shared.queue import Queue

Queue.__init__.__kwdefaults__.update(grace_seconds=15.0, beat_seconds=0.5)
_pulse.SILENT_SECONDS, _pulse.BEAT_SECONDS = 5.0, 0.2

if "STOP_IN_WRITE" in os.environ and __name__ != "__main__":
    number, _, mark = os.environ["STOP_IN_WRITE"].partition(" ")
    writes = 0
    open_sqlite = _sqlite.open_sqlite

    def opened(url: str) -> Any:
        storage = open_sqlite(url)

        def stop(_connection: Any) -> None:
            global writes
            writes += not _sqlite._local.reads
            if writes != int(number):
                return
            try:
                with Path(mark).open("x", encoding="utf-8") as file:
                    file.write(str(os.getpid()))
            except FileExistsError:
                return  # another worker is the one
            os.kill(os.getpid(), signal.SIGSTOP)

        event.listen(storage.engine, "commit", stop)
        return storage

    _sqlite.open_sqlite = opened

if __name__ == "__main__":
    from histo_mlflow.cli import main

    main()
