"""The strategies by name, each opened over a run. A new one is a file with a class and a line here.

What a strategy has learned lies in the run's folder `router`, with the hash of what it was learned from; it is learned anew
when that no longer fits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

from rostok.config import Settings, StrategyName
from rostok.ensemble.recall import corpus
from rostok.ensemble.recall.memory import Memory
from rostok.ensemble.routing import arrow, classifier, evidence, kept, tfidf
from rostok.ensemble.routing.at_random import AtRandom
from rostok.ensemble.routing.elsewhere import elsewhere
from rostok.ensemble.routing.keyword import Keyword
from rostok.ensemble.routing.nearest import Nearest
from rostok.ensemble.routing.router import Question, Router, Strategy
from rostok.ensemble.routing.terms import sentences
from rostok.errors import RunError
from rostok.generator.general import REPLAY
from rostok.models import find_base
from rostok.records import digest, file_digest, iter_jsonl, stable_seed
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm import school
from rostok.swarm.records import Expert

_VERSION = 1        # raise when a strategy would learn something else from the same run
_SENTENCES = 60     # of a seed's pages, that the classifier learns from
_LESSONS = 700      # sentences that the weights of the evidence are learned from, over all seeds
_ABOUT = 5          # questions about its nodes, per seed, for the same
_ARROW = 96         # questions that Arrow's cosines are set against


def nobodys() -> tuple[str, ...]:
    """Questions that belong to no seed, for learning and calibration; nothing is measured on them."""
    return (*REPLAY, *elsewhere())


class Material:
    """What strategies learn from, each part read when it is first asked for."""

    def __init__(self, run: Run, settings: Settings, memory: Memory, seeds: Sequence[Seed]) -> None:
        self.run, self.settings, self.memory, self.seeds = run, settings, memory, seeds
        self.folder = run.folder / "router"
        self.asked = 0  # questions that were embedded and looked up so far

    def made_from(self, *more: object) -> str:
        """The hash of corpora, embedder and this version, and of what else somebody learned from."""
        return digest(_VERSION, self.memory.made_from, *more)

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """{seed: its training pages}."""
        return {seed: [page.text for page in corpus.pages(self.run, seed, held_out=False)]
                for seed in corpus.manifests(self.run, self.seeds)}

    @cached_property
    def tfidf(self) -> tfidf.Tfidf:
        """The documents' terms, which two strategies look at."""
        return tfidf.Tfidf(kept.arrays(self.folder / "tfidf.npz", self.made_from("tfidf"), lambda: tfidf.fit(self.texts)))

    @cached_property
    def nobodys(self) -> list[Question]:
        """`nobodys` with their neighbours, which learning and every calibration look at."""
        return self.read(nobodys())

    def sample(self, each: int) -> dict[str, list[str]]:
        """{seed: so many sentences of its training pages}, the same ones every time."""
        drawn = {}
        for seed, texts in self.texts.items():
            found = sentences(texts)
            drawn[seed] = random.Random(stable_seed(self.settings.random_seed, seed)).sample(found, min(each, len(found)))
        return drawn

    def read(self, questions: Sequence[str], without: Sequence[str] | None = None) -> list[Question]:
        """The questions as strategies look at them."""
        self.asked += len(questions)
        return Router(self.memory, self.settings.router, 0.0, Nearest(1.0)).read(questions, without=without)


def open_strategy(name: StrategyName, material: Material) -> Strategy:
    """The strategy of that name, ready to weigh the run's seeds.

    Raises:
        RunError: it needs experts, and there are none yet.
        ModelError: it needs the base in torch, and that cannot be loaded.
    """
    return _STRATEGIES[name](material)


def _nearest(material: Material) -> Strategy:
    router = material.settings.router
    return Nearest(router.temperature, router.nucleus)


def _evidence(material: Material) -> Strategy:
    router, seeds = material.settings.router, material.seeds
    parts = (seeds, material.tfidf, router.temperature, router.nucleus)
    made_from = material.made_from("evidence", router.model_dump(mode="json"), nobodys())

    def learn() -> dict[str, float]:
        each = max(2, _LESSONS // max(1, len(material.texts)))
        said = [(seed, text, key) for seed in material.texts for text, key in _page_sentences(material, seed, each)]
        asked = evidence.lessons(seeds, _ABOUT, material.settings.random_seed)
        known = [*material.read([text for _, text, _ in said], [key for _, _, key in said]),
                 *material.read([text for _, text in asked])]
        owners = [*(seed for seed, _, _ in said), *(seed for seed, _ in asked)]
        return evidence.fit(evidence.Sight(*parts), list(zip(owners, known, strict=True)), material.nobodys)

    return evidence.Evidence(*parts, kept.numbers(material.folder / "evidence.json", made_from, learn))


def _page_sentences(material: Material, seed: str, count: int) -> list[tuple[str, str]]:
    """Sentences of a seed's training pages, each with its page's id, which must not be found for it."""
    found = [(text, f"{seed}:{page.spec}") for page in corpus.pages(material.run, seed, held_out=False)
             for text in sentences([page.text])]
    return random.Random(stable_seed(material.settings.random_seed, seed, "lessons")).sample(found, min(count, len(found)))


def _classifier(material: Material) -> Strategy:
    def learn() -> kept.Arrays:
        names = {seed.id: [*(node.name for node in seed.nodes), *(f"{node.name}: {node.gloss}" for node in seed.nodes)]
                 for seed in material.seeds}
        drawn = material.sample(_SENTENCES)
        return classifier.fit({seed: [*drawn[seed], *names[seed]] for seed in drawn}, nobodys())

    made_from = material.made_from("classifier", nobodys(), material.settings.random_seed)
    return classifier.Classifier(kept.arrays(material.folder / "classifier.npz", made_from, learn))


def _arrow(material: Material) -> Strategy:
    """Over the experts whose adapters are there as they were registered; the others cannot be told apart, and are left out."""
    run, known = material.run, {seed.id for seed in material.seeds}
    registered = iter_jsonl(run.registry, Expert) if run.registry.is_file() else ()
    experts = {one.seed: one for one in registered if not one.operator and one.seed in known}
    experts = {name: one for name, one in experts.items() if _is_whole(run.experts / name, one.adapter_sha256)}
    if not experts:
        raise RunError(f"{run.folder} has no experts yet, by whose adapters Arrow could route. "
                       f"Train them: rostok swarm train {run.folder}")
    inputs = arrow.Inputs(find_base(material.settings.models.base))
    folders = {name: run.experts / name for name in experts}
    made_from = material.made_from("arrow", {name: one.adapter_sha256 for name, one in experts.items()}, nobodys()[::4])
    asked = nobodys()[::4][:_ARROW]

    def learn() -> kept.Arrays:
        return arrow.fit(folders, inputs, asked, school.common(run, experts.values()))

    made = arrow.Arrow(kept.arrays(material.folder / "arrow.npz", made_from, learn), inputs)
    made.learned_from = made_from
    return made


def _is_whole(folder: Path, sha256: str) -> bool:
    adapter = folder / "adapter_model.safetensors"
    return adapter.is_file() and file_digest(adapter) == sha256


_STRATEGIES: dict[StrategyName, Callable[[Material], Strategy]] = {
    "evidence": _evidence,
    "nearest": _nearest,
    "arrow": _arrow,
    "classifier": _classifier,
    "tfidf": lambda material: material.tfidf,
    "keyword": lambda material: Keyword(material.seeds),
    "random": lambda material: AtRandom(material.seeds, material.settings.random_seed),
}
