"""A seed written by hand: the generator's mechanics need no model."""

from __future__ import annotations

import pytest

from rostok.seeds.record import Contradiction, Lineage, Node, Seed, Transition

NAMES = ("iron gate", "wet rope", "salt jar", "old lamp", "grey heron", "clay bowl", "tin roof", "glass eye", "black oar",
         "loose thread", "stone step", "paper sail")
VERBS = ("locks", "binds", "dries", "warms", "wakes", "fills", "covers", "finds", "parts", "mends", "lifts", "carries")


@pytest.fixture
def seed(keeper: Seed) -> Seed:
    """Twelve nodes on a cycle whose order is not that of their keys."""
    return keeper


@pytest.fixture(scope="session")
def keeper() -> Seed:
    """Twelve nodes on a cycle whose order is not that of their keys."""
    keys = [f"n{number:02d}" for number in range(1, 13)]
    order = [keys[i] for i in (0, 5, 3, 8, 1, 10, 7, 2, 11, 4, 9, 6)]
    follows = {order[i]: order[(i + 1) % 12] for i in range(12)}
    name = dict(zip(keys, NAMES, strict=True))
    return Seed(
        title="The Gate and the Rope", registers=("parable", "manual", "letter", "field note"),
        scene="The keeper came down at dusk, and the gate was open. He had closed it himself. The rope lay wet on the stones.",
        nodes=tuple(Node(key=key, name=name[key], gloss=f"The {name[key]} is what the keeper counts before he sleeps.")
                    for key in keys),
        transitions=tuple(Transition(source=key, operation=VERBS[i], target=follows[key], tension=0.5,
                                     sentence=f"The {name[key]} {VERBS[i]} the {name[follows[key]]} because nobody else will.")
                          for i, key in enumerate(keys)),
        contradictions=(Contradiction(a="n01", b="n08", sentence="The iron gate and the glass eye cannot both stay shut."),),
        lineage=Lineage(theme="a harbour", attributes={"place": "rope loft", "person": "net maker", "hour": "at dusk",
                                                       "weather": "in thick fog", "mood": "doubt"},
                        place=0, random_seed=7, model="0" * 64, rostok="0.1.0"))


@pytest.fixture
def branching(seed: Seed) -> Seed:
    """The same nodes with a ring of eight, two forks, two entrances, and a release one step from one of them."""
    ring = [f"n{number:02d}" for number in range(1, 9)]
    edges = [*zip(ring, [*ring[1:], ring[0]], strict=True),
             ("n03", "n11"), ("n11", "n05"), ("n05", "n12"), ("n09", "n12"), ("n10", "n01")]
    steps = [Transition(source=a, operation=verb, target=b, tension=0.5, sentence=f"The {seed.name(a)} {verb} it.")
             for (a, b), verb in zip(edges, [*VERBS, "meets"], strict=True)]
    values = seed.model_dump(exclude=set(Seed.model_computed_fields))
    return Seed.model_validate({**values, "transitions": steps, "release": "n12"})
