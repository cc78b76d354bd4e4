"""What the generator writes: plan lines, pages, rejects and the manifest of a corpus."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rostok.config import CorpusSettings
from rostok.records import Record

Kind = Literal["written", "composed", "dialogue", "replay"]
KINDS: tuple[Kind, ...] = ("written", "composed", "dialogue", "replay")


class PageSpec(Record):
    """One line of the plan. No two lines of a plan are the same but for their number.

    Attributes:
        path: keys of the nodes the page is about, in order (empty for replay).
        fragmentation: how the path is cut into paragraphs, such as (3, 3).
        depth: 1 the seed's scene, 2 a scene inside it, 3 a scene inside that.
        variant: which wordings (composed, dialogue) or which question (replay).
    """

    number: int = Field(ge=0)
    kind: Kind
    path: tuple[str, ...] = ()
    register_: str = Field("", alias="register")
    form: str = ""
    depth: int = Field(1, ge=1, le=3)
    fragmentation: tuple[int, ...] = ()
    variant: int = 0
    held_out: bool = False

    model_config = {**Record.model_config, "populate_by_name": True, "serialize_by_alias": True}


class Turn(Record):
    """One turn of a dialogue page."""

    role: Literal["user", "assistant"]
    content: str


class Page(Record):
    """An accepted page.

    Attributes:
        spec: number of its plan line.
        author: `model` (a model's words throughout), `code` (composed by code from the model's words).
        text: prose; for dialogue and replay the turns joined by blank lines.
        turns: the conversation (dialogue and replay only).
        attempt: which sample was accepted, from 0.
    """

    spec: int
    kind: Kind
    author: Literal["model", "code"]
    text: str
    turns: tuple[Turn, ...] = ()
    register_: str = Field("", alias="register")
    path: tuple[str, ...] = ()
    held_out: bool = False
    attempt: int = 0
    random_seed: int = 0
    tokens: int = Field(0, ge=0, description="tokens of the base's tokenizer that the engine sampled, 0 for code")

    model_config = {**Record.model_config, "populate_by_name": True, "serialize_by_alias": True}


class Reject(Record):
    """A page that a gate refused, and the named reason."""

    spec: int
    kind: Kind
    attempt: int
    reason: str
    detail: str = ""
    text: str


class Manifest(Record):
    """Marker of a finished corpus, written last.

    `made_from` is the hash of seed, settings, model and generator version; `pages_sha256` of pages.jsonl.
    """

    seed: str
    title: str
    made_from: str
    pages_sha256: str
    settings: CorpusSettings
    model: str
    rostok: str
    pages: int
    held_out: int
    characters: int
    by_kind: dict[str, int]
    rejected: dict[str, int]
    given_up: int = Field(description="plan lines that were replaced after their last try")
    sampled_tokens: int
    seconds: float
