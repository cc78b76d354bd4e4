"""What one unit of each kind of work takes: seconds, bytes and MiB, on one machine with one configuration.

`rostok.estimate.measure` finds a pace by doing a little of everything, `rostok.estimate.reckon` from a machine's figures;
`how` says which. `rostok.estimate.predict` multiplies it by how much there is to do.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from rostok.records import Record

StageName = Literal["author", "corpus", "swarm", "memory", "report"]
TYPICAL = (150,) * 64  # lengths of a batch by which an engine's rate is told
STRUCTURE = 1.2        # tokens of the probes of a seed's operations and contradictions, to those of its steps


class EnginePace(Record):
    """A batching engine: a step of all sequences costs `step_s`, each sequence in it `token_s` more."""

    open_s: float = Field(ge=0, description="from the model's file to the first request")
    step_s: float = Field(ge=0)
    token_s: float = Field(ge=0)
    request_s: float = Field(ge=0, description="a request's own prompt")
    sequences: int = Field(ge=1, description="completions in flight at once")

    def seconds(self, lengths: Sequence[int]) -> float:
        """Seconds for completions of so many tokens each, asked for at once and begun in this order."""
        return (self.step_s * steps(lengths, self.sequences) + self.token_s * sum(lengths) + self.request_s * len(lengths))

    def rate(self, lengths: Sequence[int] = TYPICAL) -> float:
        """Tokens per second over such a batch."""
        return sum(lengths) / max(self.seconds(lengths), 1e-9)


class AuthorPace(Record):
    """Seeds by the agents, failed drafts included."""

    fixed_s: float = Field(ge=0, description="engine and embedder opened")
    seed_s: float = Field(ge=0, description="of one admitted seed among very many; fewer side by side take longer")
    compare_s: float = Field(ge=0, description="to embed one admitted seed, as every new one does with all before it")


class CorpusPace(Record):
    """Pages of one seed.

    Attributes:
        bank_s: what is planned and written of a seed before its first page.
        by_model: share of the pages that the model writes.
        refused: share of the model's texts that the gates refuse.
        lengths: tokens of some of the model's texts.
        page_s: composing, gates and disk, of a page.
    """

    bank_s: float = Field(ge=0)
    by_model: float = Field(ge=0, le=1)
    refused: float = Field(ge=0, lt=1)
    lengths: tuple[int, ...] = Field(min_length=1)
    page_s: float = Field(ge=0)


class SwarmPace(Record):
    """Training and measuring.

    Attributes:
        load_s: the base brought into memory. start_s: a worker's start, before it has done the same.
        page_tokens: of a page as an expert reads it.
        together, step_tokens: experts and tokens in the step that was timed.
        step_s, token_s: of a training step, and of a token in it.
        keep_s: to save, convert and register an expert, and to put it on and off for measuring.
        probe_s: multiple choice about one seed asked of an expert. read_s: one held-out page read by it. The base is told to
            take as long, though it takes a sixth less. card_s: multiple choice of the base with the seed in its context.
        general_s: the general answers read by one model.
        ask_s: the open questions about one seed, of its expert, the base, and the base with the seed.
    """

    load_s: float = Field(ge=0)
    start_s: float = Field(ge=0)
    page_tokens: float = Field(gt=0)
    together: int = Field(ge=1)
    step_tokens: float = Field(gt=0)
    step_s: float = Field(ge=0)
    token_s: float = Field(gt=0)
    keep_s: float = Field(ge=0)
    probe_s: float = Field(ge=0)
    read_s: float = Field(ge=0)
    card_s: float = Field(ge=0)
    general_s: float = Field(ge=0)
    ask_s: float = Field(ge=0)


class MemoryPace(Record):
    """The store of pages, the router's calibration, and the report with the question that closes a run."""

    fixed_s: float = Field(ge=0)
    remember_s: float = Field(ge=0, description="to embed and store one page")
    question_s: float = Field(ge=0, description="to route one question")
    report_s: float = Field(ge=0, description="report, closing question, and the program's own start")


class Sizes(Record):
    """Bytes on disk."""

    seed: float = Field(ge=0)
    corpus: float = Field(ge=0, description="what a corpus has besides its pages: the bank, the card, the manifest")
    page: float = Field(ge=0, description="with its share of plan and rejects")
    expert: float = Field(ge=0)
    remembered: float = Field(ge=0, description="of a page in the store")
    fixed: float = Field(ge=0, description="of an empty store, the report, and so on")


class Peaks(Record):
    """MiB of memory while a stage works, and what grows with the size of the run."""

    author: float = Field(ge=0)
    corpus: float = Field(ge=0)
    swarm: float = Field(ge=0, description="without any adapter in training")
    adapter: float = Field(ge=0, description="of each adapter that is trained in the same step")
    memory: float = Field(ge=0)
    remembered: float = Field(ge=0, description="of each page in the store")
    report: float = Field(ge=0)


class Pace(Record):
    """Everything that a prediction multiplies.

    Attributes:
        how: `measured` on this machine, or `reckoned` from the figures of another.
        machine: which.
        model: the base.
        notes: sentences about where figures come from.
        seconds: that the measuring took.
        spread: by how much a reckoned time may be shorter and longer, as factors; (1, 1) when measured.
        room_mib, room_bytes: memory that there is, and disk that is free where the run lies; 0 where nobody knows.
        lying: bytes of each stage that the run holds already; empty where no run was named.
    """

    how: Literal["measured", "reckoned"]
    machine: str
    model: str
    engine: EnginePace
    author: AuthorPace
    corpus: CorpusPace
    swarm: SwarmPace
    memory: MemoryPace
    sizes: Sizes
    peaks: Peaks
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    spread: tuple[float, float] = (1.0, 1.0)
    room_mib: float = 0.0
    room_bytes: float = 0.0
    lying: dict[StageName, float] = Field(default_factory=dict)


def steps(lengths: Sequence[int], sequences: int) -> int:
    """Steps of a batching engine until all are done: who comes takes the place that is free first."""
    if len(lengths) <= sequences:
        return max(lengths, default=0)
    ends = list(lengths[:sequences])
    heapq.heapify(ends)
    for length in lengths[sequences:]:
        heapq.heapreplace(ends, ends[0] + length)
    return max(ends)
