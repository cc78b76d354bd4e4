"""Seeds and corpora made by code alone, for benches that measure something else: no model, and the same every time."""

from __future__ import annotations

import random
from collections.abc import Sequence

from rostok.config import CorpusSettings
from rostok.generator.bank import Bank
from rostok.generator.compose import compose, converse
from rostok.generator.plan import plan
from rostok.generator.records import Page
from rostok.seeds.record import Contradiction, Lineage, Node, Seed, Transition

VERBS = ("locks", "binds", "dries", "warms", "wakes", "fills", "covers", "finds", "parts", "mends", "lifts", "carries")
GLOSSES = ("The {x} was left on the quay by somebody who meant to come back for it before the tide.",
           "Nobody in the house will say how the {x} came there, though each of them has held it.",
           "Whoever looks for the {x} at night finds it colder than the water and heavier than it was.",
           "The {x} is counted every evening, and on some evenings it is counted twice.")


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


def composed(thought: Seed, settings: CorpusSettings, random_seed: int) -> list[Page]:
    """All pages of a corpus, as `rostok corpus build` composes its own part; `settings` plan no page for a model."""
    made = []
    for spec in plan(thought, settings, random_seed):
        size = settings.page_characters
        turns = converse(spec, thought, Bank(), size, 0, random_seed) if spec.kind == "dialogue" else ()
        text = "\n\n".join(turn.content for turn in turns) or compose(spec, thought, Bank(), size, 0, random_seed)
        made.append(Page(spec=spec.number, kind=spec.kind, author="code", text=text, turns=turns, held_out=spec.held_out))
    return made
