"""Where things that all runs share are kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir() -> Path:
    """Folder of packed pixels, scans and measured device facts; made when first written to.

    `HISTO_MLFLOW_CACHE` names it; otherwise `$XDG_CACHE_HOME/histo-mlflow`, otherwise
    `~/.cache/histo-mlflow`. Everything in it can be deleted and is then made again.
    """
    if named := os.environ.get("HISTO_MLFLOW_CACHE"):
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "histo-mlflow"
