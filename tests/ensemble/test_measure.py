"""What is measured of an ensemble: which of two answers was given what to read."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, get_args

from rostok.config import Settings, StrategyName
from rostok.embedder import Embedder
from rostok.ensemble.measure import asked_of, measure_retrieval, measure_router
from rostok.ensemble.recall.index import index
from rostok.ensemble.recall.memory import Memory
from rostok.ensemble.routing.calibrate import open_routers
from rostok.ensemble.routing.router import Route
from rostok.runs import Run
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


def test_a_seed_without_a_corpus_is_remembered_by_its_nodes_alone(fresh: Run, seeds: list[Seed], embedder: Embedder,
                                                                  settings: Settings, held_out_general: tuple[str, ...]) -> None:
    """Prevents: a memory stage that ends with a traceback when the gates have refused the pages of one seed."""
    left_out = seeds[1]
    shutil.rmtree(fresh.corpora / left_out.id)
    assert index(fresh, seeds, embedder) == 24
    names = [name for name in get_args(StrategyName) if name != "arrow"]  # which looks at experts only
    with Memory(fresh.memory, embedder) as memory:
        assert memory.pages("What feeds it?", left_out.id, left_out.title, 3) == []
        for router in open_routers(fresh, settings, memory, seeds, names):
            figures = measure_router(fresh, seeds, router, held_out_general)
            assert all(0 <= share <= 1 for share in figures.values()), router.strategy.name
