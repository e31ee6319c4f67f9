import hashlib
import http.server
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
import timm
import torch

from histo_mlflow.errors import WeightsError
from histo_mlflow.models import download, weights
from histo_mlflow.models.build import build, specify
from histo_mlflow.models.download import Remote, fetch, published


def file_of_weights() -> bytes:
    stream = io.BytesIO()
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the same names of tests in every process
        model = timm.create_model("test_resnet", num_classes=10)
    torch.save(model.state_dict(), stream)
    return stream.getvalue()


CONTENT = file_of_weights()
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if "absent" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[: len(CONTENT) // 2] if "broken" in self.path else CONTENT)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """A hub folder of the test's own, and no proxy between it and loopback."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def publish(monkeypatch) -> Callable[[str, str], Remote]:
    def publish_at(server: str, file_name: str) -> Remote:
        remote = Remote(f"{server}/{file_name}", file_name)
        monkeypatch.setattr(weights, "published", lambda name: remote)
        return remote

    return publish_at


def model():
    return build(specify("timm/test_resnet", ("a", "b"), image_px=32))


def test_imagenet_weights_are_downloaded_checked_and_kept(server, publish, hub):
    remote = publish(server, f"test_resnet-{DIGEST[:8]}.pth")
    filled = model()

    facts = weights.load_pretrained(filled, "imagenet")

    expected = torch.load(io.BytesIO(CONTENT), weights_only=True)
    assert facts.source == remote.url
    assert facts.sha256 == DIGEST
    assert filled.backbone.conv1[0].weight.equal(expected["conv1.0.weight"])
    assert [path.name for path in hub.iterdir()] == [remote.file_name]


def test_a_file_in_the_hub_folder_needs_no_network(publish, hub):
    hub.mkdir(parents=True)
    (hub / "test_resnet.pth").write_bytes(CONTENT)
    publish("http://127.0.0.1:9", "test_resnet.pth")

    assert weights.load_pretrained(model(), "imagenet", allow_download=False).sha256 == DIGEST


@pytest.mark.parametrize(
    ("file_name", "says"),
    [
        ("test_resnet-00000000.pth", f"sha256 begins {DIGEST[:8]}, its name says 00000000"),
        ("absent.pth", "Not Found"),
        ("broken.pth", f"broke off after {len(CONTENT) // 2} of {len(CONTENT)} bytes"),
    ],
)
def test_a_download_gone_wrong_leaves_nothing_and_says_how_to_go_on(
    server, publish, hub, file_name, says
):
    publish(server, file_name)

    with pytest.raises(WeightsError, match=says) as caught:
        weights.load_pretrained(model(), "imagenet")

    assert f"curl -L --create-dirs -o {hub / file_name}" in str(caught.value)
    assert "weights=none" in str(caught.value)
    assert list(hub.iterdir()) == []


def test_a_refused_connection_is_an_error_within_seconds(publish):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        publish(f"http://127.0.0.1:{unused.getsockname()[1]}", "weights.pth")
        started = time.monotonic()

        with pytest.raises(WeightsError, match="the download failed"):
            weights.load_pretrained(model(), "imagenet")

    assert time.monotonic() - started < 5


def test_a_silent_server_is_an_error_after_the_timeout(publish, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        publish(f"http://127.0.0.1:{silent.getsockname()[1]}", "weights.pth")

        with pytest.raises(WeightsError, match=r"the download failed \(timed out\)"):
            weights.load_pretrained(model(), "imagenet")


def test_downloads_that_are_switched_off_are_not_tried(hub):
    with pytest.raises(WeightsError, match="downloads are switched off"):
        fetch(Remote("http://127.0.0.1:9/w.pth", "w.pth"), allow_download=False)
    assert not hub.exists()


def test_an_address_that_is_not_http_is_refused():
    with pytest.raises(WeightsError, match="not one of http"):
        fetch(Remote("file:///etc/hostname", "hostname"), allow_download=True)


def test_published_weights_are_torchvisions_default_or_of_timms_tag(monkeypatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)

    resnet = published("torchvision/resnet18")
    lite = published("timm/tf_efficientnet_lite0")
    vit = published("timm/test_vit")

    assert (resnet.file_name, resnet.digest) == ("resnet18-f37072fd.pth", "f37072fd")
    assert lite.digest == "0aa007d2"
    assert (
        vit.url == "https://huggingface.co/timm/test_vit.r160_in1k/resolve/main/model.safetensors"
    )
    assert (vit.file_name, vit.digest) == ("test_vit.r160_in1k.safetensors", "")


def test_a_mirror_of_the_hub_is_honoured(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://mirror.example/")

    assert published("timm/test_vit").url.startswith("http://mirror.example/timm/test_vit.")
