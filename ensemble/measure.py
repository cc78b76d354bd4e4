"""How well the router finds the seed, on pages and questions it has never seen."""

from __future__ import annotations

from collections.abc import Sequence

from rostok.ensemble import corpus
from rostok.ensemble.keyword import Keyword
from rostok.ensemble.router import Router
from rostok.runs import Run
from rostok.seeds.record import Seed


def measure_router(run: Run, seeds: Sequence[Seed], router: Router,
                   general_held_out: Sequence[str]) -> dict[str, float]:
    """Shares between 0 and 1; a share of nothing is 0.

    Returns:
        `top1`: held-out pages' first sentences routed to their own seed; abstaining counts as wrong.
        `top1_without_abstaining`: the same for the best seed, whatever the threshold says.
        `keyword_top1`: the same for the baseline `Keyword`, which never abstains.
        `abstain`: held-out general questions that are left to the base.
    """
    asked = [(seed, corpus.first_sentence(page)) for seed in corpus.manifests(run, seeds)
             for page in corpus.pages(run, seed, held_out=True)]
    routes = router.routes([question for _, question in asked])
    keyword = Keyword(seeds)
    words = [keyword.scores(question, ()) for _, question in asked]
    general = router.routes(list(general_held_out))
    return {
        "top1": _share([route.seed == seed for route, (seed, _) in zip(routes, asked, strict=True)]),
        "top1_without_abstaining": _share(
            [next(iter(route.scores), None) == seed for route, (seed, _) in zip(routes, asked, strict=True)]),
        "keyword_top1": _share(
            [bool(found) and max(found, key=lambda one: found[one]) == seed
             for found, (seed, _) in zip(words, asked, strict=True)]),
        "abstain": _share([route.seed is None for route in general]),
    }


def _share(hits: Sequence[bool]) -> float:
    return round(sum(hits) / len(hits), 4) if hits else 0.0
