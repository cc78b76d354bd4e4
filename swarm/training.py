"""What is to be trained, how far it is, and what came of it: the records that the trainers share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rostok.config import TrainingSettings
from rostok.records import digest
from rostok.swarm.lora import Adapter
from rostok.swarm.records import LossPoint

if TYPE_CHECKING:
    from torch import Tensor

How = Literal["done", "early stop", "stopped", "not finite"]


@dataclass(frozen=True)
class Start:
    """An adapter that others begin from: its matrices under PEFT's names, and the hash of its file."""

    tensors: Mapping[str, Tensor]
    sha256: str


@dataclass(frozen=True)
class Job:
    """One adapter to train.

    Attributes:
        name: what it is called, once in a trainer.
        pages: token ids; a page is never mixed with another.
        settings: rank, rate, schedule, clip and so on; `together` and `trainer` are not looked at.
        random_seed: of the first matrices and of the order of the pages.
        contexts: token ids that the teacher reads before each page, none of them for nothing; looked at when the objective
            has a teacher (`rostok.swarm.teacher.contexts` makes them of the seed's card).
        start: the adapter that it begins from, of the same rank, scale and layers; None begins with matrices that change
            nothing yet.
    """

    name: str
    pages: Sequence[Sequence[int]]
    settings: TrainingSettings
    random_seed: int
    contexts: Sequence[Sequence[int]] = ()
    start: Start | None = None

    def identity(self) -> str:
        """Hash of everything that the adapter depends on, the base aside."""
        texts = {tuple(context): None for context in self.contexts} if self.settings.distils else {}
        place = {context: number for number, context in enumerate(texts)}
        taught = [[place[tuple(context)] for context in self.contexts], *texts] if texts else []
        begun = [self.start.sha256] if self.start is not None else []
        return digest(self.name, [list(page) for page in self.pages], self.settings.recipe(), self.random_seed, *taught, *begun)


@dataclass(frozen=True)
class Ended:
    """A job that left the trainer.

    Attributes:
        how: `done`; `early stop` (the loss is below `stop_loss`); `stopped` (asked to); `not finite` (evicted).
        reason: the same as a sentence.
        adapter: as it was after the last step that counted.
        tokens: trained on, all epochs.
        seconds: its share, by tokens, of the time of the steps that it took part in.
    """

    job: Job
    how: How
    reason: str
    adapter: Adapter
    steps: int
    tokens: int
    seconds: float
    curve: tuple[LossPoint, ...]


@dataclass(frozen=True)
class Step:
    """What one step did: jobs that took part, tokens they read, and jobs that left."""

    jobs: int
    tokens: int
    ended: tuple[Ended, ...]


@dataclass(frozen=True)
class State:
    """Everything that one job's further training depends on: `tensors` for safetensors, `values` for JSON."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


@dataclass(frozen=True)
class Trained:
    """An adapter that was trained and lies in `folder` as PEFT would have saved it."""

    job: Job
    folder: Path
    steps: int
    tokens: int
    seconds: float
    curve: tuple[LossPoint, ...]
    trainer: Literal["fused", "trl"]


@dataclass(frozen=True)
class Failed:
    """A job that could not be trained to its end, and why."""

    job: Job
    reason: str
