"""The kaggle client, played by a script: what it says is believed only where it says yes."""

import os
import sys
import time
from pathlib import Path

import pytest

from histo_mlflow.errors import SubmissionError
from histo_mlflow.jobs import _kaggle_client
from histo_mlflow.jobs._kaggle_client import send

KEY = "0123456789abcdef0123456789abcdef"


class Fake:
    """A `kaggle` at the head of PATH."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, body: str) -> None:
        path = self.folder / "kaggle"
        path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{body}\n")
        path.chmod(0o755)

    def told(self) -> list[str]:
        return (self.folder / "told").read_text().splitlines()


TELL = "open(os.path.join(os.path.dirname(__file__), 'told'), 'w').write('\\n'.join(sys.argv[1:]))"
YES = f"{TELL}\nprint('100%|####| 3.4M'); print('Successfully submitted to Cancer Detection')"


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("KAGGLE_KEY", KEY)
    return Fake(folder)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "submission.csv"
    path.write_text("id,label\na,0.5\n")
    return path


def test_the_client_gets_competition_file_and_message(fake: Fake, file: Path) -> None:
    fake(YES)
    sent = send(file, "histopathologic-cancer-detection", "-first try")
    assert sent.said == "Successfully submitted to Cancer Detection"
    assert fake.told() == [
        "competitions", "submit", "-c", "histopathologic-cancer-detection", "-f", str(file),
        "--message=-first try",
    ]  # fmt: skip


def test_a_client_that_only_gives_a_number_is_believed(fake: Fake, file: Path) -> None:
    fake("print('Submission ref: 4711')")
    assert send(file, "c", "m").said == "Submission ref: 4711"


REFUSALS = {
    "no login": ("print('Authentication required to call'); sys.exit(1)", "kaggle auth login"),
    "an old client without a login": (
        "raise OSError('Could not find kaggle.json. Make sure it is located in /home/x/.kaggle')",
        "kaggle auth login",
    ),
    "401": ("sys.exit('401 - Unauthorized')", "no credentials that Kaggle takes"),
    "403": ("sys.exit('403 - Forbidden')", "accept its rules at https://www.kaggle.com/"),
    "404": ("sys.exit('Could not find competition - please verify')", "no competition 'c'"),
    "an upload that failed, with exit code 0": (
        "print('Could not submit to competition')",
        "did not say that Kaggle took the file.*before sending again.*Could not submit",
    ),
    "rubbish": (
        r"sys.stdout.buffer.write(bytes(range(256)) * 9); sys.exit(3)",
        "ended with exit code 3: look at",
    ),
    "nothing": ("", "did not say that Kaggle took the file"),
    "a crash": ("os.kill(os.getpid(), 11)", "ended with signal 11"),
    "a yes and an error": (
        "print('Successfully submitted to X'); sys.exit(1)",
        "ended with exit code 1",
    ),
    "a traceback": ("import six_is_missing", "No module named 'six_is_missing'"),
}


@pytest.mark.parametrize("case", list(REFUSALS))
def test_whatever_is_no_yes_is_one_sentence(fake: Fake, file: Path, case: str) -> None:
    body, expected = REFUSALS[case]
    fake(body)
    with pytest.raises(SubmissionError, match=expected) as caught:
        send(file, "c", "m")
    assert "\n" not in str(caught.value)
    assert str(caught.value).isprintable()


def test_credentials_that_a_client_prints_are_not_shown(fake: Fake, file: Path) -> None:
    fake("print('user=me key', os.environ['KAGGLE_KEY'], 'token=abcdef'); sys.exit(1)")
    with pytest.raises(SubmissionError) as caught:
        send(file, "c", "m")
    assert KEY not in str(caught.value)
    assert "abcdef" not in str(caught.value)
    assert "[redacted]" in str(caught.value)


def test_a_client_that_hangs_is_ended_with_what_it_started(fake: Fake, file: Path) -> None:
    fake(
        "import subprocess\n"
        "p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open(os.path.join(os.path.dirname(__file__), 'told'), 'w').write(str(p.pid))\n"
        "time.sleep(60)"
    )
    before = time.monotonic()
    with pytest.raises(SubmissionError, match=r"did not end within 5 s.*not known: look at"):
        send(file, "c", "m", seconds=5)
    assert time.monotonic() - before < 30
    (child,) = fake.told()
    deadline = time.monotonic() + 20
    while _lives(int(child)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _lives(int(child))


def _lives(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_client_that_talks_without_end_fills_no_memory(fake: Fake, file: Path) -> None:
    fake("while True: sys.stdout.write('x' * 1000000 + '\\n')")
    with pytest.raises(SubmissionError, match=r"did not end within 1 s"):
        send(file, "c", "m", seconds=1)


def test_a_client_that_asks_gets_no_answer(fake: Fake, file: Path) -> None:
    fake("print('password?'); print(repr(sys.stdin.read())); sys.exit(2)")
    with pytest.raises(SubmissionError, match="its last words: ''"):
        send(file, "c", "m", seconds=20)


def test_without_a_client_its_installation_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_kaggle_client.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SubmissionError, match=r"pip install 'histo-mlflow\[download\]'"):
        send(file, "c", "m")


def test_a_client_that_is_installed_and_not_on_the_path_is_run_by_its_module(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "kaggle").mkdir()
    (tmp_path / "kaggle" / "__init__.py").touch()
    (tmp_path / "kaggle" / "__main__.py").write_text("print('Successfully submitted to X')")
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert send(file, "c", "m").said == "Successfully submitted to X"


def test_a_client_that_cannot_be_started_is_told(fake: Fake, file: Path) -> None:
    fake("")
    (fake.folder / "kaggle").write_bytes(b"#!/no/such/interpreter\n")
    with pytest.raises(SubmissionError, match="cannot be started"):
        send(file, "c", "m")


@pytest.mark.parametrize("name", ["", "-f", "a b", "https://www.kaggle.com/c/x", "a/../b"])
def test_a_competition_that_is_no_name_is_refused(fake: Fake, file: Path, name: str) -> None:
    fake(YES)
    with pytest.raises(SubmissionError, match="Expected the name of a competition"):
        send(file, name, "m")
