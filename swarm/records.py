"""What the swarm writes beside an adapter, and the registry through which the ensemble finds experts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rostok.config import TrainingSettings
from rostok.records import Record


class LossPoint(Record):
    """Training loss (nats per token) and learning rate at one optimizer step."""

    step: int
    loss: float
    learning_rate: float


class Figures(Record):
    """`experts/<seed>/figures.json`, the marker of a finished expert.

    `made_from` hashes corpus, base and training settings; `adapter_sha256` and `gguf_sha256` the two adapter files.
    """

    seed: str
    title: str
    made_from: str
    base_sha256: str
    adapter_sha256: str
    gguf_sha256: str
    corpus_sha256: str
    school_sha256: str = Field("", description="of the adapter that it began from; empty for nothing")
    settings: TrainingSettings
    trainer: Literal["fused", "trl"] = Field("trl", description="which one trained it; the only one there was, where not told")
    rostok: str
    pages: int
    tokens: int = Field(description="tokens trained on, all epochs, padding left out")
    steps: int
    seconds: float
    held_out_loss_before: float
    held_out_loss_after: float
    curve: tuple[LossPoint, ...]


class Expert(Record):
    """One line of `experts.jsonl`: the only way the ensemble finds an expert.

    An expert was grown from one seed, or spliced from other experts; a splice has a name of its own where a grown one has
    its seed's id, and says of which experts and of which seeds it is.
    """

    id: str = Field(description="first 6 hex digits of the base hash, `+`, first 6 of the adapter hash")
    seed: str = Field(description="that it was grown from; of a splice its name, `x-` and 12 hex digits")
    title: str
    base_sha256: str
    adapter_sha256: str
    gguf_sha256: str
    folder: str = Field(description="relative to the run folder")
    school_sha256: str = Field("", description="that it has in it once: of the adapter it began from; empty for none")
    operator: Literal["", "merge", "split"] = Field("", description="that made a splice")
    parents: tuple[str, ...] = Field((), description="ids of the experts that a splice was made of")
    of_seeds: tuple[str, ...] = Field((), description="that the parents of a splice were grown from")

    @property
    def seeds(self) -> tuple[str, ...]:
        """Ids of the seeds that it should know."""
        return self.of_seeds if self.operator else (self.seed,)


class Measurements(Record):
    """`matrix.json`: what the experts learned. Rows are expert seeds and `base`.

    Attributes:
        matrix: {row: {corpus: bits per byte on its held-out pages}}.
        probes: {row: {seed: accuracy}}, rows experts, `base`, `base_with_seed`; multiple choice by likelihood.
        structure_probes: {kind: the same rows, and `chance`} for `operation` (which leads from one node to the next) and
            `contradiction` (which node contradicts which); every expert on its own seed.
        chat_probes: the same rows, open questions in the chat template, right name in the answer.
        chance: of the multiple-choice probes.
        general: {row: nats per token on the base's own held-out answers to general questions}.
        router: `top1` on first sentences of held-out pages, `abstain` on held-out general questions.
        retrieval: what reading pages adds to the ensemble's answers: shares of right answers `with`, `without`, of `items`.
    """

    made_from: str
    matrix: dict[str, dict[str, float]]
    probes: dict[str, dict[str, float]]
    chat_probes: dict[str, dict[str, float]]
    chance: float
    probe_items: int
    chat_items: int
    structure_probes: dict[str, dict[str, dict[str, float]]] = {}
    general: dict[str, float]
    router: dict[str, float]
    retrieval: dict[str, float] = {}
    chat_examples: tuple[dict[str, str], ...] = ()


class Parent(Record):
    """An expert that a splice was made of, as it was then."""

    id: str
    seed: str
    title: str
    adapter_sha256: str
    weight: float = 1.0


class Splice(Record):
    """`experts/x-…/splice.json`, the marker of a finished splice.

    `made_from` hashes the parents' adapters, base, operator and options; the name holds its first 12 digits.
    """

    name: str
    title: str
    operator: Literal["merge", "split"]
    part: Literal["whole", "leading", "trailing"] = Field("whole", description="of a split")
    method: Literal["sum", "ties", "dare"] = Field("sum", description="of a merge")
    density: float | None = Field(None, description="share of the numbers that TIES or DARE keeps")
    random_seed: int | None = Field(None, description="of DARE")
    parents: tuple[Parent, ...]
    of_seeds: tuple[str, ...]
    school_sha256: str = Field("", description="that both parents began from, and that is in the sum once")
    rank: int
    kept: float = Field(description="share of the squared singular values, over all modules, that is in this adapter")
    made_from: str
    base_sha256: str
    adapter_sha256: str
    gguf_sha256: str
    rostok: str

    def expert(self) -> Expert:
        """Its line in experts.jsonl."""
        return Expert(id=f"{self.base_sha256[:6]}+{self.adapter_sha256[:6]}", seed=self.name, title=self.title,
                      base_sha256=self.base_sha256, adapter_sha256=self.adapter_sha256, gguf_sha256=self.gguf_sha256,
                      folder=f"experts/{self.name}", operator=self.operator, parents=tuple(one.id for one in self.parents),
                      of_seeds=self.of_seeds, school_sha256=self.school_sha256)


class Score(Record):
    """What one model scored beside a splice. Figures by seed, as in `Measurements`.

    Attributes:
        role: `base`, `parent`, `splice` or `fresh` (trained on the corpora of all parents, with the splice's rank).
        name: the expert's name in the registry, `base` or `fresh`.
    """

    role: Literal["base", "parent", "splice", "fresh"]
    name: str
    title: str
    rank: int = 0
    probes: dict[str, float]
    chat_probes: dict[str, float] = {}
    bits_per_byte: dict[str, float]
    general: float | None = Field(None, description="nats per token on the base's own held-out general answers")


class Comparison(Record):
    """`experts/x-…/measured.json`: a splice beside its parents, the base and a freshly trained adapter.

    Attributes:
        items: multiple-choice probes by seed.
        chance: of them.
        chat_items: open questions by seed.
        fresh_seconds: that training the fresh adapter took; 0 where one of an earlier comparison was used.
    """

    made_from: str
    seeds: dict[str, str]
    items: dict[str, int]
    chat_items: dict[str, int]
    chance: float
    scores: tuple[Score, ...]
    fresh_tokens: int
    fresh_seconds: float
