"""What the command tells a worker process to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Order:
    """What a worker process is told, through a pipe: addresses may hold passwords.

    Attributes:
        worker: its id.
        storage: URL of Optuna's storage.
        study: name in it.
        tracking_uri: of MLflow's store.
        runs_dir: the trials' local files go to folders of their runs' ids in here.
        definition: `Definition.to_json` of the command; what may differ from it in the storage is
            the command's own, such as the data folder.
        most_epochs: that a trial can have.
        plan: device, precision, memory_format and threads of every trial that it begins.
        started_by: process id of the command, with which it ends.
    """

    worker: str
    storage: str
    study: str
    tracking_uri: str
    runs_dir: str
    definition: str
    most_epochs: int
    plan: Mapping[str, Any]
    started_by: int

    def to_json(self) -> str:
        """The order as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Order:
        """Read it back."""
        return cls(**json.loads(text))
