"""Seeds of every shape that the record allows."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from rostok.seeds.record import Contradiction, Node, Seed, Transition

WORDS = ("lamp", "oil", "keeper", "dawn", "ship", "debt", "moth", "glass", "watch", "silence", "rope", "tide", "salt", "bell",
         "stair", "ledger", "gull", "anchor", "candle", "harbour", "needle", "mirror", "root", "thread", "oven", "scale")


@pytest.fixture(scope="session")
def make_thought(make_seed: Callable[..., Seed]) -> Callable[[int], Seed]:
    """`make_thought(number)`: a random valid seed: a ring of any length, nodes before and after it, forks, a release."""

    def make(number: int) -> Seed:
        dice = random.Random(number)
        keys = [f"n{index:02}" for index in dice.sample(range(1, 100), dice.randint(8, 20))]
        names = dict(zip(keys, dice.sample(WORDS, len(keys)), strict=True))
        ring = keys[: dice.randint(2, len(keys))]
        edges = dict.fromkeys(zip(ring, [*ring[1:], ring[0]], strict=True))
        rest = keys[len(ring):]
        release = rest[-1] if rest and dice.random() < 0.5 else None
        for place, key in enumerate(rest, start=len(ring)):
            if key == release:
                edges[dice.choice(keys[1:place]), key] = None
            else:
                edges[key, dice.choice(keys[:place])] = None
        for _ in range(dice.randint(0, 6)):
            a, b = dice.sample(keys, 2)
            if a not in (keys[0], release) and (ring == keys or b != release):
                edges[a, b] = None
        order = dice.sample(keys, len(keys))
        verbs = ("feeds", "calls back", "re-reads", 'says "->"', "binds; n01 # n02", "зовёт", "l’emporte", "x1")
        pairs = [dice.sample(keys, 2) for _ in range(dice.randint(1, 3))]
        clashes = {frozenset(pair): pair for pair in pairs}.values()
        return make_seed(
            number % 1000, title=f"A thought of {names[keys[0]]} and {names[keys[1]]}, {number}",
            nodes=tuple(Node(key=key, name=names[key], gloss=f"The {names[key]} waits for what comes next.") for key in order),
            transitions=tuple(Transition(source=a, operation=dice.choice(verbs[:-1]), target=b, tension=round(dice.random(), 3),
                                         sentence=f"The {names[a]} feeds the {names[b]}.") for a, b in edges),
            release=release,
            contradictions=tuple(Contradiction(a=a, b=b, sentence="One of them wants what the other forbids.")
                                 for a, b in clashes))

    return make
