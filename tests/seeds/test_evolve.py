"""Evolution: children are whole, new, the same every time, and tell of every part where it came from."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rostok.seeds.evolve import Conditions, EvolutionError, cross, mutate, splice, split
from rostok.seeds.record import Seed


class Words:
    """An embedder without a model: a direction for every word, so that texts are as near as their words are shared."""

    sha256 = "e" * 64

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        vectors = np.zeros((len(texts), 512), np.float32)
        for row, text in enumerate(texts):
            for word in text.casefold().split():
                vectors[row, int(hashlib.sha256(word.strip(".,").encode()).hexdigest()[:4], 16) % 512] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


class Says:
    """A model that has one phrase for everything, and none for titles."""

    model = "f" * 64

    def __call__(self, seed: Seed, what: str) -> str | None:
        if what == "title":
            return None
        return f"A voice says of {seed.title} at {what} that nobody has ever seen it quite like this before."


NAMES = [f"{a} {b}" for a in ("iron", "wet", "salt", "old", "grey", "clay", "tin")
         for b in ("gate", "rope", "jar", "lamp", "oar", "sail")]
VERBS = ["locks", "binds", "dries", "warms", "wakes", "fills", "covers", "finds", "parts", "mends", "lifts", "carries", "opens"]


@pytest.fixture(scope="session")
def make_parent(make_thought):
    """A random seed of any shape with names, glosses, verbs and a scene that differ from seed to seed."""
    def make(number: int, ring: int = 0) -> Seed:
        dice = random.Random(number)
        seed = make_thought(number)
        keys = [f"n{index:02}" for index in range(1, ring + 1)] if ring else [node.key for node in seed.nodes]
        names = dict(zip(keys, dice.sample(NAMES, len(keys)), strict=True))
        edges = (list(zip(keys, [*keys[1:], keys[0]], strict=True)) if ring
                 else [(step.source, step.target) for step in seed.transitions])
        verbs = {edge: dice.choice(VERBS) for edge in edges}
        values = seed.model_dump(exclude=set(Seed.model_computed_fields))
        return Seed.model_validate({
            **values, "title": f"Thought {number}", "release": None if ring else seed.release,
            "scene": " ".join(f"In the {dice.choice(NAMES)} number {dice.random()} one waits for {dice.random()}."
                              for _ in range(4)),
            "nodes": [{"key": key, "name": names[key], "gloss": f"The {names[key]} means {dice.random()} to the keeper."}
                      for key in keys],
            "transitions": [{"source": a, "operation": verbs[a, b], "target": b, "tension": round(dice.random(), 3),
                             "sentence": f"The {names[a]} {verbs[a, b]} the {names[b]} for reason {dice.random()}."}
                            for a, b in edges],
            "contradictions": [{"a": keys[0], "b": keys[4], "sentence": "The two of them cannot both be kept in winter."}]})

    return make


def children(a: Seed, b: Seed, conditions: Conditions) -> list[Seed]:
    """A child of every operator, as far as one was new enough."""
    born: list[Seed] = []
    for make in (lambda: [mutate(a, conditions)], lambda: [cross(a, b, conditions)], lambda: list(split(a, conditions)),
                 lambda: [splice(a, b, conditions)]):
        try:
            born += make()
        except EvolutionError as error:
            assert "×" in str(error)
    return born


@settings(max_examples=40)
@given(one=st.integers(0, 10**6), two=st.integers(10**6 + 1, 10**7), number=st.integers(0, 2**31))
def test_every_child_is_whole_and_knows_its_parents(make_parent, one: int, two: int, number: int) -> None:
    """Prevents: a child with a node, a verb or a sentence from nowhere; words of code that pass as a model's."""
    a, b = make_parent(one), make_parent(two)
    parents = {seed.id: seed for seed in (a, b)}
    for child in children(a, b, Conditions(Words(), random_seed=number, place=5)):
        assert Seed.model_validate_json(child.line()) == child
        assert set(child.lineage.parents) <= set(parents) and child.lineage.place in (5, 6)
        assert set(child.lineage.origins) == {node.key for node in child.nodes}
        for node in child.nodes:
            parent, key = child.lineage.origins[node.key].split(":")
            assert (node.name, node.gloss) == (parents[parent].name(key), parents[parent].node(key).gloss)
        said = {(step.operation, step.sentence) for parent in parents.values() for step in parent.transitions}
        for step in child.transitions:
            if f"{step.source} -> {step.target}" in child.lineage.composed:
                assert step.sentence == f"The {child.name(step.source)} {step.operation} the {child.name(step.target)}."
                assert step.operation in {operation for operation, _ in said}
            else:
                assert (step.operation, step.sentence) in said
                assert child.name(step.source) in step.sentence and child.name(step.target) in step.sentence


@settings(max_examples=15)
@given(one=st.integers(0, 10**6), number=st.integers(0, 2**31))
def test_the_same_random_seed_gives_the_same_children(make_parent, one: int, number: int) -> None:
    """Prevents: evolution that nobody can repeat."""
    a, b = make_parent(one), make_parent(one + 10**7)
    conditions = Conditions(Words(), random_seed=number)
    assert [seed.line() for seed in children(a, b, conditions)] == [seed.line() for seed in children(a, b, conditions)]


@pytest.mark.parametrize("number", range(5))
def test_what_each_operator_does(make_parent, number: int) -> None:
    """Prevents: a cross that is a mutation of one parent, a splice without a run of the other, halves that are the whole."""
    a, b = make_parent(number, ring=12), make_parent(number + 50, ring=12)
    conditions = Conditions(Words(), random_seed=number)
    mutant, hybrid, spliced = mutate(a, conditions), cross(a, b, conditions), splice(a, b, conditions)
    first, second = split(a, conditions)
    for child in (mutant, hybrid, spliced, first, second):
        assert child.is_ring()
    kept = [edge for edge in pairs(mutant) if edge in pairs(a)]
    assert 3 <= len(kept) <= 7 and len(mutant.nodes) >= 10
    shares = [sum(origin.startswith(parent.id) for origin in hybrid.lineage.origins.values()) for parent in (a, b)]
    assert min(shares) >= 4
    guests = [key for key, origin in spliced.lineage.origins.items() if origin.startswith(b.id)]
    names = [spliced.name(key) for key in spliced.order()]
    at = sorted(names.index(spliced.name(key)) for key in guests)
    assert len(guests) >= 3 and (at[-1] - at[0] == len(at) - 1 or 0 in at)
    assert len(first.nodes) == len(second.nodes) == 8
    assert {node.name for node in first.nodes} | {node.name for node in second.nodes} == {node.name for node in a.nodes}
    assert (second.lineage.place, first.lineage.place) == (1, 0)


def pairs(seed: Seed) -> set[tuple[str, str]]:
    return {(seed.name(step.source), seed.name(step.target)) for step in seed.transitions}


def test_near_copies_are_refused_and_counted(make_parent) -> None:
    """Prevents: a library filled with copies of one thought; a refusal that does not say why."""
    class Same(Words):
        def embed(self, texts: Sequence[str]) -> np.ndarray:
            return np.ones((len(texts), 4), np.float32) / 2

    a, b = make_parent(1, ring=12), make_parent(2, ring=12)
    with pytest.raises(EvolutionError, match=rf"none of 3 children of {a.id} was new enough: nearly the text of s-\w+ 3×"):
        mutate(a, Conditions(Same(), candidates=3))
    with pytest.raises(EvolutionError, match="nearly the (transitions|nodes) of"):
        split(make_parent(3, ring=9), Conditions(Words()))
    child = cross(a, b, Conditions(Words(), random_seed=4))
    again = Conditions(Words(), library=[child], random_seed=4, candidates=1)
    with pytest.raises(EvolutionError, match=f"nearly the text of {child.id} 1×"):
        cross(a, b, again)


def test_parents_must_fit(make_parent) -> None:
    """Prevents: a seed crossed with itself, or in two languages."""
    a, b = make_parent(1, ring=12), make_parent(2, ring=12)
    with pytest.raises(EvolutionError, match="two different seeds"):
        cross(a, a, Conditions(Words()))
    with pytest.raises(EvolutionError, match=r"different languages \(en and ru\)"):
        splice(a, b.model_copy(update={"language": "ru"}), Conditions(Words()))


@pytest.mark.parametrize("goal", ["novelty", "tension"])
def test_a_goal_drives_the_choice(make_parent, goal) -> None:
    """Prevents: --goal that changes nothing."""
    a, b = make_parent(1, ring=12), make_parent(2, ring=12)

    def worth(child: Seed) -> float:
        if goal == "tension":
            return child.scores["tension"]
        vectors = Words().embed([f"{seed.title}. {seed.scene}" for seed in (child, a, b)])
        return float(1 - (vectors[0] @ vectors[1:].T).max())

    gain = [worth(cross(a, b, Conditions(Words(), random_seed=number, goal=goal, candidates=12)))
            - worth(cross(a, b, Conditions(Words(), random_seed=number))) for number in range(6)]
    assert min(gain) >= 0 < max(gain)


def test_a_model_says_what_code_has_composed(make_parent) -> None:
    """Prevents: words of code left where a model was at hand, or words of a model still listed as those of code."""
    a, b = make_parent(1, ring=12), make_parent(2, ring=12)
    plain = cross(a, b, Conditions(Words(), random_seed=3))
    worded = cross(a, b, Conditions(Words(), random_seed=3, reword=Says()))
    assert plain.lineage.composed[:2] == ("title", "scene") and len(plain.lineage.composed) > 4
    assert worded.lineage.composed == ("title",) and worded.lineage.model == Says.model
    assert worded.title == plain.title and worded.scene.startswith("A voice says")
    assert pairs(worded) == pairs(plain)


def test_a_symbol_goes_with_its_node(make_parent) -> None:
    """Prevents: a glyph line in which a mutated seed cannot be recognised."""
    seed = make_parent(7, ring=12)
    symbol = dict(zip((seed.name(key) for key in seed.order()), seed.glyphs, strict=True))
    child = mutate(seed, Conditions(Words(), random_seed=1))
    assert [symbol[child.name(key)] for key in child.order()] == list(child.glyphs)


def test_other_languages_get_the_bare_notation(make_parent) -> None:
    """Prevents: English articles in a Russian seed."""
    a = make_parent(1, ring=12).model_copy(update={"language": "ru"})
    child = mutate(a, Conditions(Words()))
    composed = [step.sentence for step in child.transitions if f"{step.source} -> {step.target}" in child.lineage.composed]
    assert composed and not any("the " in sentence for sentence in composed) and " – " in child.title
    assert json.loads(child.line())["language"] == "ru"
