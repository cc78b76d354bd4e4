"""The school of a run over a tiny random base: trained once, by a worker, and what experts begin from."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rostok.config import Settings
from rostok.errors import DataError, RunError
from rostok.models import Base, find_base
from rostok.progress import Watch
from rostok.records import digest, file_digest, write_atomic
from rostok.runs import Run
from rostok.swarm import school
from rostok.swarm.checkpoint import FINISHED, Finished
from rostok.swarm.execute import execute
from rostok.swarm.grow import origin
from rostok.swarm.jobs import JobTable
from rostok.swarm.schedule import steps_of
from rostok.swarm.schooling import attend
from rostok.swarm.worker import RunDesk
from tests.swarm.tiny_run import make_base, make_run, orders

WEIGHTS = "adapter_model.safetensors"
SCHOOL = {"drills": 2, "pages": 20, "replay": 0.0}  # of random words nobody can make replay


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return find_base(str(make_base(tmp_path_factory.mktemp("tiny") / "base")))


@pytest.fixture(scope="module")
def template(base: Base, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with two corpora and a school."""
    run = make_run(tmp_path_factory.mktemp("template") / "run", base.source, seeds=2, school=SCHOOL,
                   training={"learning_rate": 1e-3},
                   models={"base": str(base.source), "threads": 1, "sequences": 4, "context": 512})
    assert taught(run, base) is not None
    return run.folder


@pytest.fixture
def run(template: Path, tmp_path: Path) -> Run:
    return Run(Path(shutil.copytree(template, tmp_path / "run")))


def taught(run: Run, base: Base, until: float | None = None, settings: Settings | None = None) -> school.School | None:
    with run.held("test"):
        return attend(run, base, settings or run.read().settings, Watch(quiet=True), until, time.time())


def test_it_is_trained_once_on_drills_alone(run: Run, base: Base) -> None:
    """Prevents: a school that knows a seed of the run, or that every night trains again."""
    found = school.read_school(run)
    assert found is not None
    settings = run.read().settings
    assert found.drills == tuple(seed.id for seed in school.drills(settings)) and found.settings.epochs == 1.0
    assert found.settings.learning_rate == settings.school.learning_rate != settings.training.learning_rate
    pages = school.pages(run, settings)
    assert found.pages == len(pages) and found.steps == steps_of(len(pages), found.settings)
    assert {page.seed for page in pages} == set(found.drills) and not any(page.held_out for page in pages)
    with JobTable(run.jobs) as table:
        assert [(row.name, row.state) for row in table.rows()] == [(school.NAME, "done")]
    stamp = (school.folder(run) / WEIGHTS).stat().st_mtime_ns
    assert taught(run, base) == found
    assert (school.folder(run) / WEIGHTS).stat().st_mtime_ns == stamp
    assert not run.part(school.NAME).exists()


def test_experts_begin_from_it_and_it_begins_from_nothing(run: Run, base: Base, tmp_path: Path) -> None:
    """Prevents: experts that are drawn afresh beside a school, or where it is missing, and are said to have begun from it."""
    desk = RunDesk(run)
    start = desk.start("s-0000")
    assert start is not None and desk.start(school.NAME) is None
    kept = load_file(school.folder(run) / WEIGHTS)
    assert start.tensors.keys() == kept.keys() and all(torch.equal(value, kept[name]) for name, value in start.tensors.items())
    alone = make_run(tmp_path / "alone", base.source, seeds=2)
    for one in (run, alone):
        with one.held("test"):
            outcome = execute(one, orders(one), (), one.read().settings)
        assert [row.state for row in outcome.rows] == ["done", "done"]
    assert file_digest(run.part("s-0000") / WEIGHTS) != file_digest(alone.part("s-0000") / WEIGHTS)
    shutil.rmtree(run.school)
    shutil.rmtree(run.part("s-0001"))
    with run.held("test"):
        outcome = execute(run, orders(run), (), run.read().settings)
    assert [row.state for row in outcome.rows] == ["done", "failed"]
    assert "the school that all experts begin from is not in" in outcome.rows[1].reason


def test_one_that_was_trained_and_not_yet_moved_is_moved(run: Run, base: Base) -> None:
    """Prevents: a kill between the last step and the move that costs the whole training."""
    found = school.read_school(run)
    assert found is not None
    part, marker = run.part(school.NAME), Finished(
        made_from=found.made_from, adapter_sha256=found.adapter_sha256, trainer="fused", reason="all steps are done",
        pages=found.pages, steps=found.steps, tokens=found.tokens, seconds=found.seconds, curve=found.curve).line()
    write_atomic(school.folder(run) / FINISHED, marker)  # killed after the move, before the marker of training went
    assert taught(run, base) == found
    shutil.move(school.folder(run), part)                # killed before the move, with school.json there and without
    for described in (True, False):
        if not described:
            shutil.move(school.folder(run), part)
            write_atomic(part / FINISHED, marker)
            (part / "school.json").unlink()
        stamp = (part / WEIGHTS).stat().st_mtime_ns
        assert taught(run, base) == found
        assert (school.folder(run) / WEIGHTS).stat().st_mtime_ns == stamp
        assert not (school.folder(run) / FINISHED).exists() and not part.exists()


def test_trained_again_it_is_the_same(run: Run, base: Base) -> None:
    """Prevents: experts that fit no school any more because somebody deleted its folder."""
    found = school.read_school(run)
    shutil.rmtree(run.school)
    again = taught(run, base)
    assert again is not None and found is not None and again.adapter_sha256 == found.adapter_sha256


def test_another_recipe_or_a_changed_file_is_refused(run: Run, base: Base) -> None:
    """Prevents: experts of one run that begin from different schools."""
    settings = run.read().settings
    for what, other in (
            ("school settings", {"school": settings.school.model_copy(update={"replay": 0.2})}),
            ("drills", {"school": settings.school.model_copy(update={"drills": 1})}),
            ("training settings", {"training": settings.training.model_copy(update={"rank": 8})})):
        with pytest.raises(DataError, match=f"holds a school of other {what} than asked for now"):
            taught(run, base, settings=settings.model_copy(update=other))
    with pytest.raises(RunError, match=r"setting 'training\.rank' is 8 now, but what lies in .*school"):
        run.start(settings.model_copy(update={"training": settings.training.model_copy(update={"rank": 8})}))
    other = settings.model_copy(update={"training": settings.training.model_copy(update={"learning_rate": 3e-3})})
    assert taught(run, base, settings=other) is not None  # of the experts, not of the school
    with (school.folder(run) / WEIGHTS).open("ab") as file:
        file.write(b" ")
    with pytest.raises(DataError, match="was changed since the school was trained"):
        taught(run, base)


def test_a_school_that_does_not_fit_waits(base: Base, tmp_path: Path) -> None:
    """Prevents: a night that ends late because its first job is not one of its experts."""
    run = make_run(tmp_path / "run", base.source, seeds=1, school=SCHOOL,
                   models={"base": str(base.source), "threads": 1, "sequences": 4, "context": 512})
    assert taught(run, base, until=time.time() + 0.5) is None
    assert school.read_school(run) is None
    assert [path.name for path in run.school.iterdir()] == ["corpora"]


def test_an_expert_depends_on_its_school() -> None:
    """Prevents: an expert that is taken for finished though it began from another school; and old ones that are not."""
    from rostok.generator.records import Manifest

    manifest = Manifest(seed="s-1", title="one", made_from="0" * 64, pages_sha256="1" * 64, settings=Settings().corpus,
                        model="0" * 64, rostok="0.1.0", pages=1, held_out=0, characters=1, by_kind={}, rejected={}, given_up=0,
                        sampled_tokens=0, seconds=0.0)
    base, settings = find_base("embedded"), Settings()
    before = digest(base.sha256, manifest.pages_sha256, settings.training.recipe(), settings.random_seed, 2)
    assert origin(base, manifest, settings) == before  # as they were named before there was a school
    assert len({origin(base, manifest, settings, taught) for taught in ("", "a", "b")}) == 3
