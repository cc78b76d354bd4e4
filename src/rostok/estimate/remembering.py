"""The pace of the memory and of the report, from a store that is really built, a router that is really calibrated."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from rostok.config import Settings
from rostok.embedder import Embedder
from rostok.ensemble.recall import corpus
from rostok.ensemble.recall.index import index
from rostok.ensemble.recall.memory import Memory
from rostok.ensemble.routing.calibrate import calibrated
from rostok.ensemble.routing.router import Router
from rostok.ensemble.routing.strategies import Material, open_strategy
from rostok.estimate.found import size
from rostok.estimate.pace import EnginePace, MemoryPace
from rostok.generator.general import HELD_OUT
from rostok.models import Base
from rostok.report.page import write_report
from rostok.runs import Run
from rostok.seeds.record import Seed

_ANSWERS = 2 * 100  # tokens of the two answers that close a run, drawn one after the other
_STORED_S = 0.0003  # of a vector in Chroma: 20,000 in 5.8 s
_VECTOR = 1_800     # bytes of a vector in its index, which is written from a thousand pages on


@dataclass(frozen=True)
class Remembered:
    """The memory's pace, bytes of a page in the store, and bytes that a run has besides."""

    pace: MemoryPace
    page_bytes: float
    fixed_bytes: float


def memory_pace(run: Run, seed: Seed, settings: Settings, embedder_model: Base, engine: EnginePace, *, opened_s: float,
                started_s: float) -> Remembered:
    """Fill the store of `run` from its one corpus, calibrate and ask its router, and draw its report.

    Args:
        opened_s: seconds that it took to load the store's library.
        started_s: seconds from the start of this process to its first work.
    """
    clock = time.perf_counter
    began = clock()
    embedder = Embedder(embedder_model)
    again_s = clock() - began
    texts = [page.text for page in corpus.pages(run, seed.id, held_out=False)]
    began = clock()
    embedder.quick(texts)
    embed_s = (clock() - began) / len(texts)
    began = clock()
    index(run, [seed], embedder)
    index_s = clock() - began
    with Memory(run.folder / "empty", embedder, made_from="estimate"):
        pass
    with Memory(run.memory, embedder) as memory:
        began = clock()
        material = Material(run, settings, memory, [seed])
        strategy = open_strategy(settings.router.strategy, material)
        router = calibrated(Router(memory, settings.router, 0.0, strategy), material)
        calibrate_s = clock() - began
        began = clock()
        router.routes([f"{question} {number}" for number, question in enumerate((*HELD_OUT, *HELD_OUT))])
        question_s = (clock() - began) / (2 * len(HELD_OUT))
    remember_s = embed_s + _STORED_S
    began = clock()
    report = write_report(run)
    report_s = clock() - began
    held = len(texts) + 1 + len(seed.nodes)
    page_bytes = max(0.0, _database(run.memory) - _database(run.folder / "empty")) / held
    return Remembered(
        pace=MemoryPace(
            fixed_s=(opened_s + again_s + max(0.0, index_s - len(texts) * remember_s)
                     + max(0.0, calibrate_s - material.asked * question_s)),
            remember_s=remember_s, question_s=question_s,
            report_s=started_s + report_s + again_s + engine.open_s + _ANSWERS * (engine.step_s + engine.token_s)),
        page_bytes=page_bytes + _VECTOR, fixed_bytes=size(run.memory) - held * page_bytes + report.stat().st_size)


def _database(folder: Path) -> int:
    """Bytes of the store's texts; its indices are laid out for more vectors than they hold."""
    return (folder / "chroma.sqlite3").stat().st_size
