"""How well the router finds the seed, and what reading pages adds, on pages and questions that nobody has learned from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from rostok.engines.protocol import Sampling
from rostok.ensemble.recall import corpus
from rostok.ensemble.recall.memory import Memory, Remembered
from rostok.ensemble.routing.keyword import Keyword
from rostok.ensemble.routing.router import Question, Route, Router
from rostok.ensemble.speak import Speaker
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm.probes import QUESTIONS, questions, right

_ITEMS = 48    # questions asked with and without pages, over all seeds: half a minute with the embedded base
_WORDS = 28    # tokens of an answer, as the probes have it
_TOGETHER = 4  # answers in the making at once


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
    keyword = Router(router.memory, router.settings, 0.0, Keyword(seeds))
    words = [keyword.decide(Question(question, (), router.memory)) for _, question in asked]
    general = router.routes(list(general_held_out))
    return {
        "top1": _share([route.seed == seed for route, (seed, _) in zip(routes, asked, strict=True)]),
        "top1_without_abstaining": _share(
            [next(iter(route.scores), None) == seed for route, (seed, _) in zip(routes, asked, strict=True)]),
        "keyword_top1": _share(
            [next(iter(found.scores), None) == seed for found, (seed, _) in zip(words, asked, strict=True)]),
        "abstain": _share([route.seed is None for route in general]),
    }


def measure_retrieval(seeds: Sequence[Seed], router: Router, speaker: Speaker, memory: Memory, pages: int,
                      on_answer: Callable[[], None] = lambda: None) -> dict[str, float]:
    """The chat probes, routed and answered as in a conversation, with the nearest pages in the prompt and without.

    Returns:
        `with` and `without`: shares of right answers; `items`: how many questions, spread over the seeds.
    """
    asked = asked_of(seeds)

    def read(question: str, route: Route) -> list[Remembered]:
        return memory.pages(question, route.seed, speaker.titles.get(route.seed, route.seed), pages) if route.seed else []

    def answer(item: tuple[Seed, str, str, str]) -> tuple[bool, bool]:
        seed, question, about, expected = item
        route = router.route(question)
        said = [speaker.speak(question, route, (), found, mixing="one", sampling=_GREEDY).text
                for found in (read(question, route), [])]
        on_answer()
        return right(said[0], seed, about, expected), right(said[1], seed, about, expected)

    with ThreadPoolExecutor(_TOGETHER) as pool:
        hits = list(pool.map(answer, asked))
    return {"with": _share([a for a, _ in hits]), "without": _share([b for _, b in hits]), "items": float(len(hits))}


def asked_of(seeds: Sequence[Seed]) -> list[tuple[Seed, str, str, str]]:
    """Open questions with the seed, the node asked about and the right one, in every wording, evenly over the seeds."""
    nodes = max(1, _ITEMS // (len(QUESTIONS) * max(1, len(seeds))))
    found = [(seed, *one) for seed in seeds for one in questions(seed, nodes)]
    step = len(found) / min(len(found), _ITEMS) if found else 1.0
    return [found[int(place * step)] for place in range(min(len(found), _ITEMS))]


_GREEDY = Sampling(max_tokens=_WORDS, temperature=0.0, dry=0.0)


def _share(hits: Sequence[bool]) -> float:
    return round(sum(hits) / len(hits), 4) if hits else 0.0
