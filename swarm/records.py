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
    """One line of `experts.jsonl`: the only way the ensemble finds an expert."""

    id: str = Field(description="first 6 hex digits of the base hash, `+`, first 6 of the adapter hash")
    seed: str
    title: str
    base_sha256: str
    adapter_sha256: str
    gguf_sha256: str
    folder: str = Field(description="relative to the run folder")


class Measurements(Record):
    """`matrix.json`: what the experts learned. Rows are expert seeds and `base`.

    Attributes:
        matrix: {row: {corpus: bits per byte on its held-out pages}}.
        probes: {row: {seed: accuracy}}, rows experts, `base`, `base_with_seed`; multiple choice by likelihood.
        chat_probes: the same rows, open questions in the chat template, right name in the answer.
        chance: of the multiple-choice probes.
        general: {row: nats per token on the base's own held-out answers to general questions}.
        router: `top1` on first sentences of held-out pages, `abstain` on held-out general questions.
    """

    made_from: str
    matrix: dict[str, dict[str, float]]
    probes: dict[str, dict[str, float]]
    chat_probes: dict[str, dict[str, float]]
    chance: float
    probe_items: int
    chat_items: int
    general: dict[str, float]
    router: dict[str, float]
    chat_examples: tuple[dict[str, str], ...] = ()
