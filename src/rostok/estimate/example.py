"""A seed made by code, of the size that the agents would write: on it the other stages are timed before there is a library."""

from __future__ import annotations

import random

from rostok import __version__
from rostok.seeds.record import Contradiction, Lineage, Node, Seed, Transition

_FIRST = ("iron", "wet", "salt", "old", "grey", "clay", "tin", "glass", "black", "loose", "stone", "paper", "cold", "round",
          "white", "broken", "long", "green", "small", "dry")
_SECOND = ("gate", "rope", "jar", "lamp", "bird", "bowl", "roof", "eye", "oar", "thread", "step", "sail", "bell", "coin",
           "door", "chair", "knife", "leaf", "key", "coat")
_VERBS = ("locks", "binds", "dries", "warms", "wakes", "fills", "covers", "finds", "parts", "mends", "lifts", "carries")
_GLOSSES = ("The {x} was left on the quay by somebody who meant to come back for it before the tide.",
            "Nobody in the house will say how the {x} came there, though each of them has held it.",
            "Whoever looks for the {x} at night finds it colder than the water and heavier than it was.",
            "The {x} is counted every evening, and on some evenings it is counted twice.")


def example(nodes: int = 12) -> Seed:
    """A ring of so many nodes, 8 to 20, with glosses and sentences as long as the agents'."""
    dice = random.Random(nodes)
    keys = [f"n{number:02d}" for number in range(1, nodes + 1)]
    pairs = zip(dice.sample(_FIRST, nodes), dice.sample(_SECOND, nodes), strict=True)
    name = {key: f"{first} {second}" for key, (first, second) in zip(keys, pairs, strict=True)}
    ring = dice.sample(keys, nodes)
    follows = zip(ring, [*ring[1:], ring[0]], strict=True)
    verbs = [_VERBS[number % len(_VERBS)] for number in range(nodes)]
    return Seed(
        title=f"The {name['n01'].title()} and the {name['n02'].title()}",
        registers=("parable", "manual", "letter", "field note", "lecture"),
        scene=f"The keeper came down at dusk and found the {name['n03']} beside the {name['n04']}. He had put neither there. "
              "The water stood higher than on any evening of that year, and somebody had tied the boats with his own knots.",
        nodes=tuple(Node(key=key, name=name[key], gloss=_GLOSSES[number % len(_GLOSSES)].format(x=name[key]))
                    for number, key in enumerate(keys)),
        transitions=tuple(Transition(source=a, operation=verb, target=b, tension=0.5,
                                     sentence=f"The {name[a]} {verb} the {name[b]} because nobody else on the quay will do it.")
                          for (a, b), verb in zip(follows, verbs, strict=True)),
        contradictions=(Contradiction(a="n01", b="n08", sentence=f"The {name['n01']} and the {name['n08']} cannot both stay."),),
        lineage=Lineage(theme="a harbour", attributes={"place": "rope loft", "person": "net maker", "hour": "at dusk",
                                                       "weather": "in thick fog", "mood": "doubt"},
                        place=0, random_seed=0, model="0" * 64, rostok=__version__))
