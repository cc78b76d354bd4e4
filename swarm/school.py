"""The school: one adapter that has learned from drills how such pages are asked and answered; every expert begins from it.

    school/corpora/<drill>/   a corpus of each drill, made by `rostok.generator` without a model but for the replay
    school/adapter/           the adapter as PEFT has it, and school.json, the marker, written last

What the corpora of all seeds have in common, the forms of telling, asking and answering, is learned once and not by every
expert again; what an expert then learns is its seed. Drills are seeds of no meaning that code makes, so that the school knows
nothing of any seed of the run: docs/experiments.md has the figures with it and without. `rostok.swarm.schooling` trains it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rostok.config import CorpusSettings, SchoolSettings, Settings, Shares, TrainingSettings
from rostok.errors import DataError
from rostok.generator.drills import drill
from rostok.generator.folder import training_pages
from rostok.generator.records import Page
from rostok.records import Record, file_digest, read_record
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm.records import Expert, LossPoint
from rostok.swarm.training import Start

if TYPE_CHECKING:
    from rostok.swarm.adapters import Adapter

NAME = "school"  # of its job; seeds have ids that begin with s-


class School(Record):
    """`school/adapter/school.json`, the marker of a trained school. `made_from` hashes base, pages and training settings."""

    made_from: str
    base_sha256: str
    adapter_sha256: str
    drills: tuple[str, ...]
    written: SchoolSettings
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


def start(run: Run, settings: Settings, training: TrainingSettings | None = None) -> Start | None:
    """What the adapters of a run begin from; None where the settings have no school.

    Experts have the rank of the school, and take its matrices as they are. One of a lower rank takes the best approximation,
    one of a higher rank the same terms and fresh directions.

    Args:
        training: of another adapter than an expert: its rank and scale.

    Raises:
        DataError: the school is missing or was changed.
    """
    from safetensors.torch import load_file

    if not settings.school.drills:
        return None
    school = _present(run)
    wanted = training or settings.training
    if (wanted.rank, wanted.alpha) == (school.settings.rank, school.settings.alpha):
        return Start(load_file(folder(run) / "adapter_model.safetensors"), school.adapter_sha256)
    from rostok.swarm import lowrank
    from rostok.swarm.adapters import named

    whole = terms(run, school.adapter_sha256)
    fitted = (lowrank.cut(whole, 0, wanted.rank)[0] if wanted.rank <= whole.rank
              else lowrank.widen(whole, wanted.rank, random_seed=0))
    return Start(named(fitted, wanted.alpha / wanted.rank), school.adapter_sha256)


def terms(run: Run, sha256: str) -> Adapter:
    """The school as the terms that it adds to the base.

    Raises:
        DataError: it is missing or was changed, or is another than the one of this hash.
    """
    from rostok.swarm.adapters import read_adapter

    if _present(run).adapter_sha256 != sha256:
        raise DataError(f"the experts began from another school than the one in {run.school}. Restore that folder, or delete "
                        f"it and {run.experts}, and train everything again.")
    return read_adapter(folder(run))


def common(run: Run, experts: Iterable[Expert]) -> Adapter | None:
    """What all of these experts began from, None where they did not begin from the same. Raises as `terms` does."""
    names = {expert.school_sha256 for expert in experts}
    return terms(run, names.pop()) if len(names) == 1 and "" not in names else None


def _present(run: Run) -> School:
    found = read_school(run)
    if found is None:
        raise DataError(f"the school that all experts begin from is not in {run.school}. Restore that folder, or delete "
                        f"{run.experts} and run: rostok swarm train {run.folder}")
    return found


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
