"""The teacher of context distillation: the frozen base, with the seed's card in its context, reading a job's pages.

    lessons = Lessons(stack, job)
    teach([(lessons, 3), (lessons, 7)], limit=2048)
    lessons.of(3)                                   # final hidden states, (tokens, width)

Prompt distillation (2412.14964) and Cartridges (2506.06266) train on the teacher's log-probabilities: 49,152 numbers a
token. Its final hidden states are 576, from which the loss computes the others. A page is read in the step that first
trains on it, those of all jobs in the same passes, and what was said is kept only where a later epoch asks for it again: with
one epoch nothing is kept, and a job that goes on from a checkpoint need not read what is behind it. A context is read once
for a job.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rostok.engines.protocol import Message
from rostok.errors import DataError
from rostok.swarm.schedule import passes
from rostok.swarm.stack import Prefix, Rows, Stack

if TYPE_CHECKING:
    from torch import Tensor

    from rostok.generator.records import Page
    from rostok.swarm.base import FrozenBase
    from rostok.swarm.training import Job


def contexts(frozen: FrozenBase, pages: Sequence[Page], cards: Mapping[str, str]) -> list[tuple[int, ...]]:
    """What the teacher reads before each page: the card of its seed; before a conversation as a system message.

    Before a replay page nothing: it is there to keep the expert as the base is, and so is the teacher without a card.

    Args:
        cards: {seed: card}; a page that names no seed is of the only one.

    Raises:
        DataError: the card of a page's seed is missing.
    """
    known: dict[tuple[str, bool], tuple[int, ...]] = {}
    found: list[tuple[int, ...]] = []
    for page in pages:
        if page.kind == "replay":
            found.append(())
            continue
        seed = page.seed or next(iter(cards), "")
        if seed not in cards:
            raise DataError(f"page {page.spec} is of the seed {seed or 'without a name'}, whose card the teacher does not have. "
                            "Train with training.objective=next-token, or bring the seed back into the library.")
        place = seed, bool(page.turns)
        if place not in known:
            text = (frozen.template.render([Message("system", f"Answer from this text.\n{cards[seed]}")], answer=False)
                    if page.turns else f"{cards[seed]}\n\n")
            known[place] = tuple(frozen.tokens(text))
        found.append(known[place])
    return found


class Lessons:
    """What the teacher says about the pages of one job."""

    def __init__(self, stack: Stack, job: Job) -> None:
        self.stack, self._job = stack, job
        self._prefixes: dict[tuple[int, ...], Prefix] = {}
        self._said: dict[int, Tensor] = {}

    def __contains__(self, page: int) -> bool:
        return page in self._said

    def of(self, page: int) -> Tensor:
        """Final hidden states of the teacher at every token of a page that was taught, (tokens, width)."""
        return self._said[page]

    def forget(self, page: int) -> None:
        """Give the memory of a page back."""
        self._said.pop(page, None)

    def page(self, page: int) -> Sequence[int]:
        """Its tokens."""
        return self._job.pages[page]

    def prefix(self, page: int) -> Prefix | None:
        """What is read before it; read now if it was not yet."""
        context = tuple(self._job.contexts[page])
        if context and context not in self._prefixes:
            self._prefixes[context] = self.stack.read(context)
        return self._prefixes[context] if context else None

    def learn(self, page: int, hidden: Tensor) -> None:
        """Keep what the teacher said."""
        self._said[page] = hidden


def teach(wanted: Sequence[tuple[Lessons, int]], limit: int) -> None:
    """Let the teacher read these pages, of whatever jobs, in passes of at most `limit` tokens."""
    import torch

    for group in passes(wanted, lambda one: len(one[0].page(one[1])), limit):
        tokens: list[int] = []
        pages: list[tuple[int, int]] = []
        for lessons, number in group:
            page = lessons.page(number)
            pages.append((len(tokens), len(tokens) + len(page)))
            tokens += page
        after = [lessons.prefix(number) for lessons, number in group]
        hidden, _ = group[0][0].stack.forward(Rows(torch.tensor(tokens), pages, [], after))
        for (lessons, number), (start, end) in zip(group, pages, strict=True):
            lessons.learn(number, hidden[start:end].clone())  # a copy, so that no page keeps the whole pass alive
