"""A draft on its way through the agents, and what they share while they work on it."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from rostok.agents.language import Language
from rostok.config import AuthorSettings
from rostok.embedder import Embedder
from rostok.engines.protocol import Engine, Message, Request, Sampling
from rostok.records import stable_seed
from rostok.seeds.library import Library
from rostok.seeds.record import Seed

Draft = dict[str, Any]  # plain values only: it lies in checkpoints.sqlite


@dataclass(frozen=True)
class Desk:
    """What the agents share: the model, the embedder, the library so far, and how hard to try."""

    engine: Engine
    embedder: Embedder
    library: Library
    settings: AuthorSettings
    theme: str
    random_seed: int
    model_sha256: str
    language: Language
    _read: dict[int, list[Seed]] = field(default_factory=dict, repr=False, compare=False)

    def admitted(self) -> list[Seed]:
        """The seeds of the library; the file only ever grows, so it is read again when its size has changed."""
        size = self.library.path.stat().st_size if self.library.path.exists() else 0
        if size not in self._read:
            self._read.clear()
            self._read[size] = self.library.seeds()
        return self._read[size]

    def dice(self, draft: Draft, *parts: object) -> random.Random:
        """Dice of this draft and purpose: the same in every run with this random seed."""
        return random.Random(stable_seed(self.random_seed, draft["place"], draft["attempt"], *map(str, parts)))

    def is_common(self, word: str) -> bool:
        """One token of the base: a word it has met often (with two, "aye yacht" and "araft ship" pass)."""
        return len(self.engine.tokenize(" " + word)) - int(self.engine.adds_bos) == 1

    def theme_pairs(self) -> set[str]:
        """Two words that stand side by side in the theme: too near for a place or a node of it."""
        return {f"{a} {b}" for a, b in pairwise(self.language.words(self.theme))}


@dataclass(frozen=True)
class Blank:
    """One text that the model is to write.

    Attributes:
        key: what it is, within its field.
        prompt: said to the model; raw, or as the user's words in the chat template.
        start: how the text begins; the model goes on from there.
        count: candidates.
    """

    key: str
    prompt: str
    sampling: Sampling
    count: int
    start: str = ""
    raw: bool = False
    grammar: str | None = None

    def requests(self, desk: Desk, draft: Draft, name: str) -> list[Request]:
        """One request per candidate, each with dice of its own."""
        raw = desk.engine.template.clean(self.prompt)  # a theme may hold control tokens
        return [
            Request(() if self.raw else (Message("user", self.prompt),), self.sampling,
                    prefill=raw + self.start if self.raw else self.start, grammar=self.grammar,
                    seed=stable_seed(desk.random_seed, draft["place"], draft["attempt"], name, draft["round"], self.key, number))
            for number in range(self.count)]


@dataclass(frozen=True)
class Field:
    """A part of the draft: whose it is, what is asked of the model for it, and what is made of the answers.

    Attributes:
        role: the agent that asks for it.
        blanks: what is still to be written.
        fill: checks and chooses; returns the draft with what passed, and whether the field is whole. Counts refusals by reason.
        rounds: fresh samples before the draft is given up, or, when `optional`, goes on without this field.
    """

    name: str
    role: str
    blanks: Callable[[Desk, Draft], list[Blank]]
    fill: Callable[[Desk, Draft, list[list[str]], Counter[str]], tuple[Draft, bool]]
    rounds: int = 6
    optional: bool = False


def passed(texts: list[str], problem: Callable[[str], str | None], counts: Counter[str]) -> list[str]:
    """The different texts that pass a check; the others are counted by reason."""
    found = []
    for text in dict.fromkeys(text.strip() for text in texts):
        reason = problem(text)
        if reason is None:
            found.append(text)
        else:
            counts[reason] += 1
    return found


def still_open(desk: Desk, draft: Draft, name: str) -> list[int]:
    """Indices of the nodes whose field of this name is still blank."""
    done = draft.get(name, {})
    return [index for index in range(desk.settings.nodes) if str(index) not in done]
