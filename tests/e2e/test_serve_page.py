"""The page for one image, in a headless Chromium that talks to a real server in this process."""

import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from histo_mlflow.inference.serving.app import Access
from histo_mlflow.inference.serving.connection import serve
from histo_mlflow.inference.serving.limits import Limits
from histo_mlflow.inference.serving.listen import listen
from histo_mlflow.jobs._serve_app import make_app
from histo_mlflow.jobs.find_model import find_model
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.weights import save_weights
from histo_mlflow.registry.model_folder import write_model_folder
from histo_mlflow.registry.predictor import Predictor
from histo_mlflow.vision.decode import DecodeRule
from serving_client import png

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TOKEN = "correct-horse-battery"
CLASSES = ("<b>nevus</b>", "melanoma & more", "other")
pytestmark = pytest.mark.slow
ALLOWED = re.compile(r"Failed to load resource: the server responded with a status of 40[01]")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("needs a Chromium on PATH")
    with sync_api.sync_playwright() as playwright:
        one = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        yield one
        one.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    spec = specify("squeezenet1_1", CLASSES, image_px=64)
    save_weights(build(spec, seed=3), folder / "weights.safetensors")
    write_model_folder(
        folder / "model",
        spec=spec,
        rule=DecodeRule(64),
        weights_paths=[folder / "weights.safetensors"],
        calibration={"temperature": 0.5, "thresholds": {}},
        abstain={"below": 0.99, "share": 0.1, "rows": 10},
        provenance={"run_id": "abc"},
    )
    return folder / "model"


Serve = Callable[..., str]


@pytest.fixture(scope="module")
def served(model: Path) -> Iterator[Serve]:
    """Serve the model, with or without a token; the address."""
    threads: list[tuple[Any, threading.Thread]] = []

    def start(token: str | None = None) -> str:
        limits, ready = Limits(), threading.Event()
        with find_model(str(model)) as found:
            app = make_app(found, limits, Access(frozenset({"127.0.0.1"}), token))
        taken = listen("127.0.0.1", 0)
        run = threading.Thread(
            target=lambda: serve(app, taken, started=ready.set, ending=print), daemon=True
        )
        run.start()
        assert ready.wait(20)
        threads.append((app, run))
        return f"http://127.0.0.1:{taken.getsockname()[1]}/"

    yield start
    for app, run in threads:
        app.draining = True
        run.join(10)


@dataclass
class Seen:
    """A page, and what it said and asked for."""

    page: Any
    said: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Seen]]:
    contexts = []

    def open_page(url: str, **options: Any) -> Seen:
        context = browser.new_context(**options)
        contexts.append(context)
        seen = Seen(context.new_page())
        seen.page.on("console", lambda message: seen.said.append(message.text))
        seen.page.on("pageerror", lambda error: seen.said.append(str(error)))
        seen.page.on("request", lambda request: seen.asked.append(request.url))
        seen.page.goto(url)
        return seen

    yield open_page
    for context in contexts:
        context.close()


def test_an_image_gets_its_class_its_bars_and_its_grad_cam(
    served: Serve, visit: Callable[..., Seen], model: Path, tmp_path: Path
) -> None:
    url = served()
    seen = visit(url)
    page = seen.page
    data = png(7, 300, 200, "JPEG")
    (tmp_path / "patch.jpg").write_bytes(data)
    page.wait_for_selector("#work:not([hidden])")
    page.set_input_files("#file", str(tmp_path / "patch.jpg"))
    page.wait_for_selector("#heat:not([hidden]), #heat-none:not([hidden])", state="attached")

    expected = Predictor(model).predict_bytes([data])[0]
    best = int(expected.argmax())
    assert page.inner_text("#class") == CLASSES[best]
    assert page.inner_text("#percent") == f"{100 * expected[best]:.1f} %"
    labels = [page.inner_text(f"#bars li:nth-child({i}) .label") for i in (1, 2, 3)]
    assert labels == [CLASSES[k] for k in expected.argsort()[::-1]]
    assert "abstains" in page.inner_text("#abstain")

    # a class that something in the image speaks for has a picture of its own size beside the image
    for i in (1, 2, 3):
        page.click(f"#bars li:nth-child({i}) button")
        name = labels[i - 1]
        page.wait_for_function(
            "name => document.querySelector('#heat').alt.endsWith(name)", arg=name
        )
        page.wait_for_function(
            "() => !document.querySelector('#heat-none').hidden"
            " || (heat.complete && heat.naturalWidth === 384)"
        )
        if page.is_visible("#heat"):
            break
    size = page.evaluate("[...'wh'].map(c => heat[c == 'w' ? 'naturalWidth' : 'naturalHeight'])")
    assert size == [384, 384]
    assert page.inner_text("#explained") == name
    page.fill("#strength", "30")
    assert page.evaluate("getComputedStyle(heat).opacity") == "0.3"

    page.click("summary")
    assert page.inner_text("#about dd:nth-of-type(3)") == ", ".join(CLASSES)
    assert seen.said == []
    outside = [one for one in seen.asked if not one.startswith((url, "blob:" + url, "data:"))]
    assert outside == []


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("notes.txt", b"no image at all", "Not a JPEG, PNG or TIFF."),
        ("cut.png", png(1)[:400], "Truncated: the data end after 400 bytes"),
        ("empty.jpg", b"", "Empty file."),
    ],
)
def test_a_bad_file_shows_the_reason_and_the_next_is_answered(
    served: Serve, visit: Callable[..., Seen], tmp_path: Path, name: str, data: bytes, reason: str
) -> None:
    seen = visit(served())
    page = seen.page
    (tmp_path / name).write_bytes(data)
    (tmp_path / "good.tiff").write_bytes(png(2, kind="TIFF"))
    page.wait_for_selector("#work:not([hidden])")
    page.set_input_files("#file", str(tmp_path / name))
    page.wait_for_selector("#error:not([hidden])")
    assert page.inner_text("#error-text").startswith(reason)
    assert not page.is_visible("#found")
    page.set_input_files("#file", str(tmp_path / "good.tiff"))
    page.wait_for_selector("#found:not([hidden])")
    assert not page.is_visible("#error")
    page.wait_for_function("() => seen.complete && seen.naturalWidth === 384 && !seen.hidden")
    assert [said for said in seen.said if not ALLOWED.match(said)] == []


def test_a_token_is_asked_for_and_a_wrong_one_is_told(
    served: Serve, visit: Callable[..., Seen]
) -> None:
    seen = visit(served(TOKEN))
    page = seen.page
    page.wait_for_selector("#token-form:not([hidden])")
    assert not page.is_visible("#work")
    page.fill("#token", "not the right one")
    page.press("#token", "Enter")
    page.wait_for_selector("#token-error:not([hidden])")
    page.fill("#token", TOKEN)
    page.press("#token", "Enter")
    page.wait_for_selector("#work:not([hidden])")
    assert not page.is_visible("#token-form")
    assert [said for said in seen.said if not ALLOWED.match(said)] == []


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_cut_off_and_text_can_be_read(
    served: Serve, visit: Callable[..., Seen], tmp_path: Path, scheme: str, width: int
) -> None:
    options = {"color_scheme": scheme, "viewport": {"width": width, "height": 900}}
    page = visit(served(), **options).page
    (tmp_path / "patch.png").write_bytes(png(7, 100, 80))
    page.wait_for_selector("#work:not([hidden])")
    page.set_input_files("#file", str(tmp_path / "patch.png"))
    page.wait_for_selector("#found:not([hidden])")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    contrasts = page.evaluate(CONTRASTS)
    assert len(contrasts) > 8
    assert min(contrasts.values()) >= 4.5, contrasts


CONTRASTS = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
  };
  const found = {};
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!own || !node.checkVisibility() || node.closest("script, style")) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
    found[node.tagName + "#" + node.id + "." + node.className + " " + node.textContent.slice(0, 20)]
      = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  }
  return found;
}"""
