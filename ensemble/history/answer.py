"""What an answer is, and what is kept of a turn. Records that the terminal, the page and the store share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rostok.ensemble.recall.memory import Remembered
from rostok.ensemble.routing.router import Route
from rostok.records import Record, digest

BASE = "base"


class Answer(Record):
    """What came back.

    Attributes:
        id: of the turn; "" for an answer that belongs to no conversation.
        seed: of the expert that spoke first, None for the base.
        experts: seeds of all who spoke; none for the base.
        title: of that seed, or `base`.
        route: where the question was sent, with the evidence.
        memories: the texts that stood in the prompt.
        prompt_tokens, tokens: read and drawn, by all who spoke together.
        seconds: from the question to the last word.
        finish: `stop`, `length` when it was cut at the longest an answer may be, `stopped` when the person stopped it.
        note: why somebody else spoke than the router wanted, or "".
    """

    text: str
    id: str = ""
    seed: str | None
    experts: tuple[str, ...]
    title: str
    route: Route
    memories: tuple[Remembered, ...]
    prompt_tokens: int
    tokens: int
    seconds: float
    finish: str
    note: str = ""

    @property
    def score(self) -> float:
        """See `Route`."""
        return self.route.score

    @property
    def threshold(self) -> float:
        """See `Route`."""
        return self.route.threshold


class Turn(Record):
    """A question and its answer, as they are kept.

    Attributes:
        number: 0 for the first turn of the conversation.
        time: seconds since 1970.
        speaker: the title of who answered.
        answer: the whole answer; None where an older Rostok kept the words alone.
    """

    id: str
    number: int
    time: float
    question: str
    text: str
    speaker: str
    answer: Answer | None = None


class Conversation(Record):
    """A conversation in a list. `created` and `updated` are seconds since 1970, `turns` is how many it has."""

    id: str
    title: str
    created: float
    updated: float
    turns: int


class Transcript(Conversation):
    """A conversation with all that was said: one line of an export."""

    said: tuple[Turn, ...]


class Hit(Record):
    """A turn that a search has found. In `snippet` the words looked for stand between ⟦ and ⟧."""

    thread: str
    title: str
    turn: str
    number: int
    snippet: str


class Note(Record):
    """What the user asked to be remembered, in every conversation. `time` in seconds since 1970."""

    id: str
    time: float
    text: str


def turn_of(said: Mapping[str, Any], answered: Mapping[str, Any], number: int, thread: str) -> Turn:
    """The turn in two entries of a thread. Those of an older Rostok have no ids: they get the one that they always had."""
    return Turn(id=str(said.get("id") or f"{thread}:{number}"), number=number, time=float(said.get("time") or 0.0),
                question=str(said["content"]), text=str(answered["content"]), speaker=str(answered.get("title", "")))


def hue(seed: str | None) -> int | None:
    """The colour of an expert, the same everywhere and for ever: a hue in degrees. The base has none."""
    return None if seed is None else int(digest(seed)[:8], 16) % 360
