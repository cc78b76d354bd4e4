"""What the page and the shells beside the server may send below /api, read strictly."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rostok.config import Mixing
from rostok.ensemble.serve.words import Words

Question = Annotated[str, Field(max_length=100_000)]


class Ask(Words):
    """A question in a conversation. `again`: replace the last turn; without a question by another answer to its own."""

    question: Question = ""
    pin: str | None = Field(None, max_length=200)
    mixing: Mixing | None = None
    again: bool = False
    retrieval: bool | None = None


class Pinning(Words):
    """Whom somebody wants to answer."""

    pin: str | None = Field(max_length=200)


class Said(Words):
    """A message of a conversation that the caller keeps."""

    role: Literal["system", "user", "assistant"]
    content: Question


class Drawing(Words):
    """How tokens are drawn: see `Sampling`."""

    max_tokens: int = Field(ge=1)
    temperature: float = Field(ge=0, le=2)
    min_p: float = Field(ge=0, le=1)
    top_p: float = Field(gt=0, le=1)
    repetition_penalty: float = Field(ge=0.5, le=2)
    dry: float = Field(ge=0, le=10)
    stop: list[str] = Field(max_length=16)


class Replying(Words):
    """The last of these messages is answered; nothing is kept."""

    messages: list[Said] = Field(min_length=1, max_length=500)
    pin: str | None = Field(None, max_length=200)
    mixing: Mixing | None = None
    retrieval: bool | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    sampling: Drawing | None = None


class Comparing(Words):
    """A question to the base and to the `count` experts that lie nearest."""

    question: Question
    count: int = Field(2, ge=1, le=4)


class Routing(Words):
    """A question that is only to be routed."""

    question: Question


class Forking(Words):
    """A conversation that goes on differently after so many turns (a question and its answer are one)."""

    upto: int = Field(ge=1)


class Naming(Words):
    """A conversation's title; an empty one names it after its first question."""

    title: str = Field(max_length=200)


class Noting(Words):
    """Something to remember."""

    text: str = Field(max_length=100_000)


class Forgetting(Words):
    """What to forget: an id or words; a list holds ids alone."""

    what: Annotated[str, Field(min_length=1, max_length=4000)] | Annotated[list[str], Field(min_length=1, max_length=10_000)]


class Recalling(Words):
    """What bears on a question."""

    question: Question
    count: int = Field(5, ge=1, le=50)
