"""The page plan."""

from __future__ import annotations

from collections import Counter
from itertools import islice, pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rostok.config import CorpusSettings, Shares
from rostok.generator.plan import page_counts, plan, specifications
from rostok.generator.records import KINDS, PageSpec
from rostok.seeds.record import Seed


def _signature(spec: PageSpec) -> tuple[object, ...]:
    return spec.kind, spec.path, spec.register_, spec.form, spec.depth, spec.fragmentation, spec.variant


def test_same_seed_same_plan_other_seed_other_plan(seed: Seed) -> None:
    """Prevents: a plan that depends on the process, so that a resumed run writes other pages."""
    corpus = CorpusSettings(pages=200)
    assert plan(seed, corpus, 7) == plan(seed, corpus, 7)
    assert plan(seed, corpus, 7) != plan(seed, corpus, 8)


def test_a_thousand_specifications_are_all_different(seed: Seed) -> None:
    """Prevents: the same page asked for twice."""
    specs = plan(seed, CorpusSettings(pages=1000), 7)
    assert len(specs) == 1000
    assert len({_signature(spec) for spec in specs}) == 1000
    assert [spec.number for spec in specs] == list(range(1000))


def test_every_kind_has_its_share_and_its_held_out_pages(seed: Seed) -> None:
    """Prevents: a held-out set without pages of one kind."""
    specs = plan(seed, CorpusSettings(pages=200), 7)
    assert Counter(spec.kind for spec in specs) == {"written": 50, "composed": 80, "dialogue": 50, "replay": 20}
    assert all(any(spec.held_out for spec in specs if spec.kind == kind) for kind in KINDS)
    assert 0.05 < sum(spec.held_out for spec in specs) / 200 < 0.12


def test_every_step_of_the_path_is_planned_equally_often(seed: Seed) -> None:
    """Prevents: nodes that no page is about, which an expert can then never learn."""
    starts = Counter(spec.path[0] for spec in plan(seed, CorpusSettings(pages=200), 7) if spec.kind == "composed")
    assert len(starts) == 12
    assert max(starts.values()) - min(starts.values()) <= 1


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pages=st.integers(20, 3000), parts=st.lists(st.floats(0.01, 1), min_size=4, max_size=4))
def test_counts_always_add_up(pages: int, parts: list[float]) -> None:
    """Prevents: a corpus of 999 or 1001 pages after rounding."""
    total = sum(parts)
    shares = [part / total for part in parts[:3]]
    split = Shares(written=shares[0], composed=shares[1], dialogue=shares[2], replay=1 - sum(shares))
    counts = page_counts(CorpusSettings(pages=pages, shares=split))
    assert sum(counts.values()) == pages


@pytest.mark.parametrize("kind", KINDS)
def test_replacements_go_on_where_the_plan_stopped(seed: Seed, kind: str) -> None:
    """Prevents: a refused page replaced by one that the plan had already."""
    specs = list(islice(specifications(seed, kind, 7), 400))  # type: ignore[arg-type]
    assert len({_signature(spec) for spec in specs}) == 400


def test_paths_follow_the_transitions_of_a_branching_seed(branching: Seed) -> None:
    """Prevents: a page about a step that the seed does not have, or branches that no page tells."""
    edges = {(step.source, step.target) for step in branching.transitions}
    told = set()
    for kind in ("written", "dialogue", "composed"):
        for spec in islice(specifications(branching, kind, 7), 200):  # type: ignore[arg-type]
            pairs = set(pairwise(spec.path))
            assert pairs <= edges and len(spec.path) >= (3 if kind == "written" else 2)
            told |= pairs
    assert told == edges
