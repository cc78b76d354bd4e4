"""Train the school of a run: `attend(run, base, settings, watch, …)`, from nothing to `school/adapter/`.

The drills' corpora first, then one job for a worker, as for an expert, with checkpoints; killed and called again it goes on.
"""

from __future__ import annotations

import os

from rostok import __version__
from rostok.config import Settings
from rostok.engines.open import open_engine
from rostok.errors import DataError, writing
from rostok.generator.corpus import build
from rostok.generator.folder import finished, origin
from rostok.generator.records import Manifest
from rostok.models import Base
from rostok.progress import Watch
from rostok.records import digest, read_record, write_atomic
from rostok.runs import Run
from rostok.swarm import school
from rostok.swarm.checkpoint import FINISHED, trained
from rostok.swarm.deadline import Deadline
from rostok.swarm.execute import execute
from rostok.swarm.jobs import Order
from rostok.swarm.schedule import CHARACTERS_OF_A_TOKEN, steps_of
from rostok.swarm.school import School

_SCHOOL = 1  # raise when the same settings would give another school


def attend(run: Run, base: Base, settings: Settings, watch: Watch, until: float | None, since: float) -> School | None:
    """The school of a run, trained now where it is not there yet. Call with the run held.

    Args:
        until: `time.time()` at which training has to be over.

    Returns:
        None where it does not fit until then; what was begun is kept in checkpoints.

    Raises:
        DataError: its files were changed, were made from something else, or it cannot be trained.
        KeyboardInterrupt: somebody asked for a stop; checkpoints have been written.
    """
    recipe, drills = school.settings_of(settings).training, tuple(seed.id for seed in school.drills(settings))
    found = school.read_school(run)
    if found is not None:
        for what, had, has in (("base", found.base_sha256, base.sha256), ("drills", found.drills, drills),
                               ("school settings", found.written, settings.school),
                               ("training settings", found.settings.recipe(), recipe.recipe())):
            if had != has:
                raise DataError(f"{run.school} holds a school of other {what} than asked for now. Give those of before, use a "
                                f"new run folder, or delete {run.school} and {run.experts} to train everything again.")
        return found
    _write_drills(run, base, settings, watch)
    made_from, pages = _origin(run, base, settings), school.pages(run, settings)
    order = Order(name=school.NAME, title="the school", made_from=made_from, steps=steps_of(len(pages), recipe),
                  total=round(sum(len(page.text) for page in pages) / CHARACTERS_OF_A_TOKEN))
    part = run.part(school.NAME)
    watch.start("train the school", order.steps, "steps")
    try:
        outcome = execute(run, [order], (), settings, tell=watch.note, on_step=watch.advance,
                          until=None if until is None else Deadline(until), since=since)
    finally:
        watch.finish()
    if outcome.stopped:
        raise KeyboardInterrupt
    done = trained(part, made_from)
    if done is None:
        if outcome.left:
            return None
        reason = outcome.rows[0].reason.rstrip(".")
        raise DataError(f"the school could not be trained: {reason}. Mend that; or let every expert begin from nothing: delete "
                        f"{run.school} and add --set school.drills=0 --set training.learning_rate=2e-3")
    with writing(part):
        made = School(made_from=made_from, base_sha256=base.sha256, adapter_sha256=done.adapter_sha256,
                      drills=drills, written=settings.school, settings=recipe, rostok=__version__,
                      pages=done.pages, tokens=done.tokens, steps=done.steps, seconds=done.seconds, curve=done.curve)
        write_atomic(part / "school.json", made.model_dump_json(indent=1) + "\n")
        os.replace(part, school.folder(run))
        (school.folder(run) / FINISHED).unlink()
    return made


def _write_drills(run: Run, base: Base, settings: Settings, watch: Watch) -> None:
    """The drills' corpora, as far as they are missing or damaged."""
    wanted, corpora = school.corpus(settings), run.school / "corpora"
    missing = [seed for seed in school.drills(settings)
               if finished(corpora / seed.id, origin(seed, wanted, settings.random_seed, base.sha256)) is None]
    if not missing:
        return
    watch.start("write drills", wanted.pages * len(missing), "pages")
    with open_engine(base, settings.models, tell=watch.note) as engine:
        for seed in missing:
            build(seed, corpora / seed.id, wanted, settings.random_seed, engine, base.sha256,
                  on_page=lambda kind, tokens: watch.advance(1, tokens), tell=watch.note)
    watch.finish()


def _origin(run: Run, base: Base, settings: Settings) -> str:
    """Hash of everything that the school depends on."""
    manifests = [read_record(run.school / "corpora" / seed.id / "manifest.json", Manifest) for seed in school.drills(settings)]
    return digest(base.sha256, [manifest.pages_sha256 for manifest in manifests], school.settings_of(settings).training.recipe(),
                  settings.random_seed, _SCHOOL)
