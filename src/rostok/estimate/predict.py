"""From a pace to time, disk and memory of every stage: `predict(settings, pace)`, and `books` for libraries of many sizes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice

from pydantic import Field

from rostok.config import Settings
from rostok.estimate.pace import Pace, StageName
from rostok.estimate.seeds import side_by_side
from rostok.records import Record

LIBRARIES = (1, 10, 100, 1000)  # books
BOOK_PAGES = 500

_WAVE = 512            # pages that a corpus asks for at once
_COMPARISONS = 4       # times that a draft's texts are compared with all admitted seeds: title, scene, admission, failed drafts
# MiB of a text that is embedded, 64 of them at once by each of the drafts side by side: 16 drafts stood at 5.1 GiB from 64
# seeds on, and no higher with 88; two drafts stand at 2.7 GiB.
_COMPARED_MIB, _EMBEDDED = 2.3, 64
_CHECKPOINTS = 1.02    # of the time of training, with the checkpoints that a worker writes
_CALIBRATION = 1300    # questions that the router learns from, is calibrated and measured on, held-out pages aside
_LESSONS = 5           # more of them for every seed
_READING = 24          # times that four answers of twenty tokens tell what reading pages adds


class Stage(Record):
    """What one stage takes."""

    name: StageName
    seconds: float = Field(ge=0)
    disk_bytes: float = Field(ge=0)
    memory_mib: float = Field(ge=0)


class Estimate(Record):
    """What a run of so many seeds takes.

    Attributes:
        sampled: tokens that the model writes for the corpora. trained: tokens that the experts are trained on.
        measuring: share of all seconds in which experts are measured, on their own seed and some others.
    """

    seeds: int
    pages: int
    stages: tuple[Stage, ...]
    sampled: float
    trained: float
    measuring: float

    @property
    def seconds(self) -> float:
        """Of all stages."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def disk_bytes(self) -> float:
        """Of all stages."""
        return sum(stage.disk_bytes for stage in self.stages)

    @property
    def memory_mib(self) -> float:
        """Of the stage that takes most."""
        return max(stage.memory_mib for stage in self.stages)


def predict(settings: Settings, pace: Pace) -> Estimate:
    """What a run with these settings takes at this pace, from the theme to the report."""
    seeds, pages = settings.author.count, settings.corpus.pages
    held_out = round(pages * settings.corpus.held_out)
    write_s, sampled = _corpus(pace, pages)
    train_s, trained = _training(settings, pace, pages - held_out)
    drill_s, school_s, schooled = _schooling(settings, pace)
    cells_s = _measuring(settings, pace, held_out)
    engine, author, swarm, memory, sizes, peaks = (
        pace.engine, pace.author, pace.swarm, pace.memory, pace.sizes, pace.peaks)
    general_s = engine.seconds([64] * settings.probes.general)
    remembered = seeds * (pages - held_out)
    drafts = min(seeds, settings.author.batch)
    together = min(seeds, settings.training.together)
    stages = (
        Stage(name="author", disk_bytes=seeds * sizes.seed,
              memory_mib=peaks.author + _COMPARED_MIB * drafts * min(seeds, _EMBEDDED),
              seconds=author.fixed_s + seeds * author.seed_s * side_by_side(drafts)
              + author.compare_s * _COMPARISONS * seeds * (seeds - 1) / 2),
        Stage(name="corpus", disk_bytes=seeds * (sizes.corpus + pages * sizes.page), memory_mib=peaks.corpus,
              seconds=engine.open_s + seeds * write_s),
        Stage(name="swarm", disk_bytes=seeds * sizes.expert + _school_bytes(settings, pace),
              memory_mib=peaks.swarm + together * peaks.adapter,
              seconds=2 * engine.open_s + general_s + swarm.start_s + 2 * swarm.load_s + drill_s
              + _CHECKPOINTS * (train_s + school_s) + cells_s + seeds * (swarm.keep_s + swarm.ask_s)),
        Stage(name="memory", disk_bytes=remembered * sizes.remembered,
              memory_mib=peaks.memory + remembered * peaks.remembered,
              seconds=memory.fixed_s + remembered * memory.remember_s
              + (_CALIBRATION + seeds * (held_out + _LESSONS)) * memory.question_s
              + engine.open_s + _READING * engine.seconds([20] * 4)),
        Stage(name="report", disk_bytes=sizes.fixed, memory_mib=peaks.report, seconds=memory.report_s),
    )
    total = sum(stage.seconds for stage in stages)
    return Estimate(seeds=seeds, pages=pages, stages=stages, sampled=seeds * sampled, trained=trained + schooled,
                    measuring=cells_s / total if total else 0.0)


def books(settings: Settings, pace: Pace) -> tuple[Estimate, ...]:
    """The same settings for 1, 10, 100 and 1000 books: a seed each, unfolded into a corpus of 500 pages."""
    return tuple(predict(sized(settings, count, BOOK_PAGES), pace) for count in LIBRARIES)


def sized(settings: Settings, seeds: int, pages: int) -> Settings:
    """The settings with another number of seeds and pages."""
    return settings.model_copy(update={"author": settings.author.model_copy(update={"count": seeds}),
                                       "corpus": settings.corpus.model_copy(update={"pages": pages})})


def _corpus(pace: Pace, pages: int) -> tuple[float, float]:
    """Seconds and sampled tokens of one corpus.

    The waves are gone through as the generator does it: open pages are asked for at once, those that were refused come again
    with the next. A wave that is smaller than the engine's batch takes as long as its longest text.
    """
    corpus, seconds, sampled = pace.corpus, pace.corpus.bank_s + pages * pace.corpus.page_s, 0.0
    lengths = cycle(corpus.lengths)
    waiting, again = pages, 0.0  # pages not asked for yet, and texts of the model that were refused
    while waiting or again >= 0.5:
        fresh = min(waiting, max(0, _WAVE - round(again)))
        waiting -= fresh
        asked = fresh * corpus.by_model + again
        wave = list(islice(lengths, round(asked)))
        seconds += pace.engine.seconds(wave)
        sampled += sum(wave)
        again = asked * corpus.refused
        if fresh == 0 and again >= asked:
            break
    return seconds, sampled


def _training(settings: Settings, pace: Pace, train_pages: int) -> tuple[float, float]:
    """Seconds and tokens of training all experts, `together` of them in each step."""
    from rostok.swarm.schedule import steps_of

    steps = steps_of(train_pages, settings.training)
    tokens = settings.training.pages_per_step * pace.swarm.page_tokens
    seconds = sum(steps * (pace.swarm.step_s + group * tokens * pace.swarm.token_s) for group in _groups(settings))
    return seconds, settings.author.count * steps * tokens


def _schooling(settings: Settings, pace: Pace) -> tuple[float, float, float]:
    """Seconds of writing drills, seconds of training the school, and its tokens; a worker of its own trains it."""
    from rostok.swarm.schedule import steps_of
    from rostok.swarm.school import settings_of

    school, swarm = settings.school, pace.swarm
    if not school.drills:
        return 0.0, 0.0, 0.0
    answers = list(islice(cycle(pace.corpus.lengths), round(school.pages * school.replay)))
    written = pace.engine.open_s + school.drills * (pace.engine.seconds(answers) + school.pages * pace.corpus.page_s)
    steps = steps_of(school.drills * round(school.pages * (1 - settings.corpus.held_out)), settings_of(settings).training)
    tokens = settings.training.pages_per_step * swarm.page_tokens
    return written + swarm.start_s + swarm.load_s, steps * (swarm.step_s + tokens * swarm.token_s), steps * tokens


def _school_bytes(settings: Settings, pace: Pace) -> float:
    """The drills' corpora, and an adapter."""
    school, sizes = settings.school, pace.sizes
    return school.drills * (sizes.corpus + school.pages * sizes.page) + (sizes.expert if school.drills else 0.0)


def _groups(settings: Settings) -> Iterator[int]:
    """How many experts share a step, group after group. A trainer that takes one after the other has no `step_s` to share."""
    left, together = settings.author.count, settings.training.together
    while left > 0:
        yield min(left, together)
        left -= together


def _measuring(settings: Settings, pace: Pace, held_out: int) -> float:
    """Seconds of measuring the base on every seed's held-out pages and probes, and every expert on its own and some others'."""
    seeds, swarm, read = settings.author.count, pace.swarm, min(settings.probes.matrix_pages, max(1, held_out))
    cells = seeds + seeds * min(seeds, 1 + settings.probes.others)
    return cells * (swarm.probe_s + read * swarm.read_s) + (seeds + 1) * swarm.general_s + seeds * swarm.card_s
