"""How many hostile requests each server survives: `mlflow models serve` and `histo-mlflow serve`.

    python benchmarks/hostile.py

Takes about two minutes. The table is `tests/serving/hostility`; what counts as surviving stands in
its `judge`. Memory is that of all processes of the server, three seconds after the last request,
against before the first, once the largest requests have been sent for a first time: an allocator
keeps what it needed once.
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "serving"))

from hostility import servers, trial  # type: ignore[import-not-found]
from hostility.case import GOOD  # type: ignore[import-not-found]
from hostility.cases import all_cases, warm_up  # type: ignore[import-not-found]
from hostility.judge import canary  # type: ignore[import-not-found]
from hostility.model import champion  # type: ignore[import-not-found]

from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.vision.decode import DecodeRule


def main() -> None:
    """Print survived/tried, and what was not survived, of both servers."""
    with tempfile.TemporaryDirectory() as scratch, canary() as (port, callers):
        folder = Path(scratch)
        model = champion(
            folder / "model", DecodeRule(32), GOOD, f"sqlite:///{folder / 'mlflow.db'}"
        )
        oracle, cases = Predictor(model.folder), all_cases(port)
        for start in (servers.plain, servers.histo):
            with start(model.reference, model.uri, folder / start.__name__) as server:
                found = trial.run(server, cases, warm_up(cases), oracle)
            print(found.told())
        print(f"connections to an address in a request: {len(callers)}")


if __name__ == "__main__":
    main()
