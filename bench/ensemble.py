"""Is the ensemble better than its base, and than what else could be had for the same training? Wins and losses alike.

    make bench-ensemble ARGS="runs/mine"               a grown run; the rival expert is trained on the first call and kept
    make bench-ensemble ARGS="runs/mine --seeds 20"    of so many of its seeds (all corpora of these for the rival, too)
    make bench-ensemble ARGS="runs/mine --no-rival"    without the rival, whose training takes as long as all the experts'

Systems: the base; the base reading the nearest pages; the best single expert; one expert trained on all corpora at the same
total tokens; an expert drawn at random; the ensemble without and with pages to read; an oracle that knows the seed. Asked is
what follows a seed's nodes, in six of the sixteen wordings of bench/questions.py each, greedy; and the general questions that
the router should leave to the base. Bits per byte are of held-out pages, each routed by its first sentence. Intervals: 95%,
bootstrap over seeds.
Prints a table and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rostok.environment import prepare

prepare()

import numpy as np  # noqa: E402
from questions import PARAPHRASES  # noqa: E402  # bench/questions.py

from rostok.config import Settings  # noqa: E402
from rostok.embedder import Embedder  # noqa: E402
from rostok.engines.open import open_engine  # noqa: E402
from rostok.engines.protocol import Message, Request, Sampling  # noqa: E402
from rostok.ensemble.prompt import compose  # noqa: E402
from rostok.ensemble.recall import corpus  # noqa: E402
from rostok.ensemble.recall.index import index  # noqa: E402
from rostok.ensemble.recall.memory import Memory, Remembered  # noqa: E402
from rostok.ensemble.registry import Serving, admit  # noqa: E402
from rostok.ensemble.routing.calibrate import open_router  # noqa: E402
from rostok.ensemble.routing.router import Route, Router  # noqa: E402
from rostok.ensemble.speak import Speaker, Spoken  # noqa: E402
from rostok.generator.general import HELD_OUT  # noqa: E402
from rostok.machine import processor, usable_cores  # noqa: E402
from rostok.models import Base, find_base, find_embedder  # noqa: E402
from rostok.runs import Run  # noqa: E402
from rostok.seeds.library import Library  # noqa: E402
from rostok.seeds.record import Seed  # noqa: E402
from rostok.swarm.base import FrozenBase  # noqa: E402
from rostok.swarm.fresh import fresh_adapter  # noqa: E402
from rostok.swarm.probes import QUESTIONS, questions, right  # noqa: E402

ALL = "all-corpora"  # the rival's name with the engine
NODES, PAGES, TIMED, DRAWS = 2, 3, 24, 2000
GREEDY = Sampling(max_tokens=28, temperature=0.0, dry=0.0)
LONG = Sampling(max_tokens=64, temperature=0.8, dry=0.8)


@dataclass
class Bench:
    """A run with everything that answers."""

    run: Run
    settings: Settings
    seeds: Sequence[Seed]
    memory: Memory
    router: Router
    speaker: Speaker
    best: str  # the expert that knows most, over all seeds

    def read(self, question: str, seed: str | None) -> list[Remembered]:
        """The nearest pages of one seed, or of all."""
        count = self.settings.router.memories
        if seed is not None:
            return self.memory.pages(question, seed, seed, count)
        return self.memory.pages_of_all(question, {one.id: one.title for one in self.seeds}, count)


@dataclass(frozen=True)
class System:
    """Who answers: `choose` gives the expert (None: the base) for a question of that seed (None: nobody's)."""

    name: str
    choose: Callable[[Bench, str, str | None], str | None]
    reads: bool = False


def _random(bench: Bench, question: str, seed: str | None) -> str | None:
    return random.Random(question).choice([one.id for one in bench.seeds])


SYSTEMS = (
    System("base", lambda bench, question, seed: None),
    System("base with pages", lambda bench, question, seed: None, reads=True),
    System("best single expert", lambda bench, question, seed: bench.best),
    System("trained on all", lambda bench, question, seed: ALL),
    System("random routing", _random),
    System("ensemble", lambda bench, question, seed: bench.router.route(question).seed),
    System("ensemble with pages", lambda bench, question, seed: bench.router.route(question).seed, reads=True),
    System("oracle", lambda bench, question, seed: seed),
)


def route_to(seed: str | None) -> Route:
    """A route without evidence."""
    return Route(seed=seed, score=1.0, threshold=0.0, scores={} if seed is None else {seed: 1.0}, neighbours=())


def answer(bench: Bench, system: System, question: str, seed: str | None, sampling: Sampling,
           on_text: Callable[[str], None] | None = None) -> Spoken:
    """One answer, from the question as it comes: routing and reading are part of it."""
    chosen = system.choose(bench, question, seed)
    pages = bench.read(question, chosen) if system.reads and (chosen is not None or "base" in system.name) else []
    return bench.speaker.speak(question, route_to(chosen), (), pages, mixing="one", sampling=sampling, on_text=on_text)


# ── what is measured ────────────────────────────────────────────────────────────────────────────────────────────


def wordings(seed: Seed, nodes: int) -> list[tuple[str, str, str]]:
    """Open questions as (question, name asked about, right name), each node in six wordings that helped to choose nothing."""
    dice = random.Random(seed.id)
    asked = questions(seed, nodes)[::len(QUESTIONS)]
    return [(wording.format(x=about), about, expected) for _, about, expected in asked for wording in dice.sample(PARAPHRASES, 6)]


def probe_hits(bench: Bench, system: System) -> list[list[bool]]:
    """Right or wrong, by seed."""
    return [[right(answer(bench, system, question, seed.id, GREEDY).text, seed, about, expected)
             for question, about, expected in wordings(seed, NODES)] for seed in bench.seeds]


def interval(groups: Sequence[Sequence[bool]]) -> tuple[float, float]:
    """95% of the means over seeds drawn anew (cluster bootstrap)."""
    means = np.array([sum(group) / len(group) for group in groups])
    dice = np.random.default_rng(4)
    drawn = means[dice.integers(0, len(means), (DRAWS, len(means)))].mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return round(float(low), 4), round(float(high), 4)


def bits_per_byte(bench: Bench, system: System) -> tuple[float, tuple[float, float]]:
    """Held-out pages, the same texts for all, under whoever the first sentence is routed to; what is read stands before them."""
    engine = bench.speaker.engine
    waiting, lengths = [], np.zeros(len(bench.seeds))
    for place, seed in enumerate(bench.seeds):
        for page in corpus.pages(bench.run, seed.id, held_out=True)[:PAGES]:
            question = corpus.first_sentence(page)
            chosen = system.choose(bench, question, seed.id)
            read = bench.read(question, chosen) if system.reads and (chosen is not None or "base" in system.name) else []
            asked, text = "Go on.", page.text
            if page.turns:  # a conversation begins with its first question; what is told are the turns after it
                asked, text = page.turns[0].content, "\n\n".join(turn.content for turn in page.turns[1:])
            messages, _ = compose(engine, asked, (), read, 400)
            prompt = engine.template.render(messages)  # for all, since a text's first token is not scored without a prompt
            waiting += [(place, future) for future in engine.submit_scores(prompt, [text], adapter=chosen)]
            lengths[place] += len(text.encode())
    bits = np.zeros(len(bench.seeds))
    for place, future in waiting:
        bits[place] -= future.result().nats / math.log(2)
    drawn = np.random.default_rng(4).integers(0, len(bits), (DRAWS, len(bits)))
    low, high = np.percentile(bits[drawn].sum(axis=1) / lengths[drawn].sum(axis=1), [2.5, 97.5])
    return round(float(bits.sum() / lengths.sum()), 4), (round(float(low), 4), round(float(high), 4))


def speeds(bench: Bench, systems: Sequence[System]) -> dict[str, tuple[float, float]]:
    """By system the median of milliseconds to the first word, and tokens per second after it, one answer at a time.

    All systems answer a question before the next one is asked, so that a machine that is busy for a while slows them all.
    """
    firsts: dict[str, list[float]] = {system.name: [] for system in systems}
    drawn: dict[str, list[tuple[int, float]]] = {system.name: [] for system in systems}
    dice = random.Random(5)
    asked = [(seed, wordings(seed, 1)[wording][0]) for wording in range(6) for seed in bench.seeds]
    for number, (seed, question) in enumerate(asked[:TIMED]):
        for place, system in enumerate(dice.sample(systems, len(systems))):  # who follows the same expert finds it at work
            told: list[float] = []

            def note(_: str, told: list[float] = told) -> None:
                told.append(time.perf_counter())

            own = f"{number}.{place}: {question} Tell me all that you know about it."  # whose vector nobody has computed
            started = time.perf_counter()
            said = answer(bench, system, own, seed.id, LONG, note)
            if told:
                firsts[system.name].append((told[0] - started) * 1000)
                drawn[system.name].append((said.tokens - 1, told[-1] - told[0]))
    return {name: (round(statistics.median(firsts[name] or [0.0]), 1),
                   round(sum(tokens for tokens, _ in drawn[name]) / max(1e-9, sum(took for _, took in drawn[name])), 1))
            for name in firsts}


def beside(figures: dict[str, Any], system: str, other: str) -> tuple[float, float]:
    """Time to the first word and tokens per second of a system, each divided by another's."""
    own, its = figures[system], figures[other]
    return round(own["ttft_ms"] / max(1e-9, its["ttft_ms"]), 3), round(own["tok_s"] / max(1e-9, its["tok_s"]), 3)


def cold_load(bench: Bench) -> float:
    """Milliseconds that an expert which is not in memory takes longer to its first word than one that is; medians."""
    first, second, *_ = [one.id for one in bench.seeds]  # with room for one, each puts the other out
    waited: dict[bool, list[float]] = {True: [], False: []}
    bench.speaker.engine.hold(1)
    for place, name in enumerate((first, first, second, second) * 8):
        told: list[float] = []
        started = time.perf_counter()
        bench.speaker.speak(f"{place}: what is there to see?", route_to(name), (), (), sampling=GREEDY,
                            on_text=lambda _, told=told: told.append(time.perf_counter()))  # type: ignore[misc]
        if told:
            waited[place % 2 == 0].append((told[0] - started) * 1000)  # every second question finds its expert in memory
    return round(statistics.median(waited[True]) - statistics.median(waited[False]), 1)


def equals_the_base(bench: Bench) -> tuple[float, float]:
    """Of general questions held out: the share left to the base, and of these the share answered word for word as by it."""
    left, same = 0, 0
    for question in HELD_OUT:
        route = bench.router.route(question)
        if route.seed is None:
            left += 1
            said = bench.speaker.speak(question, route, (), (), sampling=GREEDY).text
            alone = bench.speaker.engine.submit(Request((Message("user", question),), GREEDY)).result().text.strip()
            same += said == alone
    return round(left / len(HELD_OUT), 4), round(same / max(1, left), 4)


def best_expert(serving: Serving, run: Run, seeds: Sequence[Seed]) -> str:
    """Whose mean over all corpora in matrix.json is the lowest; the first, where nothing was measured."""
    from rostok.records import read_record
    from rostok.swarm.records import Measurements

    names = [one.seed for one in serving.experts if one.seed in {seed.id for seed in seeds}]
    if not run.measurements.exists():
        return names[0]
    matrix = read_record(run.measurements, Measurements).matrix
    return min(names, key=lambda name: statistics.mean(matrix[name].values()) if matrix.get(name) else math.inf)


# ── the comparison ──────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def opened(folder: Path, count: int | None, rivals: bool) -> Iterator[tuple[Bench, dict[str, float]]]:
    """The run with router, memory, engine, experts, and the rival; with what the rival was trained on."""
    run = Run(folder)
    settings = run.read().settings
    base = find_base(settings.models.base)
    with run.held("bench/ensemble.py"):
        library = Library(run.seeds).seeds()
        serving = admit(run, library, base)
        grown = {one.seed for one in serving.experts}
        seeds = [seed for seed in library if seed.id in grown][:count]
        rival, trained = all_corpora(run, seeds, base, settings) if rivals else (None, {})
        embedder = Embedder(find_embedder(settings.models.embedder))
        index(run, library, embedder)
        with Memory(run.memory, embedder) as memory, open_engine(base, settings.models, sequences=8) as engine:
            router = open_router(run, settings, memory, library)
            serving.load(engine, settings.ensemble)
            if rival is not None:
                engine.add_adapter(ALL, rival)
            names = {*(one.seed for one in serving.experts), ALL}
            speaker = Speaker(engine, names, {name: name for name in names}, settings.ensemble)
            yield Bench(run, settings, seeds, memory, router, speaker, best_expert(serving, run, seeds)), trained


def all_corpora(run: Run, seeds: Sequence[Seed], base: Base, settings: Settings) -> tuple[Path, dict[str, float]]:
    """One adapter trained on the corpora of all these seeds, with the rank of one expert; kept in `experts/fresh`."""
    done = 0

    def tell(steps: int, tokens: int) -> None:
        nonlocal done
        done += tokens
        print(f"\rtraining the rival: {done:,} tokens", end="", flush=True)

    folder, record, now = fresh_adapter(run, [seed.id for seed in seeds], settings.training.rank, base, settings,
                                        lambda: FrozenBase(base), lambda steps: print(f"{steps} steps"), tell)
    print(f"\nthe rival has read {record.tokens:,} tokens of {len(seeds)} corpora{'' if now else ' (trained before)'}\n")
    return folder, {"tokens": float(record.tokens), "seconds": record.seconds}


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a grown run")
    parser.add_argument("--seeds", type=int, default=None, help="only the first so many seeds that have an expert")
    parser.add_argument("--no-rival", action="store_true", help="leave out the expert that is trained on all corpora")
    arguments = parser.parse_args()
    systems = [system for system in SYSTEMS if not (arguments.no_rival and system.name == "trained on all")]
    figures: dict[str, Any] = {}
    with opened(arguments.run, arguments.seeds, not arguments.no_rival) as (bench, trained):
        items = sum(len(wordings(seed, NODES)) for seed in bench.seeds)
        print(f"{len(bench.seeds)} seeds, {items} open questions\n")
        print(f"{'':22s}{'right':>8s}{'95% interval':>16s}{'bits/byte':>11s}"
              f"{'95% interval':>13s}{'first word ms':>15s}{'tokens/s':>10s}")
        quick = speeds(bench, systems)
        for system in systems:
            groups = probe_hits(bench, system)
            accuracy = sum(map(sum, groups)) / items
            ttft, rate = quick[system.name]
            bits, around = bits_per_byte(bench, system)
            figures[system.name] = {"probe_accuracy": round(accuracy, 4), "interval": interval(groups), "bits_per_byte": bits,
                                    "bits_interval": around, "ttft_ms": ttft, "tok_s": rate}
            low, high = figures[system.name]["interval"]
            print(f"{system.name:22s}{accuracy:8.1%}   {low:6.1%}–{high:6.1%}{bits:11.3f}  {around[0]:.3f}–{around[1]:.3f}"
                  f"{ttft:15.0f}{rate:10.1f}", flush=True)
        abstained, same = equals_the_base(bench)
        cold = cold_load(bench) if len(bench.seeds) > 1 else None
    default = "ensemble with pages" if bench.settings.ensemble.retrieval else "ensemble"
    first, rate = beside(figures, default, "base")
    figures |= {"abstain": abstained, "equal_to_base": same, "rival": trained, "seeds": len(bench.seeds), "items": items,
                "cold_load_ms": cold, "default": default, "ttft_ratio": first, "tok_s_ratio": rate,
                "without_pages": beside(figures, "ensemble", "base"),
                "with_pages": beside(figures, "ensemble with pages", "base with pages"),
                "processor": processor(), "cores": usable_cores()}
    print(f"\nthe default, {default}: first word {first:.2f}× the base's (asked for: 1.1), tokens/s {rate:.2f}× (0.9); "
          f"{abstained:.0%} of general questions left to the base, {same:.0%} of these answered word for word as by it; "
          f"an expert that is not in memory speaks {cold} ms later (100)")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
