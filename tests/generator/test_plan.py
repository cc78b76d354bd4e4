"""The page plan, and what its pages are about."""

from __future__ import annotations

import random
from collections import Counter
from itertools import combinations, islice, pairwise

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from rostok.config import CorpusSettings, Shares
from rostok.errors import ConfigError, DataError
from rostok.generator.groups import coverage, runs, told
from rostok.generator.plan import page_counts, plan, specifications
from rostok.generator.records import KINDS, PageSpec
from rostok.generator.wordings import EXCHANGES, FORMS, FRAGMENTATIONS
from rostok.seeds import graph
from rostok.seeds.record import Contradiction, Node, Seed, Transition

ALL_KINDS = Shares(written=0.25, composed=0.35, dialogue=0.2, rewritten=0.1, replay=0.1)
TOLD = ("written", "composed", "dialogue")
# Nothing leads to n05 and n08: only what begins there tells their steps, and all ways meet in n01 and n09.
ENTRANCES = ([f"n{number:02}" for number in range(1, 11)], [
    ("n01", "n09"), ("n05", "n06"), ("n06", "n09"), ("n08", "n01"), ("n10", "n01"), ("n02", "n03"), ("n07", "n02"),
    ("n03", "n10"), ("n04", "n07"), ("n09", "n04")], None)


def signature(spec: PageSpec) -> tuple[object, ...]:
    return spec.kind, spec.path, spec.register_, spec.form, spec.depth, spec.fragmentation, spec.variant, spec.source


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[str], list[tuple[str, str]], str | None]:
    """Sound graphs of 8 to 20 nodes: rings, and rings with chords, entrances and a release."""
    keys = [f"n{number:02}" for number in range(1, draw(st.integers(8, 20)) + 1)]
    release = draw(st.sampled_from([None, keys[-1]]))
    pairs = [(a, b) for a in keys for b in keys if a not in (b, release)]
    chords = draw(st.lists(st.sampled_from(pairs), max_size=8, unique=True))
    edges = graph.close(keys, chords, release, random.Random(draw(st.integers(0, 99))))
    assume(not graph.problems(keys, edges, release))
    return keys, edges, release


def grown(seed: Seed, found: tuple[list[str], list[tuple[str, str]], str | None]) -> Seed:
    keys, edges, release = found
    names = {key: f"{seed.nodes[number % 12].name} {'one' if number < 12 else 'two'}" for number, key in enumerate(keys)}
    return Seed.model_validate({
        **seed.model_dump(exclude={*Seed.model_computed_fields}), "release": release,
        "nodes": [Node(key=key, name=names[key], gloss=f"The {names[key]} is what the keeper counts.") for key in keys],
        "transitions": [Transition(source=a, operation="meets", target=b, tension=0.5, sentence=f"The {names[a]} meets it.")
                        for a, b in edges],
        "contradictions": [Contradiction(a=keys[0], b=keys[4], sentence="They cannot both have their way.")]})


def test_same_seed_same_plan_other_seed_other_plan(seed: Seed) -> None:
    """Prevents: a plan that depends on the process, so that a resumed run writes other pages."""
    corpus = CorpusSettings(pages=200, shares=ALL_KINDS)
    assert plan(seed, corpus, 7) == plan(seed, corpus, 7)
    assert plan(seed, corpus, 7) != plan(seed, corpus, 8)


@pytest.mark.parametrize("pages", [1000, 10_000])
def test_specifications_are_all_different(seed: Seed, pages: int) -> None:
    """Prevents: the same page asked for twice; a page that differs from another in its variant alone, while others are left."""
    specs = plan(seed, CorpusSettings(pages=pages, shares=ALL_KINDS), 7)
    assert [spec.number for spec in specs] == list(range(pages))
    assert len({signature(spec) for spec in specs}) == pages
    for kind in ("composed", "dialogue") if pages == 1000 else ("composed",):
        ours = [signature(spec)[:6] for spec in specs if spec.kind == kind]
        assert len(set(ours)) == len(ours), kind
    default = [signature(spec)[:6] for spec in plan(seed, CorpusSettings(pages=1000), 7) if spec.kind != "replay"]
    assert len(set(default)) == len(default) == 700


def test_pairs_come_first_then_triples_and_every_second_page_is_a_path(seed: Seed) -> None:
    """Prevents: combinations that a corpus of any size never sees, and pages about clashes that come last."""
    specs = list(islice(specifications(seed, "composed", 7, CorpusSettings()), 2 * (66 + 220)))
    assert all(len(spec.focus) == 1 for spec in specs[::2])
    groups = [spec.focus for spec in specs[1::2]]
    keys = sorted(node.key for node in seed.nodes)
    assert groups[0] == ("n01", "n08")  # the seed's contradiction
    assert set(groups[:66]) == set(combinations(keys, 2)) and set(groups[66:]) == set(combinations(keys, 3))


def test_registers_forms_depths_and_cuts_are_spread_evenly(seed: Seed) -> None:
    """Prevents: a corpus in which one voice or form hardly appears."""
    specs = list(islice(specifications(seed, "composed", 7, CorpusSettings()), 420))
    for values, options in ([spec.register_ for spec in specs], seed.registers), ([spec.form for spec in specs], FORMS), (
            [spec.depth for spec in specs], (1, 2, 3)), ([spec.fragmentation for spec in specs], FRAGMENTATIONS):
        counts = Counter(values)
        assert set(counts) == set(options) and max(counts.values()) - min(counts.values()) <= 12
    assert {spec.depth for spec in islice(specifications(seed, "written", 7, CorpusSettings(depth=1)), 60)} == {1}


def test_every_kind_has_its_share_and_its_held_out_pages(seed: Seed) -> None:
    """Prevents: a held-out set without pages of one kind."""
    specs = plan(seed, CorpusSettings(pages=200), 7)
    assert Counter(spec.kind for spec in specs) == {"written": 24, "composed": 58, "dialogue": 58, "replay": 60}
    specs = plan(seed, CorpusSettings(pages=200, shares=ALL_KINDS), 7)
    assert all(any(spec.held_out for spec in specs if spec.kind == kind) for kind in KINDS)
    assert 0.05 < sum(spec.held_out for spec in specs) / 200 < 0.12


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=graphs(), kind=st.sampled_from(TOLD), pages=st.integers(30, 400))
@example(found=ENTRANCES, kind="composed", pages=30)
@example(found=ENTRANCES, kind="composed", pages=150)
def test_every_step_is_told_about_equally_often_at_any_page_count(
        seed: Seed, found: tuple[list[str], list[tuple[str, str]], str | None], kind: str, pages: int) -> None:
    """Prevents: transitions that few pages tell, which an expert is probed on all the same."""
    thought = grown(seed, found)
    specs = list(islice(specifications(thought, kind, 7, CorpusSettings()), pages))  # type: ignore[arg-type]
    least, most = coverage((spec.path for spec in specs), thought)
    mean = sum(len(told(spec.path, thought)) for spec in specs) / len(thought.transitions)
    assert least >= 0.6 * mean - 2
    assert not thought.is_ring() or most - least <= 3 + 0.1 * mean
    assert {key for spec in specs for key in spec.path} == set(found[0])


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=graphs(), kind=st.sampled_from(TOLD))
def test_pages_tell_true_steps_and_as_many_as_their_cuts_take(
        seed: Seed, found: tuple[list[str], list[tuple[str, str]], str | None], kind: str) -> None:
    """Prevents: a page about a step that the seed does not have, or one with an empty paragraph."""
    thought = grown(seed, found)
    edges = {(step.source, step.target) for step in thought.transitions}
    for spec in islice(specifications(thought, kind, 7, CorpusSettings()), 120):  # type: ignore[arg-type]
        steps = told(spec.path, thought)
        assert len(steps) == {"composed": 6, "dialogue": 4, "written": max(2, len(spec.focus))}[kind]
        assert spec.fragmentation in EXCHANGES if kind == "dialogue" else sum(spec.fragmentation) in (0, len(steps))
        parts = runs(spec.path, thought)
        assert all(edge in edges for part in parts for edge in pairwise(part))
        assert [key for part in parts for key in part] == list(spec.path)


def test_rewritings_of_held_out_pages_are_held_out(seed: Seed) -> None:
    """Prevents: a page that no expert may read, read by it in another form."""
    specs = plan(seed, CorpusSettings(pages=300, shares=ALL_KINDS), 7)
    rewritten = [spec for spec in specs if spec.kind == "rewritten"]
    assert len(rewritten) == 30 and {spec.held_out for spec in rewritten} == {True, False}
    for spec in rewritten:
        assert spec.source is not None
        source = specs[spec.source]
        assert source.kind in ("written", "composed") and source.held_out == spec.held_out and source.form != spec.form


def test_rewritings_of_nothing_are_refused(seed: Seed) -> None:
    """Prevents: a plan that ends in an empty choice."""
    shares = Shares(written=0.0, composed=0.001, dialogue=0.499, rewritten=0.5, replay=0)
    with pytest.raises(ConfigError, match="not a single page that they could rewrite"):
        plan(seed, CorpusSettings(pages=20, shares=shares), 7)


@settings(max_examples=60)
@given(pages=st.integers(20, 3000), parts=st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.3333, 0.7]), min_size=5, max_size=5))
def test_counts_add_up_and_a_share_of_nothing_has_no_pages(pages: int, parts: list[float]) -> None:
    """Prevents: a corpus of 999 or 1001 pages after rounding, and pages of a kind that was switched off."""
    total = sum(parts)
    assume(parts[0] + parts[1] > 0)
    shares = dict(zip(KINDS, (part / total for part in parts), strict=True))
    counts = page_counts(CorpusSettings(pages=pages, shares=Shares.model_validate(shares)))
    assert sum(counts.values()) == pages
    assert all(counts[kind] == 0 for kind in KINDS if shares[kind] == 0)
    assert all(abs(counts[kind] - pages * shares[kind]) < 1 for kind in KINDS)


@pytest.mark.parametrize("kind", [*TOLD, "replay"])
def test_replacements_go_on_where_the_plan_stopped(seed: Seed, kind: str) -> None:
    """Prevents: a refused page replaced by one that the plan had already."""
    specs = list(islice(specifications(seed, kind, 7, CorpusSettings()), 400))  # type: ignore[arg-type]
    assert len({signature(spec) for spec in specs}) == 400


def test_a_seed_that_says_nothing_is_not_unfolded(seed: Seed) -> None:
    """Prevents: a thousand pages about a placeholder."""
    nodes = (seed.nodes[0].model_copy(update={"gloss": "TODO: say what it is"}), *seed.nodes[1:])
    with pytest.raises(DataError, match=r"nodes\.0\.gloss is empty or a placeholder"):
        plan(seed.model_copy(update={"nodes": nodes}), CorpusSettings(), 7)
