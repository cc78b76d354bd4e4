"""The record of a seed: what is not a whole thought is refused by field and reason."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rostok.records import problems
from rostok.seeds.glyphs import FIRST
from rostok.seeds.record import REGISTERS, Seed

NAMES = ("lamp", "oil", "keeper", "dawn", "ship", "debt", "moth", "glass", "watch")


def refusal(make_seed, **fields: object) -> str:
    with pytest.raises(ValidationError) as caught:
        make_seed(**fields)
    return problems(caught.value)


def rewired(seed: Seed, *ends: tuple[int, str]) -> tuple[object, ...]:
    """The seed's transitions, with the targets of some of them replaced."""
    steps = list(seed.transitions)
    for index, target in ends:
        steps[index] = steps[index].model_copy(update={"target": target})
    return tuple(steps)


def test_the_cycle_is_walked_in_its_own_order(make_seed) -> None:
    """Prevents: a formula that follows the order of the file instead of the order of the thought."""
    seed = make_seed(8)
    shuffled = make_seed(8, transitions=tuple(reversed(seed.transitions)))
    assert [step.source for step in shuffled.cycle()] == [f"n0{i}" for i in range(1, 9)]
    assert shuffled.formula == seed.formula
    assert seed.formula.startswith("n01 -feeds-> n02 -feeds-> ") and seed.formula.endswith("-> n01 ; n01 # n04")
    assert seed.delta[0] == "Δ1 lamp → oil (feeds, +0.25)"
    assert len(set(seed.glyphs)) == 8


def test_two_loops_are_no_thought(make_seed) -> None:
    """Prevents: a seed in two parts, whose second half no walk ever reaches."""
    seed = make_seed()
    assert "'n05' is not connected with 'n01'" in refusal(make_seed, transitions=rewired(seed, (3, "n01"), (7, "n05")))


def test_only_the_release_leads_nowhere(make_seed) -> None:
    """Prevents: a dead end that nobody meant, and a release that leads on after all."""
    seed = make_seed()
    cut = seed.transitions[:-1]
    assert "'n08' leads nowhere" in refusal(make_seed, transitions=cut)
    assert "no path returns" in refusal(make_seed, transitions=cut, release="n08")
    assert "'n03' leads on" in refusal(make_seed, release="n03")
    assert "'n99' is no node" in refusal(make_seed, release="n99")
    back = seed.transitions[6].model_copy(update={"target": "n01"})
    released = make_seed(transitions=(*cut, back), release="n08")
    assert released.formula == (
        "n01 -feeds-> n02 -feeds-> n03 -feeds-> n04 -feeds-> n05 -feeds-> n06 -feeds-> n07 -feeds-> n08!"
        " | n07 -feeds-> n01 ; n01 # n04"
    )
    assert released.id != make_seed(transitions=(*cut, back, seed.transitions[7])).id
    assert released.card().count("It ends with glass.") == 1


def test_a_transition_stands_once_and_leads_on(make_seed) -> None:
    """Prevents: a node that leads to itself, or twice to the same one, which no formula can tell apart."""
    seed = make_seed()
    assert "n01 -> n02 stands twice" in refusal(make_seed, transitions=(*seed.transitions, seed.transitions[0]))
    assert "'n03' leads to itself" in refusal(make_seed, transitions=rewired(seed, (2, "n03")))


def test_every_problem_is_told_at_once(make_seed) -> None:
    """Prevents: a seed mended by hand problem by problem, one message for each run of the linter."""
    seed = make_seed()
    clash = seed.contradictions[0].model_copy(update={"b": "n01"})
    reason = refusal(make_seed, transitions=rewired(seed, (2, "n99")), contradictions=(clash,), registers=("sermon",))
    assert "n03 -> n99: 'n99' is no node" in reason and "must be two nodes" in reason and "'sermon'" in reason


def test_one_contradiction_stands_once(make_seed) -> None:
    """Prevents: three contradictions that are one."""
    clash = make_seed().contradictions[0]
    mirrored = clash.model_copy(update={"a": clash.b, "b": clash.a})
    assert "same two nodes stand twice" in refusal(make_seed, contradictions=(clash, mirrored))


@given(number=st.integers(0, 2**31))
def test_the_walk_tells_every_transition_once(make_thought, number: int) -> None:
    """Prevents: a telling that leaves out a branch, or depends on the order of the file."""
    seed = make_thought(number)
    path = seed.walk()
    assert sorted(path, key=repr) == sorted(seed.transitions, key=repr)
    assert set(seed.order()) == {node.key for node in seed.nodes}
    shuffled = list(seed.transitions)
    random.Random(number).shuffle(shuffled)
    other = seed.model_copy(update={"transitions": tuple(shuffled)})
    assert (other.formula, other.delta, other.glyphs) == (seed.formula, seed.delta, seed.glyphs)
    asked = seed.sole_steps()
    assert asked and all([step.source for step in path].count(step.source) == 1 for step in asked)
    if seed.is_ring():
        assert seed.cycle() == path
    else:
        with pytest.raises(ValueError, match="no single ring"):
            seed.cycle()


def test_a_node_keeps_its_symbol(make_seed) -> None:
    """Prevents: a glyph line in which the same thing looks different after another node came or went."""
    seed = make_seed(size=12)
    symbol = dict(zip((seed.name(key) for key in seed.order()), seed.glyphs, strict=True))
    assert len(set(symbol.values())) == 12
    smaller = make_seed(size=9)
    assert {name: symbol[name] for name in NAMES[:9]} == dict(zip(NAMES, smaller.glyphs, strict=False))


def test_a_line_of_the_first_format_stays_as_it_was(make_seed) -> None:
    """Prevents: a run folder of an earlier Rostok whose seeds, and so its corpora, are suddenly others."""
    old = make_seed().model_copy(update={"format": 1})
    written = json.loads(old.line())
    assert old.glyphs == FIRST[:8] and old.id == make_seed().id
    assert set(written) == {"title", "language", "scene", "nodes", "transitions", "contradictions", "registers", "scores",
                            "lineage", "id", "formula", "delta", "glyphs"}
    assert set(written["lineage"]) == {"theme", "parents", "attributes", "place", "attempt", "random_seed", "model", "rostok"}


def test_ends_must_be_nodes(make_seed) -> None:
    """Prevents: a KeyError in the generator for a node that is not there."""
    seed = make_seed()
    assert "'n99' is no node of this seed" in refusal(make_seed, transitions=rewired(seed, (2, "n99")))
    clash = seed.contradictions[0]
    for changed in ({"b": "n99"}, {"b": "n01"}):
        assert "must be two nodes" in refusal(make_seed, contradictions=(clash.model_copy(update=changed),))


def test_names_and_keys_stand_once(make_seed) -> None:
    """Prevents: two nodes of one name, so that a probe has two right answers."""
    nodes = make_seed().nodes
    twice = (*nodes[:-1], nodes[-1].model_copy(update={"name": "LAMP"}))
    assert "'lamp' stands twice" in refusal(make_seed, nodes=twice)
    same_key = (*nodes[:-1], nodes[-1].model_copy(update={"key": "n01"}))
    assert "the same key" in refusal(make_seed, nodes=same_key)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"title": "ab"}, "title"),
        ({"scene": "too short"}, "scene"),
        ({"registers": ()}, "registers"),
        ({"registers": ("sermon",)}, "'sermon' is not one of parable"),
        ({"contradictions": ()}, "contradictions"),
        ({"colour": "red"}, "colour"),
        ({"scores": {"novelty": float("inf")}}, "scores.novelty"),
    ],
)
def test_a_refusal_names_the_field(make_seed, fields: dict[str, object], field: str) -> None:
    """Prevents: a seed refused without saying what is wrong with it."""
    assert field in refusal(make_seed, **fields)


@pytest.mark.parametrize("key", ["n1", "N01", "n001", "x01", "n٠١x"])
def test_keys_have_one_shape(make_seed, key: str) -> None:
    """Prevents: keys that cannot be told from words in a formula."""
    nodes = make_seed().nodes
    first = {**nodes[0].model_dump(), "key": key}
    assert "is no node key" in refusal(make_seed, nodes=(first, *nodes[1:]))


def test_the_id_is_of_the_content_alone(make_seed) -> None:
    """Prevents: the same thought under two ids because it was written at another attempt or scored anew."""
    seed = make_seed(3)
    lineage = seed.lineage.model_copy(update={"attempt": 2, "theme": "other"})
    assert seed.model_copy(update={"lineage": lineage, "scores": {"x": 1.0}}).id == seed.id
    assert seed.model_copy(update={"title": "Another"}).id != seed.id


@given(
    size=st.integers(8, 12),
    place=st.integers(0, 10**6),
    tension=st.floats(0, 1),
    registers=st.lists(st.sampled_from(REGISTERS), min_size=1, unique=True),
    title=st.text(st.characters(blacklist_categories=["Cs"]), min_size=3, max_size=80),
    attributes=st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3),
)
def test_a_seed_comes_back_from_its_line(make_seed, size, place, tension, registers, title, attributes) -> None:
    """Prevents: a library line that gives another seed, or none, when it is read again."""
    seed = make_seed(place, size, title=title, registers=tuple(registers))
    seed = seed.model_copy(
        update={
            "transitions": tuple(step.model_copy(update={"tension": tension}) for step in seed.transitions),
            "lineage": seed.lineage.model_copy(update={"attributes": attributes}),
        }
    )
    line = seed.line()
    assert "\n" not in line
    again = Seed.model_validate_json(line)
    assert (again, again.id, again.formula, again.line()) == (seed, seed.id, seed.formula, line)
