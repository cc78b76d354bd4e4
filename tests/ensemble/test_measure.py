"""What is measured of an ensemble: which of two answers was given what to read."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from rostok.ensemble.measure import asked_of, measure_retrieval
from rostok.ensemble.routing.router import Route
from rostok.seeds.record import Seed


def test_what_reading_adds_is_the_share_of_those_that_read(seeds: list[Seed]) -> None:
    """Prevents: `with` and `without` told the wrong way round; pages of a seed that the question was not routed to."""
    asked = {question: (seed, expected) for seed, question, _, expected in asked_of(seeds)}
    read: list[tuple[str, str, int]] = []

    def route(question: str) -> Route:
        return Route(seed=asked[question][0].id, score=1.0, threshold=0.0, scores={}, neighbours=())

    def pages(question: str, seed: str, title: str, count: int) -> list[str]:
        read.append((question, seed, count))
        return ["a page"] * count

    def speak(question: str, route: Route, history: Sequence[object], memories: Sequence[object], **_: Any) -> Any:
        return SimpleNamespace(text=f"The {asked[question][1]}." if len(memories) == 3 else "I do not know.")

    found = measure_retrieval(seeds, SimpleNamespace(route=route), SimpleNamespace(speak=speak, titles={}),  # type: ignore[arg-type]
                              SimpleNamespace(pages=pages), 3)  # type: ignore[arg-type]
    assert found == {"with": 1.0, "without": 0.0, "items": float(len(asked))}
    assert sorted(read) == sorted((question, seed.id, 3) for question, (seed, _) in asked.items())
