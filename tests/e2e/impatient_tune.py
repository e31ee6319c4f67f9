"""`histo-mlflow`, whose workers count as dead after 4 s of silence rather than 60.

The workers import this file before they work, as Python's `multiprocessing` does with the program
that starts a process; so both sides have the same bounds.
"""

from histo_mlflow.tuning.queue import Queue

Queue.__init__.__kwdefaults__.update(grace_seconds=4.0, beat_seconds=0.5)

if __name__ == "__main__":
    from histo_mlflow.cli import main

    main()
