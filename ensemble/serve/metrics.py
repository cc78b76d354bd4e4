"""What /metrics tells, for Prometheus. Nothing in it is anybody's words."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.025, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self.requests = Counter("rostok_requests", "Requests answered.", ("path", "status"), registry=registry)
        self.refused = Counter("rostok_refused", "Requests that the guard has turned away.", ("status",), registry=registry)
        self.answers = Counter("rostok_answers", "Answers given.", ("expert", "finish"), registry=registry)
        self.tokens = Counter("rostok_tokens", "Tokens, read and written.", ("kind",), registry=registry)
        self.active = Gauge("rostok_answers_active", "Answers in the making.", registry=registry)
        self.first = Histogram("rostok_first_text_seconds", "From the question to the first text.", buckets=_SECONDS,
                               registry=registry)
        self.seconds = Histogram("rostok_answer_seconds", "From the question to the end of the answer.", buckets=_SECONDS,
                                 registry=registry)

    def text(self) -> bytes:
        """All of them in Prometheus' format."""
        return generate_latest(self.registry)
