"""The record of a seed: what is not a whole thought is refused by field and reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rostok.records import problems
from rostok.seeds.record import GLYPHS, REGISTERS, Seed


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
    assert seed.glyphs == GLYPHS[:8]


def test_two_loops_are_no_thought(make_seed) -> None:
    """Prevents: a seed in two parts, whose second half no walk ever reaches."""
    seed = make_seed()
    assert "return to the first" in refusal(make_seed, transitions=rewired(seed, (3, "n01"), (7, "n05")))


def test_every_node_leads_to_one_other(make_seed) -> None:
    """Prevents: dead ends and forks, for which no probe has a right answer."""
    seed = make_seed()
    assert "exactly one other" in refusal(make_seed, transitions=seed.transitions[:-1])
    assert "exactly one other" in refusal(make_seed, transitions=(*seed.transitions, seed.transitions[0]))
    assert "return to the first" in refusal(make_seed, transitions=rewired(seed, (2, "n03")))


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
