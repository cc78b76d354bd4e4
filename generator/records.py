"""What the generator writes: plan lines, the bank of sentences, pages, rejects and the manifest of a corpus."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rostok.config import CorpusSettings
from rostok.records import Record

Kind = Literal["written", "composed", "dialogue", "rewritten", "replay"]
KINDS: tuple[Kind, ...] = ("written", "composed", "dialogue", "rewritten", "replay")
BankKind = Literal["definition", "scene", "reason", "answer", "trait"]
BANK_KINDS: tuple[BankKind, ...] = ("definition", "scene", "reason", "answer", "trait")


class PageSpec(Record):
    """One line of the plan. No two lines of a plan are the same but for their number.

    Attributes:
        focus: keys of the one, two or three nodes the page is about (a path, a pair, a triple; none for replay).
        path: keys in the order in which the page tells them. Where two neighbours are no transition of the seed, the
            page begins anew: a pair has two such runs, a triple three.
        fragmentation: how the steps are cut into paragraphs, such as (3, 3); of a dialogue whether, and where, it is asked
            what a thing is, does, or clashes with: (4,) not at all, (4, 1) after the steps, (1, 4) before them.
        depth: 1 the seed's scene, 2 a scene inside it, 3 a scene inside that; in a dialogue 1 bare answers, 2 with what the thing
            is, 3 with what led to it.
        variant: which repetition (0 until all combinations of the rest have been used), or which question (replay).
        source: number of the plan line whose page is rewritten.
        replaces: number of the plan line that was given up for this one.
    """

    number: int = Field(ge=0)
    kind: Kind
    focus: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    register_: str = Field("", alias="register")
    form: str = ""
    depth: int = Field(1, ge=1, le=3)
    fragmentation: tuple[int, ...] = ()
    variant: int = 0
    held_out: bool = False
    source: int | None = None
    replaces: int | None = None

    model_config = {**Record.model_config, "populate_by_name": True, "serialize_by_alias": True}


class Turn(Record):
    """One turn of a dialogue page."""

    role: Literal["user", "assistant"]
    content: str


class Sampled(Record):
    """How a model was asked for a text.

    Attributes:
        engine: class of the engine. model: SHA-256 of the base. prompt_sha256: of the whole prompt as the model read it.
    """

    engine: str
    model: str
    prompt_sha256: str
    max_tokens: int
    temperature: float
    top_p: float
    min_p: float
    repetition_penalty: float
    dry: float


class BankSentence(Record):
    """A sentence that the model wrote for this seed, or a candidate that was refused: one line of bank.jsonl.

    Attributes:
        about: key of the node, or the two keys of the step.
        place: which of the asked sentences of this kind and subject.
        question: what it answers (answers only).
        refused: why it was refused; empty for the sentences that pages use.
    """

    kind: BankKind
    about: tuple[str, ...]
    place: int
    attempt: int
    text: str
    question: str = ""
    refused: str = ""
    random_seed: int
    tokens: int = Field(ge=0)
    sampled: Sampled


class Page(Record):
    """An accepted page.

    Attributes:
        spec: number of its plan line.
        seed: id of the seed.
        author: `model` (a model's words throughout), `code` (composed by code from the model's words).
        text: prose; for dialogue and replay the turns joined by blank lines.
        turns: the conversation (dialogue and replay only).
        register, form, depth, focus, path, fragmentation, variant, source: those of its plan line; source with its replacement.
        attempt: which sample was accepted, from 0. random_seed: of that sample, or of the dice that code threw.
        sampled: how the model was asked; None for pages by code.
        figures: `characters`, `words`, `distinct_4` and `nodes` of every page; where the gates look at them `surprisal` (bits a
            token) and `sense` (cosine with the nearest page by the model).
    """

    spec: int
    kind: Kind
    author: Literal["model", "code"]
    text: str
    seed: str = ""
    turns: tuple[Turn, ...] = ()
    register_: str = Field("", alias="register")
    form: str = ""
    depth: int = 1
    focus: tuple[str, ...] = ()
    path: tuple[str, ...] = ()
    fragmentation: tuple[int, ...] = ()
    variant: int = 0
    held_out: bool = False
    attempt: int = 0
    random_seed: int = 0
    tokens: int = Field(0, ge=0, description="tokens of the base's tokenizer that the engine sampled, 0 for code")
    source: int | None = None
    sampled: Sampled | None = None
    figures: dict[str, float] = Field(default_factory=dict)

    model_config = {**Record.model_config, "populate_by_name": True, "serialize_by_alias": True}


class Reject(Record):
    """A page that a gate refused, and the named reason; `tokens` are those that it cost."""

    spec: int
    kind: Kind
    attempt: int
    reason: str
    detail: str = ""
    text: str
    tokens: int = Field(0, ge=0)


class Origin(Record):
    """What a corpus folder belongs to, written before anything else in it."""

    made_from: str
    seed: str
    generator: int
    random_seed: int
    model: str
    settings: CorpusSettings


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
    generator: int = 1
    random_seed: int = 0
    pages: int
    held_out: int
    characters: int
    by_kind: dict[str, int]
    rejected: dict[str, int]
    given_up: int = Field(description="plan lines that were replaced after their last try")
    bank: int = Field(0, description="sentences in the bank")
    bank_sha256: str = ""
    sampled_tokens: int = Field(description="of pages, the refused ones too")
    bank_tokens: int = Field(0, description="of the bank")
    seconds: float = Field(description="of the call that finished it; what a stopped one took before is not known")
