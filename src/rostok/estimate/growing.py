"""The pace of the swarm: training steps of many experts at once, and what it takes to measure one model on one seed.

All of it is called as `rostok.swarm.grow` calls it: `train` with real pages and settings, cut after two steps, then the
probes, held-out pages, general answers and open questions of one seed, asked of the base and of an expert.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rostok.config import Settings, TrainingSettings
from rostok.engines.protocol import Engine
from rostok.errors import ModelError
from rostok.estimate.found import size
from rostok.estimate.pace import STRUCTURE, SwarmPace
from rostok.generator.records import Page
from rostok.models import Base, base_config
from rostok.runs import PeakMemory
from rostok.seeds.record import Seed
from rostok.swarm import probes
from rostok.swarm.adapter_gguf import export_adapter
from rostok.swarm.base import FrozenBase
from rostok.swarm.measure import bits_per_byte, nats
from rostok.swarm.teacher import contexts
from rostok.swarm.train import train
from rostok.swarm.training import Failed, Job

_STEP_S = 4.0         # of the largest step that is timed; what more experts would cost follows from it
_READ = 4             # held-out pages read to time one
_ANSWER = (20, 64)    # tokens of a general question and of its answer


@dataclass(frozen=True)
class Grown:
    """The swarm's pace but for the open questions, MiB of an adapter in training, and bytes of an expert on disk.

    `adapter` is the folder of an expert that was trained for two steps.
    """

    pace: SwarmPace
    adapter_mib: float
    expert_bytes: float
    adapter: Path


def swarm_pace(base: Base, seed: Seed, pages: Sequence[Page], settings: Settings, folder: Path, *, start_s: float,
               done: Callable[[str], None] = lambda text: None) -> Grown:
    """Load the base, train, measure.

    Args:
        pages: of the seed's corpus.
        folder: where the experts are saved.
        start_s: of a process with torch in it: in a run a worker trains, a process of its own.
        done: called with a sentence after each part.
    """
    import peft  # noqa: F401  # else it would be loaded with the first expert, and counted for every one

    clock = _Clock()
    frozen = FrozenBase(base)
    load_s = clock.lap()
    texts = [frozen.render(page) for page in pages]
    rows = frozen.page_tokens(pages, settings.training.max_tokens)
    clock.lap()
    probes.multiple_choice(frozen.model, frozen, seed, with_card=True)
    card_s = clock.lap()
    done(f"the base in memory for training: {load_s:.1f} s")
    page_tokens = sum(map(len, rows)) / len(rows)
    taught = contexts(frozen, pages, {page.seed: seed.card() for page in pages}) if settings.training.distils else ()
    alone = _train(frozen, rows, taught, settings, 1, folder / "alone")
    together = max(1, min(settings.training.together, round(_STEP_S / alone.step_s))) if alone.fused else 1
    many = _train(frozen, rows, taught, settings, together, folder / "many") if together > 1 else alone
    token_s = (many.step_s - alone.step_s) / max(1, many.tokens - alone.tokens)
    if together == 1 or token_s <= 0:
        token_s = many.step_s / many.tokens
    step_s = max(0.0, alone.step_s - alone.tokens * token_s)
    done(f"training: {many.tokens / many.step_s:,.0f} tokens/s with {together} expert{'s' * (together > 1)} in a step")
    adapter = folder / "alone" / "0"
    clock.lap()
    export_adapter(adapter, adapter / "adapter.gguf", base_config(base))
    model = frozen.wear(adapter)
    worn_s = clock.lap()
    cell = _measure(model, frozen, seed, texts, rows, settings)
    clock.lap()
    frozen.take_off(model)
    keep_s = many.save_s + worn_s + clock.lap()
    done(f"measuring an expert: {cell.probe_s + settings.probes.matrix_pages * cell.read_s:.1f} s a seed")
    adapter_mib = max(0.0, many.peak_mib - alone.peak_mib) / max(1, together - 1)
    return Grown(
        pace=SwarmPace(
            load_s=load_s, start_s=start_s + max(0.0, alone.start_s), page_tokens=page_tokens, together=together,
            step_tokens=many.tokens, step_s=step_s, token_s=token_s,
            keep_s=keep_s + 2 * STRUCTURE * cell.probe_s,  # of the expert, and of the base about the same seed
            probe_s=cell.probe_s, read_s=cell.read_s, card_s=card_s * (1 + STRUCTURE), general_s=cell.general_s, ask_s=0.0),
        adapter_mib=adapter_mib, expert_bytes=size(adapter), adapter=adapter)


def asking_s(engine: Engine, seed: Seed, settings: Settings, adapter: Path) -> float:
    """Seconds of the open questions about one seed, asked of its expert, of the base, and of the base with the seed."""
    clock = _Clock()
    asked = probes.questions(seed, settings.probes.chat_nodes)
    engine.add_adapter("estimate", adapter)
    probes.ask(engine, asked, adapter="estimate")
    plain_s = clock.lap()
    probes.ask(engine, asked, card=seed.card())
    seconds = 2 * plain_s + clock.lap()  # the base alone takes as long as its expert
    engine.remove_adapter("estimate")
    return seconds


@dataclass(frozen=True)
class _Cell:
    probe_s: float
    read_s: float
    general_s: float


def _measure(model: object, frozen: FrozenBase, seed: Seed, texts: Sequence[str], rows: Sequence[Sequence[int]],
             settings: Settings) -> _Cell:
    clock = _Clock()
    probes.multiple_choice(model, frozen, seed)
    probe_s = clock.lap()
    read = list(texts[:_READ])
    bits_per_byte(model, frozen, read, settings.training.max_tokens)
    read_s = clock.lap() / len(read)
    question, answer = _ANSWER
    long = [row for row in rows if len(row) >= question + answer] or list(rows)
    nats(model, [(long[number % len(long)][: question + answer], min(question, len(long[0]) - 1))
                 for number in range(settings.probes.general)])
    return _Cell(probe_s, read_s, clock.lap())


@dataclass(frozen=True)
class _Trained:
    fused: bool
    start_s: float
    step_s: float
    tokens: int
    save_s: float
    peak_mib: float


def _train(frozen: FrozenBase, rows: Sequence[Sequence[int]], taught: Sequence[Sequence[int]], settings: Settings, experts: int,
           folder: Path) -> _Trained:
    """Train so many experts for two steps: what comes before the first, the second, and how long it takes to save one."""
    short = _short(settings.training, len(rows), experts)
    jobs = [Job(str(number), rows, short, number, taught) for number in range(experts)]
    steps: list[tuple[float, int]] = []
    told: list[str] = []
    began = time.perf_counter()
    with PeakMemory() as peak:
        for ended in train(frozen, jobs, short, lambda job: folder / job.name, tell=told.append,
                           on_step=lambda _, tokens: steps.append((time.perf_counter(), tokens))):
            if isinstance(ended, Failed):
                raise ModelError(ended.reason)
        saved = time.perf_counter()
    (before, _), (after, tokens) = steps[-2:]
    fused = settings.training.trainer == "fused" and not told  # it tells when it cannot
    return _Trained(fused, steps[0][0] - began - (after - before), after - before, tokens, (saved - after) / experts, peak.mib)


def _short(settings: TrainingSettings, pages: int, experts: int) -> TrainingSettings:
    """The same settings for two steps."""
    return settings.model_copy(update={"epochs": 2 * settings.pages_per_step / pages, "together": experts, "stop_loss": 0.0})


class _Clock:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Seconds since the last call."""
        last, self._last = self._last, time.perf_counter()
        return self._last - last
