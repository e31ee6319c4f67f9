"""What Prometheus is told. Nothing of a request itself: no name, no address, no class."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "histo_requests",
            "Requests by path and status.",
            ("path", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "histo_request_seconds",
            "From a request's head to its answer.",
            ("path",),
            buckets=SECONDS,
            registry=self._registry,
        )
        self.images = Counter("histo_images", "Images answered.", registry=self._registry)
        self.rejected = Counter(
            "histo_rejected",
            "Requests that were not served, by reason.",
            ("reason",),
            registry=self._registry,
        )

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read when it is asked for."""
        Gauge(name, text, registry=self._registry).set_function(value)

    def name_model(self, version: str, digest: str) -> None:
        """Say which model is served."""
        about = Info("histo_model", "The model that is served.", registry=self._registry)
        about.info({"version": version, "digest": digest})

    def text(self) -> bytes:
        """All of it, in Prometheus' format."""
        return generate_latest(self._registry)
