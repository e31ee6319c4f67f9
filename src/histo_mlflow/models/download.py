"""Published weights: where they are, and one way to fetch them that cannot hang.

Files are kept in torch's hub folder (`TORCH_HOME`, as torchvision does), so that weights put
there by hand or by another program are found.
"""

import hashlib
import http.client
import logging
import os
import re
import tempfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import timm
import torch
import torchvision

from histo_mlflow.errors import WeightsError

TIMEOUT_SECONDS = 10.0  # for the connection and for each read, not for the whole file
_CHUNK_BYTES = 1 << 20
# torchvision and timm write the first digits of the sha256 into the file's name.
_DIGEST_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.[a-z]+$")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Remote:
    """A published file of weights: its address, and its name in the hub folder."""

    url: str
    file_name: str

    @property
    def digest(self) -> str:
        """First digits of the sha256, as far as the name tells them; else empty."""
        match = _DIGEST_IN_NAME.search(self.file_name)
        return match[1] if match else ""

    @property
    def path(self) -> Path:
        """Where torch's hub keeps this file."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.file_name


def published(full: str) -> Remote:
    """The ImageNet weights of an architecture, by its full name.

    torchvision's DEFAULT weights, or those of timm's tag (its default tag for a bare name). timm's
    own GitHub release is preferred, since its file names carry a digest; otherwise its copy on the
    Hugging Face hub (`HF_ENDPOINT` names a mirror). Files of other projects are not taken: they
    are not under timm's names.

    Raises:
        WeightsError: nothing is published for it.
    """
    library, _, bare = full.partition("/")
    if library == "torchvision":
        url = str(torchvision.models.get_model_weights(bare).DEFAULT.url)
        return Remote(url, url.rpartition("/")[2])
    cfg = timm.get_pretrained_cfg(bare)
    url = "" if cfg is None or not cfg.url else str(cfg.url)
    if "/pytorch-image-models/releases/" in url:
        return Remote(url, url.rpartition("/")[2])
    if cfg is not None and cfg.hf_hub_id:
        endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        repository = str(cfg.hf_hub_id)
        return Remote(
            f"{endpoint}/{repository}/resolve/main/model.safetensors",
            f"{repository.rpartition('/')[2]}.safetensors",
        )
    raise WeightsError(
        f"No ImageNet weights are published for {full}: take weights=none, weights=FILE, or "
        "another model."
    )


def fetch(remote: Remote, *, allow_download: bool) -> Path:
    """The local file of published weights, downloaded where it is not there yet.

    The file appears under its name only once it is whole and, where the name tells its digest,
    has been checked.

    Raises:
        WeightsError: not there and not to be had; the message holds the command that fetches it.
    """
    if remote.path.is_file():
        return remote.path
    if not allow_download:
        raise _unavailable(remote, "they are not on this machine and downloads are switched off")
    try:
        remote.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=remote.path.parent, prefix=".part-") as folder:
            part = Path(folder) / "weights"
            _download(remote, part)
            part.replace(remote.path)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, OSError) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _unavailable(remote, f"the download failed ({reason})") from error
    return remote.path


def _download(remote: Remote, target: Path) -> None:
    if not remote.url.startswith(("https://", "http://")):
        raise _unavailable(remote, "the address is not one of http")
    request = urllib.request.Request(  # noqa: S310 - checked above
        remote.url, headers={"User-Agent": "histo-mlflow"}
    )
    with (
        urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer,  # noqa: S310
        target.open("wb") as stream,
    ):
        expected = answer.headers.get("Content-Length")
        size = f"{int(expected) / 1e6:.1f} MB" if expected else "size unknown"
        _log.info("downloading %s (%s)", remote.url, size)
        received, digest = _copy(answer, stream)
    if expected and received != int(expected):
        raise _unavailable(remote, f"the download broke off after {received} of {expected} bytes")
    if not digest.startswith(remote.digest):
        raise _unavailable(
            remote, f"the file's sha256 begins {digest[:8]}, its name says {remote.digest}"
        )


def _copy(source: IO[bytes], target: IO[bytes]) -> tuple[int, str]:
    """Copy a stream in pieces; return its length in bytes and its sha256."""
    digest, received = hashlib.sha256(), 0
    while piece := source.read(_CHUNK_BYTES):
        digest.update(piece)
        received += len(piece)
        target.write(piece)
    return received, digest.hexdigest()


def _unavailable(remote: Remote, reason: str) -> WeightsError:
    return WeightsError(
        f"The ImageNet weights {remote.file_name} cannot be had: {reason}. Fetch them where there "
        f"is a network, with: curl -L --create-dirs -o {remote.path} {remote.url} ; or give "
        "weights=FILE, or weights=none to train from random weights."
    )
