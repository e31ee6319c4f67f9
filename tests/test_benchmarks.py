"""The benchmarks use what the tests and the package have: each begins, with paths of its own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BEGIN_ALL = """
import importlib.util, pathlib, sys

root = pathlib.Path(sys.argv[1])
path = list(sys.path)
for file in sorted((root / "benchmarks").glob("*.py")):
    sys.path[:] = [str(file.parent), *path]  # as `python benchmarks/file.py` has it
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith((f"{root}/tests/", f"{root}/bench")):
            del sys.modules[name]
    spec = importlib.util.spec_from_file_location(f"benchmark_{file.stem}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    print(file.stem)
"""


def test_every_benchmark_finds_what_it_imports(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN_ALL, ROOT], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == sorted(file.stem for file in (ROOT / "benchmarks").glob("*.py"))
