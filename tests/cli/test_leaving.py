"""How a command ends."""

import subprocess
import sys

SAYING = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count() > 0))  # the last to run
sys.argv[1:] = {arguments}
from histo_mlflow.cli import main
main()
"""


def test_a_command_that_ends_does_not_look_through_its_memory_for_garbage():
    """It takes two seconds where torch and MLflow are loaded, with nothing left to be found."""
    for arguments, code in ((["recipe", "list"], 0), (["train", "--nothing"], 1)):
        text = SAYING.format(arguments=arguments)
        ended = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)

        assert ended.returncode == code, ended.stderr
        assert ended.stdout.splitlines()[-1] == "True"
