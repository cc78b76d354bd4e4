"""The school: one adapter that has learned from drills how such pages are asked and answered; every expert begins from it.

    school/corpora/<drill>/   a corpus of each drill, made by `rostok.generator` without a model but for the replay
    school/adapter/           the adapter as PEFT has it, and school.json, the marker, written last

What the corpora of all seeds have in common, the forms of telling, asking and answering, is learned once and not by every
expert again; what an expert then learns is its seed. Drills are seeds of no meaning that code makes, so that the school knows
nothing of any seed of the run: docs/experiments.md has the figures with it and without. `rostok.swarm.schooling` trains it.
"""

from __future__ import annotations

from pathlib import Path

from rostok.config import CorpusSettings, Settings, Shares, TrainingSettings
from rostok.errors import DataError
from rostok.generator.drills import drill
from rostok.generator.folder import training_pages
from rostok.generator.records import Page
from rostok.records import Record, file_digest, read_record
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm.records import LossPoint
from rostok.swarm.training import Start

NAME = "school"  # of its job; seeds have ids that begin with s-


class School(Record):
    """`school/adapter/school.json`, the marker of a school that is trained. `made_from` hashes base, drills and settings."""

    made_from: str
    base_sha256: str
    adapter_sha256: str
    drills: tuple[str, ...]
    settings: TrainingSettings
    rostok: str
    pages: int
    tokens: int
    steps: int
    seconds: float
    curve: tuple[LossPoint, ...]


def read_school(run: Run) -> School | None:
    """The school of a run that is trained, None when there is none.

    Raises:
        DataError: its adapter was changed.
    """
    place = folder(run)
    if not (place / "school.json").is_file():
        return None
    school = read_record(place / "school.json", School)
    weights = place / "adapter_model.safetensors"
    if not weights.is_file() or file_digest(weights) != school.adapter_sha256:
        raise DataError(f"{weights} was changed since the school was trained (its hash is not that of school.json). Restore it, "
                        f"or delete {place} and {run.experts} to train everything again.")
    return school


def start(run: Run, training: TrainingSettings) -> Start | None:
    """What adapters of this rank and scale begin from in a run; None where there is no school. Raises as `read_school` does.

    Experts have the rank of the school, and take its matrices as they are. One of a lower rank takes the best approximation,
    one of a higher rank the same terms and fresh directions.
    """
    from safetensors.torch import load_file

    school = read_school(run)
    if school is None:
        return None
    if (training.rank, training.alpha) == (school.settings.rank, school.settings.alpha):
        return Start(load_file(folder(run) / "adapter_model.safetensors"), school.adapter_sha256)
    from rostok.swarm import lowrank
    from rostok.swarm.adapters import named, read_adapter

    whole = read_adapter(folder(run))
    fitted = (lowrank.cut(whole, 0, training.rank)[0] if training.rank <= whole.rank
              else lowrank.widen(whole, training.rank, random_seed=0))
    return Start(named(fitted, training.alpha / training.rank), school.adapter_sha256)


def folder(run: Run) -> Path:
    """Where its adapter lies."""
    return run.school / "adapter"


def pages(run: Run, settings: Settings) -> list[Page]:
    """What the school reads, drill by drill."""
    return [page for seed in drills(settings) for page in training_pages(run.school / "corpora" / seed.id)[0]]


def drills(settings: Settings) -> list[Seed]:
    """The seeds that it is taught with."""
    return [drill(place) for place in range(settings.school.drills)]


def settings_of(settings: Settings) -> Settings:
    """The run's settings as the school is trained with them: its own rate, next-token loss, every page once."""
    training = settings.training.model_copy(update={
        "learning_rate": settings.school.learning_rate, "objective": "next-token", "stop_loss": 0.0, "epochs": 1.0})
    return settings.model_copy(update={"training": training})


def corpus(settings: Settings) -> CorpusSettings:
    """What is written about a drill: pages by code, half of them dialogues, and replay."""
    half = (1 - settings.school.replay) / 2
    shares = Shares(written=0, composed=half, dialogue=half, rewritten=0, replay=settings.school.replay)
    return settings.corpus.model_copy(update={"pages": settings.school.pages, "shares": shares, "bank": 0})
