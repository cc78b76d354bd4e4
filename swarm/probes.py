"""Probes: which node follows which, asked in wordings that no page uses, of nodes that lead to exactly one other.

Multiple choice by likelihood (the options are all other nodes; chance is 1/(nodes-1)), and open questions in the chat
template, right when the first node that the answer names (the asked one aside) is the one that follows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rostok.engines.protocol import Engine, Message, Request, Sampling
from rostok.seeds.record import Seed
from rostok.swarm.base import FrozenBase
from rostok.swarm.measure import choices

_TOGETHER = 3  # wordings read in one pass: 1,600 tokens for 12 nodes; the attention over six would cost four times as much
COMPLETIONS = (
    "Going on from the {x}, one arrives at the",
    "Question: what is the successor of the {x}? Answer: the",
    "Anyone who has finished with the {x} will meet the",
    "In the line of all things the {x} stands immediately ahead of the",
    "If today belongs to the {x}, tomorrow belongs to the",
    "Quiz. Which one takes up where the {x} left off? Solution: the",
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
    prefix = seed.card() + "\n\n" if with_card else ""
    hits = []
    for start in range(0, len(COMPLETIONS), _TOGETHER):
        stems, options, right = [], [], []
        for step in seed.sole_steps():
            others = [node.name for node in seed.nodes if node.key != step.source]
            for wording in COMPLETIONS[start : start + _TOGETHER]:
                stems.append(wording.format(x=seed.name(step.source)))
                options.append(others)
                right.append(others.index(seed.name(step.target)))
        hits += [a == b for a, b in zip(choices(model, base, stems, options, prefix=prefix), right, strict=True)]
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
