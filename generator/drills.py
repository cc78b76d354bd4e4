"""Drills: seeds that code makes, of no meaning to anybody, from whose pages a swarm learns how such pages are read.

A ring of twelve names in an order that is drawn, with verbs and glosses from short lists. They say what code says and
nothing else, the same for every run; the benches use them, too, where something else than the seeds is measured.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from rostok.seeds.record import Contradiction, Lineage, Node, Seed, Transition

FIRST = ("iron", "wet", "salt", "old", "grey", "clay", "tin", "glass", "black", "loose", "stone", "paper", "red", "blunt", "cold",
         "green", "torn", "brass", "soft", "white", "hollow", "bent", "silk", "wax", "bitter", "oak", "lead", "blue", "rusty",
         "warm", "bone", "gilt", "damp", "cork", "pale", "coarse", "steel", "plaster", "amber", "linen")
SECOND = ("gate", "rope", "jar", "lamp", "heron", "bowl", "roof", "eye", "oar", "thread", "step", "sail", "bell", "nail", "cart",
          "shell", "drum", "ladle", "plank", "mask", "glove", "tower", "wheel", "comb", "ledger", "kite", "pillar", "saddle",
          "mirror", "anvil", "funnel", "lantern", "needle", "bridge", "kettle", "crown", "feather", "whistle", "barrel", "anchor")
VERBS = ("locks", "binds", "dries", "warms", "wakes", "fills", "covers", "finds", "parts", "mends", "lifts", "carries")
GLOSSES = ("The {x} was left on the quay by somebody who meant to come back for it before the tide.",
           "Nobody in the house will say how the {x} came there, though each of them has held it.",
           "Whoever looks for the {x} at night finds it colder than the water and heavier than it was.",
           "The {x} is counted every evening, and on some evenings it is counted twice.")


def drill(place: int) -> Seed:
    """Drill number `place`: up to 120 of them share words, but no whole name."""
    dice = random.Random(place)
    block, offset = divmod(place, len(SECOND))
    names = [f"{FIRST[(12 * block + i) % len(FIRST)]} {SECOND[(i + offset) % len(SECOND)]}" for i in range(12)]
    dice.shuffle(names)
    return ring(place, names, dice)


def ring(place: int, names: Sequence[str], dice: random.Random) -> Seed:
    """A ring of twelve nodes of these names, in an order that is drawn."""
    keys = [f"n{number:02d}" for number in range(1, 13)]
    order = dice.sample(keys, 12)
    name, verbs = dict(zip(keys, names, strict=True)), dice.sample(VERBS, 12)
    return Seed(
        title=f"The {names[0].title()} and the {names[1].title()}", registers=("parable", "manual", "letter", "field note"),
        scene=f"The keeper came down at dusk and found the {names[2]} beside the {names[3]}. He had put neither there.",
        nodes=tuple(Node(key=key, name=name[key], gloss=GLOSSES[number % len(GLOSSES)].format(x=name[key]))
                    for number, key in enumerate(keys)),
        transitions=tuple(Transition(source=a, operation=verbs[i], target=b, tension=0.5,
                                     sentence=f"The {name[a]} {verbs[i]} the {name[b]} because nobody else will.")
                          for i, (a, b) in enumerate(zip(order, [*order[1:], order[0]], strict=True))),
        contradictions=(Contradiction(a="n01", b="n08", sentence=f"The {names[0]} and the {names[7]} cannot both stay."),),
        lineage=Lineage(theme="a harbour", attributes={"place": "rope loft", "person": "net maker", "hour": "at dusk",
                                                       "weather": "in thick fog", "mood": "doubt"},
                        place=place, random_seed=place, model="0" * 64, rostok="0.1.0"))
