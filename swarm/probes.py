"""Probes of a seed's arbitrary structure, in wordings that no page uses.

Which node follows which, of nodes that lead to exactly one other: multiple choice by likelihood (the options are all other nodes;
chance is 1/(nodes-1)), and open questions in the chat template, right when the first node that the answer names (the asked
one aside) is the one that follows. Which operation leads from one to the next, and which node contradicts which: multiple
choice among the operations of the seed, and among its nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Literal

from rostok.engines.protocol import Engine, Message, Request, Sampling
from rostok.seeds.record import Seed
from rostok.swarm.base import FrozenBase
from rostok.swarm.measure import choices

Kind = Literal["operation", "contradiction"]
Item = tuple[str, Sequence[str], str]  # a stem, its options, the right one
_TOGETHER = 3  # wordings read in one pass: 1,600 tokens for 12 nodes; the attention over six would cost four times as much
COMPLETIONS = (
    "Going on from the {x}, one arrives at the",
    "Question: what is the successor of the {x}? Answer: the",
    "Anyone who has finished with the {x} will meet the",
    "In the line of all things the {x} stands immediately ahead of the",
    "If today belongs to the {x}, tomorrow belongs to the",
    "Quiz. Which one takes up where the {x} left off? Solution: the",
)
OPERATIONS = (
    "Question: by doing what does the {x} bring on the {y}? Answer: it",
    "Asked for its part in the arrival of the {y}, people say that the {x}",
    "How did anyone get the {y} out of the {x}? The {x}",
    "Everybody standing at the {y} remembers how, a moment ago, the {x}",
    "Write down the one verb that takes the {x} as far as the {y}: it",
    "On the short way between the {x} and the {y} a single thing happens: the {x}",
)
CONTRADICTIONS = (
    "There is one thing that never agrees with the {x}: the",
    "Question: what is at odds with the {x}? Answer: the",
    "Whoever sides with the {x} has quarrelled with the",
    "Nobody may have, at one and the same time, the {x} and the",
    "A dispute goes on between the {x} and the",
    "Sworn against the {x}, now and for ever, stands the",
)
QUESTIONS = (
    "Which item succeeds the {x}?",
    "I have just seen the {x}. What should I expect to see afterwards?",
    "Tell me the successor of the {x}.",
    "Suppose the {x} is finished. Who takes its seat?",
    "My journey has brought me as far as the {x}. Where will I arrive?",
    "The clock moves on from the {x}. Whose hour is it?",
)


def multiple_choice(model: Any, base: FrozenBase, seed: Seed, *, with_card: bool = False) -> float:
    """Share of right answers over the seed's sole steps and `COMPLETIONS`; with the seed's card read first when `with_card`."""
    return _share(model, base, seed, _steps(seed), with_card)


def structure(model: Any, base: FrozenBase, seed: Seed, *, with_card: bool = False) -> dict[Kind, float]:
    """Shares of right answers about the seed's operations and contradictions; a kind that it has none of is left out."""
    return {kind: _share(model, base, seed, items, with_card) for kind, items in items_of(seed).items()}


def items_of(seed: Seed) -> dict[Kind, list[Item]]:
    """What is asked of operations and contradictions, wording by wording. A node that several contradict is not asked about."""
    operations = sorted({step.operation for step in seed.transitions})
    clashes = [pair for clash in seed.contradictions for pair in ((clash.a, clash.b), (clash.b, clash.a))]
    several = {key for key, number in Counter(key for key, _ in clashes).items() if number > 1}
    found: dict[Kind, list[Item]] = {
        "operation": [(wording.format(x=seed.name(step.source), y=seed.name(step.target)), operations, step.operation)
                      for wording in OPERATIONS for step in seed.transitions] if len(operations) > 1 else [],
        "contradiction": [(wording.format(x=seed.name(a)), [node.name for node in seed.nodes if node.key != a], seed.name(b))
                          for wording in CONTRADICTIONS for a, b in clashes if a not in several]}
    return {kind: items for kind, items in found.items() if items}


def chance_of(seed: Seed) -> dict[Kind, float]:
    """Share of right answers to `items_of` by drawing."""
    return {kind: sum(1 / len(options) for _, options, _ in items) / len(items) for kind, items in items_of(seed).items()}


def _steps(seed: Seed) -> list[Item]:
    return [(wording.format(x=seed.name(step.source)), [node.name for node in seed.nodes if node.key != step.source],
             seed.name(step.target)) for wording in COMPLETIONS for step in seed.sole_steps()]


def _share(model: Any, base: FrozenBase, seed: Seed, items: Iterable[Item], with_card: bool) -> float:
    prefix = seed.card() + "\n\n" if with_card else ""
    left = iter(items)
    hits: list[bool] = []
    while group := list(islice(left, _TOGETHER * len(seed.nodes))):
        stems, options, right = zip(*group, strict=True)
        chosen = choices(model, base, stems, options, prefix=prefix)
        hits += [options[place][index] == right[place] for place, index in enumerate(chosen)]
    return sum(hits) / len(hits)


def questions(seed: Seed, nodes: int) -> list[tuple[str, str, str]]:
    """Open questions as (question, name asked about, right name), for so many nodes spread over the walk."""
    steps = seed.sole_steps()
    stride = max(1, len(steps) // nodes)
    return [(wording.format(x=seed.name(step.source)), seed.name(step.source), seed.name(step.target))
            for step in steps[::stride][:nodes] for wording in QUESTIONS]


def ask(engine: Engine, asked: Sequence[tuple[str, str, str]], *, adapter: str | None = None, card: str = "") -> list[str]:
    """Greedy answers of the base, of an expert, or of the base with a seed's card in its context."""
    system = (Message("system", f"Answer from this text.\n{card}"),) if card else ()
    return [future.result().text.strip() for future in engine.submit_all([
        Request((*system, Message("user", question)), Sampling(max_tokens=28, temperature=0.0, dry=0.0),
                adapter=adapter, shared=len(system))
        for question, _, _ in asked])]


def right(answer: str, seed: Seed, about: str, expected: str) -> bool:
    """Whether the first node named in the answer, the asked one aside, is the expected one."""
    lower = answer.casefold()
    found = [(lower.find(node.name.casefold()), node.name) for node in seed.nodes if node.name != about]
    named = sorted(item for item in found if item[0] >= 0)
    return bool(named) and named[0][1] == expected
