"""From a pace to stages and libraries, in plain numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rostok.config import resolve
from rostok.estimate.pace import Pace
from rostok.estimate.predict import LIBRARIES, books, predict, sized

SETTINGS = resolve(assignments=["school.drills=0"])
FEW = st.integers(1, 60)
PAGES = st.integers(20, 3000)


def test_a_run_is_told_stage_by_stage(pace: Pace) -> None:
    """Prevents: a stage that is forgotten, or counted twice, in the sum."""
    told = predict(sized(SETTINGS, 2, 100), pace)
    assert [stage.name for stage in told.stages] == ["author", "corpus", "swarm", "memory", "report"]
    seconds = {stage.name: stage.seconds for stage in told.stages}
    assert told.seconds == pytest.approx(sum(seconds.values()))
    # 2 seeds at 12 s, two side by side take 1.3 times as long, and one comparison of four texts with the first.
    assert seconds["author"] == pytest.approx(5 + 2 * 12 * 1.3 + 4 * 0.004)
    # 92 pages of 150 tokens in 23 steps of 2 experts.
    assert told.trained == pytest.approx(2 * 23 * 4 * 150)
    training = 23 * (0.1 + 2 * 600 * 0.001)
    measuring = 3 * (2 * (1 + 8 * 0.1) + 0.5) + 2 * 1
    general = 64 * 0.01 + 12 * 64 * 0.001 + 12 * 0.02
    assert seconds["swarm"] == pytest.approx(2 + general + 3 + 2 * 5 + 1.02 * training + measuring + 2 * (1 + 4))
    assert told.measuring == pytest.approx(measuring / told.seconds)
    assert told.memory_mib == 3_000 + 2 * 100
    assert told.disk_bytes == pytest.approx(2 * 290_000 + 200 * 2_000 + 60e6 + 184 * 9_000 + 1e6)


def test_the_school_is_told_with_the_swarm(pace: Pace) -> None:
    """Prevents: minutes of drills before the first expert that nobody was told of, or that grow with the library."""
    with_school = resolve(assignments=["school={drills: 2, pages: 100, replay: 0.3}", "training.epochs=2"])
    without_school = resolve(assignments=["school.drills=0", "training.epochs=2"])  # the school reads its pages once
    for seeds in (2, 50):
        told, without = predict(sized(with_school, seeds, 100), pace), predict(sized(without_school, seeds, 100), pace)
        # 2 drills with 30 answers each, 100 to 170 tokens in turn; 184 pages of 150 tokens in 46 steps of one adapter.
        answers = 1 + 2 * (170 * 0.01 + 4_100 * 0.001 + 30 * 0.02 + 100 * 0.005)
        training = 1.02 * 46 * (0.1 + 600 * 0.001)
        assert told.seconds - without.seconds == pytest.approx(answers + 3 + 5 + training)
        assert told.trained - without.trained == pytest.approx(46 * 600)
        assert told.disk_bytes - without.disk_bytes == pytest.approx(2 * (40_000 + 200_000) + 30e6)


@given(seeds=FEW, pages=PAGES, more=st.integers(1, 50))
def test_more_seeds_and_more_pages_never_take_less(pace: Pace, seeds: int, pages: int, more: int) -> None:
    """Prevents: rounding that makes a larger run the shorter one in some stage, or the smaller one."""
    told = predict(sized(SETTINGS, seeds, pages), pace)
    for larger in (sized(SETTINGS, seeds + more, pages), sized(SETTINGS, seeds, pages + 20 * more)):
        other = predict(larger, pace)
        # A fuller last group of experts may be as long as an emptier one, never shorter.
        assert all(b.seconds >= a.seconds - 1e-9 for a, b in zip(told.stages, other.stages, strict=True))
        assert other.disk_bytes >= told.disk_bytes
        assert other.memory_mib >= told.memory_mib


@given(pages=PAGES, refused=st.floats(0, 0.9))
def test_refused_pages_are_written_again(pace: Pace, pages: int, refused: float) -> None:
    """Prevents: a corpus whose estimate never ends, or in which refusals cost nothing."""
    settings = sized(SETTINGS, 1, pages)
    strict = pace.model_copy(update={"corpus": pace.corpus.model_copy(update={"refused": refused})})
    kind = pace.model_copy(update={"corpus": pace.corpus.model_copy(update={"refused": 0.0})})
    a, b = predict(settings, kind), predict(settings, strict)
    assert b.sampled >= a.sampled
    assert b.sampled <= a.sampled / (1 - refused) * 1.35 + 200
    assert b.seconds >= a.seconds


def test_ten_times_the_books_take_ten_times_the_swarm(pace: Pace) -> None:
    """Prevents: a library in which every expert is measured on every other seed, which no night has the time for."""
    rows = books(SETTINGS, pace)
    assert tuple(row.seeds for row in rows) == LIBRARIES
    assert all(row.pages == 500 for row in rows)
    swarm = [row.stages[2].seconds for row in rows]
    assert 9 < swarm[3] / swarm[2] < 11


def test_experts_share_what_a_step_costs_by_itself(pace: Pace) -> None:
    """Prevents: nine experts told as if a tenth of a group cost as much as a whole one, or as if none shared a step."""
    one, eight, nine = (predict(sized(SETTINGS, seeds, 100), pace) for seeds in (1, 8, 9))
    alone, shared, more = (row.stages[2].seconds - (row.seeds + 1) * (row.seeds * 1.8 + 0.5) - 6 * row.seeds
                           for row in (one, eight, nine))
    assert shared - alone == pytest.approx(1.02 * 7 * 23 * 0.6)
    assert more - shared == pytest.approx(1.02 * 23 * (0.1 + 0.6))
