"""Which expert should answer? Every strategy beside the baselines, over a run of a hundred seeds.

    make bench-router                        builds a hundred seeds and their corpora by code, in a scratch folder
    make bench-router ARGS="runs/mine"       measures a run; its memory and router are brought up to date
    make bench-router ARGS="runs/mine --known"   on the questions that helped to choose the router, for whoever changes it
    make bench-router ARGS="--store 100000"  also how long a store of so many pages takes for a question

Asked are held-out pages as they stand and their first sentences, paraphrases that no page uses about every node, the same with
the name's words turned round, and questions that belong to no seed, far from all of them (`GENERAL`) and near (`NEAR`). A
share counts abstaining as wrong where there is a right expert. An oracle is right always; where two seeds share a node's name,
nobody else can be, and `ceiling_paraphrased` says how much that leaves. Prints a table and, as its last line, JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

from rostok.environment import prepare

prepare()

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
import questions as fresh  # noqa: E402
import questions_known as known  # noqa: E402
from made import composed  # noqa: E402

from rostok.config import CorpusSettings, Settings, Shares, StrategyName, resolve  # noqa: E402
from rostok.embedder import Embedder  # noqa: E402
from rostok.ensemble.recall import corpus  # noqa: E402
from rostok.ensemble.recall.index import index  # noqa: E402
from rostok.ensemble.recall.memory import Memory  # noqa: E402
from rostok.ensemble.routing.calibrate import calibrated  # noqa: E402
from rostok.ensemble.routing.router import Question, Router  # noqa: E402
from rostok.ensemble.routing.strategies import Material, open_strategy  # noqa: E402
from rostok.generator.drills import FIRST, SECOND, drill  # noqa: E402
from rostok.generator.records import Manifest  # noqa: E402
from rostok.machine import processor, usable_cores  # noqa: E402
from rostok.models import find_embedder  # noqa: E402
from rostok.records import append_jsonl, file_digest, write_atomic  # noqa: E402
from rostok.runs import Run  # noqa: E402
from rostok.seeds.library import Library  # noqa: E402
from rostok.seeds.record import Seed  # noqa: E402

SEEDS, PAGES, TIMED, WARM = 100, 60, 400, 20
CORPUS = CorpusSettings(pages=PAGES, shares=Shares(written=0, composed=0.65, dialogue=0.35, replay=0))


# ── a run made by code ──────────────────────────────────────────────────────────────────────────────────────────


def built(folder: Path, count: int) -> tuple[Run, Settings]:
    """A run folder with seeds and corpora, and no experts."""
    settings = resolve(options={"corpus": {"pages": PAGES}})
    run = Run(folder)
    run.start(settings)
    library = Library(run.seeds)
    for place in range(count):
        thought = drill(place)
        library.admit(thought)
        own, made = run.corpora / thought.id, composed(thought, CORPUS, place)
        append_jsonl(own / "pages.jsonl", made)
        write_atomic(own / "manifest.json", Manifest(
            seed=thought.id, title=thought.title, made_from="0" * 64, pages_sha256=file_digest(own / "pages.jsonl"),
            settings=CORPUS, model="0" * 64, rostok="0.1.0", pages=len(made), held_out=sum(page.held_out for page in made),
            characters=sum(len(page.text) for page in made), by_kind={}, rejected={}, given_up=0, sampled_tokens=0,
            seconds=0.0).line() + "\n")
    return run, settings


# ── what is asked ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Asked:
    """Questions of one kind; `right` is each one's seed, or None where the base should answer."""

    name: str
    questions: Sequence[Question]
    right: Sequence[str | None]


def turned(name: str, dice: random.Random) -> str:
    """A node's name in other words of the same: `tin plate` as `plate of tin`, `tin plates`, `tin-plate`."""
    first, _, rest = name.partition(" ")
    if not rest:
        return f"{name}s"
    return dice.choice((f"{rest} of {first}", f"{first} {rest}s", f"{first}-{rest}", f"{rest}, the {first} one"))


def asked(run: Run, seeds: Sequence[Seed], read: Callable[[Sequence[str]], list[Question]], texts: ModuleType) -> list[Asked]:
    """All kinds of questions, worded as in `texts`, with their neighbours."""
    dice = random.Random(1)
    worded = partial(dice.choice, texts.PARAPHRASES)
    held = [(name, page) for name in corpus.manifests(run, seeds) for page in corpus.pages(run, name, held_out=True)]
    nodes = [(one.id, node.name) for one in seeds for node in one.nodes]
    kinds: list[tuple[str, list[str], list[str | None]]] = [
        ("pages", [page.text for _, page in held], [name for name, _ in held]),
        ("first_sentences", [corpus.first_sentence(page) for _, page in held], [name for name, _ in held]),
        ("paraphrased", [worded().format(x=name) for _, name in nodes], [owner for owner, _ in nodes]),
        ("turned", [worded().format(x=turned(name, dice)) for _, name in nodes], [owner for owner, _ in nodes]),
        ("off_domain", list(texts.GENERAL), [None] * len(texts.GENERAL)),
        ("near_domain", list(texts.NEAR), [None] * len(texts.NEAR)),
    ]
    return [Asked(name, read(questions), right) for name, questions, right in kinds]


def shares(decide: Callable[[Question], str | None], kinds: Sequence[Asked]) -> dict[str, float]:
    """By kind the share of questions that went where they belong: `top1_…`, and `abstain_…` where that is the base."""
    found = {}
    for kind in kinds:
        hits = [decide(question) == right for question, right in zip(kind.questions, kind.right, strict=True)]
        found[("abstain_" if kind.right[0] is None else "top1_") + kind.name] = round(sum(hits) / len(hits), 4)
    return found


def latency(router: Router, seeds: Sequence[Seed]) -> tuple[float, float]:
    """Milliseconds of whole routes, the question's vector included, of questions that were never asked before: p50, p99."""
    dice = random.Random(2)
    names = [node.name for one in seeds for node in one.nodes]
    questions = [f"{number}: {dice.choice(fresh.PARAPHRASES).format(x=dice.choice(names))}" for number in range(WARM + TIMED)]
    taken = []
    for question in questions:
        started = time.perf_counter()
        router.route(question)
        taken.append((time.perf_counter() - started) * 1000)
    p50, p99 = np.percentile(taken[WARM:], [50, 99])
    return round(float(p50), 2), round(float(p99), 2)


def store_speed(embedder: Embedder, count: int) -> dict[str, float]:
    """Milliseconds for the neighbours of a question among so many pages, vectors drawn around real ones."""
    from rostok.ensemble.recall.memory import PageData, SeedData

    dice = np.random.default_rng(3)
    centres = embedder.quick([f"The {a} {b} was left on the quay." for a in FIRST[:20] for b in SECOND[:20]])
    with tempfile.TemporaryDirectory() as scratch, Memory(Path(scratch) / "memory", embedder, made_from="bench") as memory:
        memory.add("seeds", ["s"], ["a scene"], [SeedData(seed="s", kind="seed")])
        for start in range(0, count, 2000):
            some = min(2000, count - start)
            vectors = centres[dice.integers(0, len(centres), some)] + dice.normal(0, 0.03, (some, centres.shape[1]))
            vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
            memory.store.put("pages", [f"s:{start + place}" for place in range(some)], ["text " * 100] * some, vectors,
                             [PageData(seed="s", kind="composed", spec=start + place, author="code").model_dump()
                              for place in range(some)])
        taken = []
        for number in range(WARM + 200):
            question = f"{number}: what about the {FIRST[number % 40]} {SECOND[number % 39]}?"
            memory.vector(question)
            started = time.perf_counter()
            memory.nearest([question], 16)
            taken.append((time.perf_counter() - started) * 1000)
    p50, p99 = np.percentile(taken[WARM:], [50, 99])
    return {"pages": count, "p50_ms": round(float(p50), 2), "p99_ms": round(float(p99), 2)}


# ── the comparison ──────────────────────────────────────────────────────────────────────────────────────────────


def compared(run: Run, settings: Settings, seeds: Sequence[Seed], memory: Memory,
             texts: ModuleType) -> dict[str, dict[str, float]]:
    """The figures of every strategy and baseline."""
    material = Material(run, settings, memory, seeds)
    print("reading the questions", flush=True)
    kinds = asked(run, seeds, material.read, texts)
    found: dict[str, dict[str, float]] = {}
    names: tuple[StrategyName, ...] = get_args(StrategyName)
    for name in names:
        if name == "arrow" and not run.registry.is_file():
            print("arrow        needs experts; this run has none", flush=True)
            continue
        router = calibrated(Router(memory, settings.router, 0.0, open_strategy(name, material)), material)
        some = [_thinned(kind, 120) for kind in kinds] if name == "arrow" else kinds  # a pass through the base for each
        figures = shares(partial(_sent_to, router), some)
        figures["p50_ms"], figures["p99_ms"] = latency(router, seeds)
        found[name] = {**figures, "threshold": router.threshold}
        _tell(name, found[name])
    best = Counter(right for kind in kinds for right in kind.right if right is not None).most_common(1)[0][0]
    found["best_single"] = shares(lambda _: best, kinds)
    owner = {id(question): right for kind in kinds for question, right in zip(kind.questions, kind.right, strict=True)}
    found["oracle"] = shares(lambda question: owner[id(question)], kinds)
    for baseline in ("best_single", "oracle"):
        _tell(baseline, found[baseline])
    return found


def _sent_to(router: Router, question: Question) -> str | None:
    return router.decide(question).seed


def _thinned(kind: Asked, most: int) -> Asked:
    step = max(1, len(kind.questions) // most)
    return Asked(kind.name, kind.questions[::step], kind.right[::step])


def _tell(name: str, figures: dict[str, float]) -> None:
    kinds = ("top1_pages", "top1_first_sentences", "top1_paraphrased", "top1_turned", "abstain_off_domain", "abstain_near_domain")
    times = f"{figures['p50_ms']:8.1f} {figures['p99_ms']:8.1f}" if "p50_ms" in figures else ""
    print(f"{name:12s}" + "".join(f"{figures[kind]:11.1%}" for kind in kinds) + times, flush=True)


@contextmanager
def _opened(folder: Path | None, count: int) -> Iterator[tuple[Run, Settings]]:
    with ExitStack() as stack:
        if folder is None:
            scratch = stack.enter_context(tempfile.TemporaryDirectory())
            print(f"building {count} seeds with {PAGES} pages each by code", flush=True)
            run, settings = built(Path(scratch) / "run", count)
        else:
            run = Run(folder)
            settings = run.read().settings
        stack.enter_context(run.held("bench/router.py"))
        yield run, settings


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a run with seeds and corpora; without it one is built")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many are built")
    parser.add_argument("--store", type=int, default=0, metavar="PAGES", help="also time a store of so many pages")
    parser.add_argument("--known", action="store_true", help="ask what the router was chosen by, not what is fresh")
    arguments = parser.parse_args()
    with _opened(arguments.run, arguments.seeds) as (run, settings):
        embedder = Embedder(find_embedder(settings.models.embedder))
        seeds = Library(run.seeds).seeds()
        started = time.monotonic()
        index(run, seeds, embedder, lambda done, total: print(f"\rremembering {done} of {total} pages", end="", flush=True))
        print(f"\n{len(seeds)} seeds remembered in {time.monotonic() - started:.0f} s\n")
        print(f"{'':12s}{'pages':>11s}{'first sent.':>11s}{'paraphrased':>11s}{'turned':>11s}{'abstain':>11s}{'near':>11s}"
              f"{'p50 ms':>8s} {'p99 ms':>8s}")
        with Memory(run.memory, embedder) as memory:
            found = compared(run, settings, seeds, memory, known if arguments.known else fresh)
            remembered = memory.count("pages")
        names = Counter(node.name for one in seeds for node in one.nodes)
        figures: dict[str, Any] = {
            **found[settings.router.strategy], "strategy": settings.router.strategy,
            "ceiling_paraphrased": round(len(names) / sum(names.values()), 4), **found,
            "seeds": len(seeds), "pages": remembered, "processor": processor(), "cores": usable_cores()}
        if arguments.store:
            figures["store"] = store_speed(embedder, arguments.store)
            print(f"a store of {arguments.store} pages: {figures['store']}")
    own = found[settings.router.strategy]
    print(f"\n{settings.router.strategy}: p50 {own['p50_ms']} ms (asked for: 5), p99 {own['p99_ms']} ms (20), held-out pages "
          f"{own['top1_pages']:.1%} of the oracle's (98%), paraphrased {own['top1_paraphrased']:.1%} (90%; to be had are "
          f"{figures['ceiling_paraphrased']:.1%}), abstains {own['abstain_off_domain']:.1%} (95%)")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
