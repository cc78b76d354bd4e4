"""The right seed, or nobody."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rostok.config import Settings
from rostok.embedder import Embedder
from rostok.ensemble.measure import asked_of, measure_router
from rostok.ensemble.recall import corpus
from rostok.ensemble.recall.memory import Memory
from rostok.ensemble.routing.calibrate import Calibration, choose_threshold, open_router
from rostok.ensemble.routing.router import Question, Router, Strategy
from rostok.records import read_record
from rostok.runs import Run
from rostok.seeds.record import Seed

scores = st.floats(-1, 1)


@pytest.fixture
def router(ready: Run, settings: Settings, seeds: list[Seed], memory: Memory) -> Router:
    return open_router(ready, settings, memory, seeds)


@pytest.mark.parametrize(("question", "place"), [
    ("What does the queen do all day?", 0), ("Who throws out the drone?", 0), ("escapement", 1),
    ("How does a pendulum move?", 1), ("What makes the dough rise in the dark?", 2), ("What feeds the crust?", 2),
])
def test_question_finds_its_seed(router: Router, seeds: list[Seed], question: str, place: int) -> None:
    """Short questions share few words with whole pages; names, glosses and near texts must catch them."""
    route = router.route(question)
    assert route.seed == seeds[place].id == next(iter(route.scores))
    assert route.score >= route.threshold and route.strategy == "evidence"
    assert list(route.scores.values()) == sorted(route.scores.values(), reverse=True)
    assert route.neighbours[0].similarity >= route.neighbours[-1].similarity


def test_router_abstains(router: Router, held_out_general: tuple[str, ...]) -> None:
    """An expert that answers everything is 20 points worse than its base on general questions (adaptive-minds)."""
    for question in (*held_out_general, "hello", "Tell me a joke."):
        route = router.route(question)
        assert route.seed is None and route.score < route.threshold, question


def test_measures_on_what_was_held_out(ready: Run, seeds: list[Seed], router: Router,
                                       held_out_general: tuple[str, ...]) -> None:
    """Figures over training pages would always be 1."""
    figures = measure_router(ready, seeds, router, held_out_general)
    assert set(figures) == {"top1", "abstain", "keyword_top1", "top1_without_abstaining"}
    assert figures["top1"] >= 0.9 and figures["abstain"] == 1.0
    strict = Router(router.memory, router.settings, 1.01, router.strategy)
    closed = measure_router(ready, seeds, strict, held_out_general)
    assert closed["top1"] == 0.0 and closed["top1_without_abstaining"] == figures["top1_without_abstaining"]
    assert measure_router(ready, seeds, router, [])["abstain"] == 0.0


def test_what_reading_adds_is_asked_of_every_seed(seeds: list[Seed]) -> None:
    """The first seed's questions alone, with a hundred seeds; or thousands of questions at the end of a night."""
    few, many = asked_of(seeds), asked_of(seeds * 30)
    assert {seed.id for seed, *_ in few} == {seed.id for seed in seeds} and len(few) <= 48
    assert len(many) == 48 and len({question for _, question, _, _ in few}) == len(few)


def test_many_questions_at_once_go_where_each_goes_alone(router: Router) -> None:
    """A batch in another order, or padded so that its vectors differ."""
    questions = ["What does the queen do?", "Why is the sky blue?", "Is the rye field wide?"]
    for one, many in zip(map(router.route, questions), router.routes(questions), strict=True):
        assert (one.seed, list(one.scores)[:1]) == (many.seed, list(many.scores)[:1])
        assert one.score == pytest.approx(many.score, abs=1e-3)
    assert router.routes([]) == []


def test_page_does_not_find_itself(ready: Run, memory: Memory, seeds: list[Seed]) -> None:
    """Calibrated on pages that find themselves, the threshold would be near 1 and every question abstained."""
    page = corpus.pages(ready, seeds[0].id, held_out=False)[0]
    key = f"{seeds[0].id}:{page.spec}"
    assert memory.nearest([page.text], 5)[0][0].id == key
    without = memory.nearest([page.text], 5, without=[key])[0]
    assert key not in [one.id for one in without] and len(without) == 5


def test_calibration_is_kept_and_renewed(ready: Run, settings: Settings, seeds: list[Seed], memory: Memory) -> None:
    """A threshold of other settings goes on; or hundreds of questions are asked at every start."""
    path = ready.folder / "router" / "evidence.threshold.json"
    old = read_record(path, Calibration)
    assert old.kept >= settings.router.keep and old.rejected >= 0.95 and old.negatives > 300
    before = path.stat().st_mtime_ns
    assert open_router(ready, settings, memory, seeds).threshold == old.threshold and path.stat().st_mtime_ns == before
    warmer = settings.model_copy(update={"router": settings.router.model_copy(update={"reject": 0.999})})
    assert open_router(ready, warmer, memory, seeds).threshold > old.threshold
    path.write_text("{")
    assert open_router(ready, settings, memory, seeds).threshold == old.threshold
    assert read_record(path, Calibration) == old


@given(st.lists(scores, min_size=1), st.lists(scores), st.floats(0.5, 0.99), st.floats(0.5, 0.99))
def test_threshold_keeps_enough_and_rejects_no_more_than_it_must(positives: list[float], negatives: list[float],
                                                                 keep: float, reject: float) -> None:
    """A threshold off by one positive, or one that abstains from more than was asked for."""
    threshold = choose_threshold(positives, negatives, keep, reject)

    def kept(at: float) -> float:
        return sum(score >= at for score in positives) / len(positives)

    def rejected(at: float) -> float:
        return sum(score < at for score in negatives) / max(1, len(negatives))

    assert kept(threshold) >= keep - 1e-9
    enough = [at for at in positives if kept(at) >= keep - 1e-9 and rejected(at) >= reject - 1e-9]
    if negatives and enough:
        assert rejected(threshold) >= reject - 1e-9
        lower = max((score for score in (*positives, *negatives) if score < threshold), default=None)
        assert lower is None or rejected(lower) < reject - 1e-9 or lower == threshold


class Loudest(Strategy):
    """Whoever is named in capitals."""

    name = "loudest"

    def scores(self, question: Question) -> dict[str, float]:
        return {one.seed: 2.0 for one in question.neighbours if question.text.isupper()}


def test_another_strategy_takes_the_router_over(memory: Memory, settings: Settings, seeds: list[Seed]) -> None:
    """One method must be enough for a new strategy: the route, its confidence and its abstaining follow from it."""
    router = Router(memory, settings.router, 0.2, Loudest())
    route = router.route("WHERE IS THE WINDING KEY OF THE CLOCK?")
    assert route.seed in {seed.id for seed in seeds} and route.score == 2.0 and route.strategy == "loudest"
    assert router.route("Where is the winding key?").seed is None


def test_equal_vectors_whatever_the_cache_holds(memory: Memory, embedder: Embedder) -> None:
    """The cached vector of one question given for another."""
    for text in ("one", "two", "one"):
        assert memory.vector(text) == pytest.approx(embedder.embed([text])[0], abs=0.01)
