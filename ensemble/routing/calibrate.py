"""How sure a strategy must be before an expert speaks: found on what belongs to a seed and on what belongs to nobody.

Nothing here is measured on later: sentences of training pages (each without its own page) on one side, general questions
made for this on the other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rostok.config import Settings, StrategyName
from rostok.ensemble.recall import corpus
from rostok.ensemble.recall.memory import Memory
from rostok.ensemble.routing.router import Question, Router
from rostok.ensemble.routing.strategies import Material, nobodys, open_strategy
from rostok.errors import DataError
from rostok.records import Record, digest, read_record, write_atomic
from rostok.runs import Run
from rostok.seeds.record import Seed

_SAMPLE = 200  # training pages whose first sentences set the threshold


class Calibration(Record):
    """router/<strategy>.threshold.json: the threshold and what it was found on.

    Attributes:
        kept: share of the corpora's own sentences that are not abstained from.
        rejected: share of nobody's questions that are.
    """

    made_from: str
    strategy: str
    threshold: float
    positives: int
    negatives: int
    kept: float
    rejected: float


def open_router(run: Run, settings: Settings, memory: Memory, seeds: Sequence[Seed],
                strategy: StrategyName | None = None) -> Router:
    """The run's router with its calibrated threshold. Call with the run held: what is learned is written.

    Args:
        strategy: another one than the settings'.

    Raises:
        RunError, ModelError: as `open_strategy`.
    """
    return open_routers(run, settings, memory, seeds, [strategy or settings.router.strategy])[0]


def open_routers(run: Run, settings: Settings, memory: Memory, seeds: Sequence[Seed],
                 strategies: Sequence[StrategyName]) -> list[Router]:
    """Several at once, which share what they learn from. Raises like `open_router`."""
    material = Material(run, settings, memory, seeds)
    return [calibrated(Router(memory, settings.router, 0.0, open_strategy(name, material)), material) for name in strategies]


def calibrated(router: Router, material: Material) -> Router:
    """The same router with the threshold of its strategy, from the run where that still fits, else found anew."""
    found = calibrate(router, material)
    return Router(router.memory, router.settings, found.threshold, router.strategy)


def calibrate(router: Router, material: Material) -> Calibration:
    """The threshold of a router's strategy on this run."""
    name = router.strategy.name
    path = material.folder / f"{name}.threshold.json"
    made_from = digest(material.made_from(name, router.strategy.learned_from), router.settings, list(nobodys()))
    try:
        old = read_record(path, Calibration)
    except (DataError, OSError, UnicodeDecodeError):
        old = None
    if old is not None and old.made_from == made_from:
        return old
    positives = [_sure(router, question) for question in _own_sentences(material)]
    negatives = [_sure(router, question) for question in material.nobodys]
    threshold = choose_threshold(positives, negatives, router.settings.keep, router.settings.reject)
    new = Calibration(
        made_from=made_from, strategy=name, threshold=threshold, positives=len(positives), negatives=len(negatives),
        kept=sum(score >= threshold for score in positives) / max(1, len(positives)),
        rejected=sum(score < threshold for score in negatives) / max(1, len(negatives)))
    write_atomic(path, new.model_dump_json(indent=1) + "\n")
    return new


def choose_threshold(positives: Sequence[float], negatives: Sequence[float], keep: float, reject: float) -> float:
    """The lowest threshold that rejects the share `reject` of the negatives, or lower, so that it keeps `keep` of the positives.

    Not the one that parts them best: people ask further from the pages than the pages' own sentences are, and some of
    nobody's questions are nearer to a seed than their author knew.
    """
    if not positives:
        return 0.0
    ordered = sorted(positives, reverse=True)
    highest = ordered[max(1, int(np.ceil(keep * len(ordered) - 1e-9))) - 1]
    if not negatives:
        return highest
    last = sorted(negatives)[max(1, int(np.ceil(reject * len(negatives) - 1e-9))) - 1]  # that must be rejected
    above = min((score for score in (*positives, *negatives) if score > last), default=np.nextafter(last, np.inf))
    return float(min(highest, above))


def _own_sentences(material: Material) -> list[Question]:
    """First sentences of training pages, each with its page left out; evenly over the corpora."""
    pages = [(f"{seed}:{page.spec}", page) for seed in corpus.manifests(material.run, material.seeds)
             for page in corpus.pages(material.run, seed, held_out=False)]
    if not pages:
        return []
    places = np.linspace(0, len(pages) - 1, min(len(pages), _SAMPLE)).round().astype(int)
    chosen = [pages[place] for place in places]
    return material.read([corpus.first_sentence(page) for _, page in chosen], [key for key, _ in chosen])


def _sure(router: Router, question: Question) -> float:
    return router.decide(question).score
