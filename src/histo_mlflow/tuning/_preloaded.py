"""What the server imports that the workers are forked from; nothing else imports this.

What is there then is frozen: it is never garbage, so that the collector of a worker does not touch,
and thereby copy, the pages that all workers share, and none of it is taken apart object by object
when the server ends, which takes seconds.
"""

from __future__ import annotations

import gc
from importlib import import_module

for name in (
    "histo_mlflow.tuning.objective",
    "mlflow.store.tracking.sqlalchemy_store",
    "timm",
):
    import_module(name)
gc.freeze()
