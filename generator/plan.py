"""The page plan: seed and settings -> page specifications, deterministic and all different.

Every specification has its own node path × register × form × fragmentation × depth (for replay: question and sample).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count, islice

from rostok.config import CorpusSettings
from rostok.generator.general import REPLAY
from rostok.generator.records import KINDS, Kind, PageSpec
from rostok.generator.wordings import FORMS, FRAGMENTATIONS
from rostok.records import stable_seed
from rostok.seeds.record import Seed

PATH = 6  # steps of a composed page: the six units that a fragmentation cuts


def plan(seed: Seed, settings: CorpusSettings, random_seed: int) -> list[PageSpec]:
    """The plan of a corpus: `settings.pages` specifications, kinds mixed, a share of every kind held out."""
    counts = page_counts(settings)
    specs: list[PageSpec] = []
    for kind in KINDS:
        made = list(islice(specifications(seed, kind, random_seed), counts[kind]))
        held_out = max(1, round(counts[kind] * settings.held_out)) if counts[kind] > 1 else 0
        dice = random.Random(stable_seed(random_seed, seed.id, kind, "held out"))
        chosen = set(dice.sample(range(len(made)), held_out))
        specs += [spec.model_copy(update={"held_out": index in chosen}) for index, spec in enumerate(made)]
    random.Random(stable_seed(random_seed, seed.id, "order")).shuffle(specs)
    return [spec.model_copy(update={"number": number}) for number, spec in enumerate(specs)]


def page_counts(settings: CorpusSettings) -> dict[Kind, int]:
    """Pages of each kind; they add up to `settings.pages`."""
    shares = settings.shares
    counts: dict[Kind, int] = {
        "written": round(settings.pages * shares.written),
        "dialogue": round(settings.pages * shares.dialogue),
        "replay": round(settings.pages * shares.replay),
    }
    counts["composed"] = settings.pages - sum(counts.values())
    return counts


def specifications(seed: Seed, kind: Kind, random_seed: int) -> Iterator[PageSpec]:
    """Specifications of one kind without end and without repetition; replacements go on where the plan stopped."""
    dice = random.Random(stable_seed(random_seed, seed.id, kind))
    seen: set[tuple[object, ...]] = set()
    keys = list(dict.fromkeys(step.source for step in seed.walk()))
    for turn in count():
        start = turn % len(keys)  # every node that leads on opens equally many pages
        spec = _draw(kind, turn, [keys[(start + i) % len(keys)] for i in range(len(keys))], seed, dice)
        signature = (spec.path, spec.register_, spec.form, spec.depth, spec.fragmentation, spec.variant)
        if signature not in seen:
            seen.add(signature)
            yield spec


def _draw(kind: Kind, turn: int, ring: list[str], seed: Seed, dice: random.Random) -> PageSpec:
    registers = seed.registers
    if kind == "replay":
        question, sample = turn % len(REPLAY), turn // len(REPLAY)
        order = random.Random(stable_seed(*ring, sample)).sample(range(len(REPLAY)), len(REPLAY))
        return PageSpec(number=0, kind=kind, form="chat", variant=order[question] + sample * len(REPLAY))
    if kind == "written":
        return PageSpec(number=0, kind=kind, path=_path(seed, ring, 2, dice, at_least=2),
                        register_=dice.choice(registers), form="prose", depth=dice.choice((1, 2, 3)), variant=turn // len(ring))
    if kind == "dialogue":
        length = dice.choice((3, 4, 5))
        return PageSpec(number=0, kind=kind, path=_path(seed, ring, length, dice), register_="dialogue", form="chat",
                        depth=dice.choice((1, 2)), variant=turn)
    return PageSpec(number=0, kind=kind, path=_path(seed, ring, PATH, dice), register_=dice.choice(registers),
                    form=dice.choice(FORMS), depth=dice.choice((1, 2, 3)), fragmentation=dice.choice(FRAGMENTATIONS),
                    variant=turn // len(ring))


def _path(seed: Seed, ring: list[str], steps: int, dice: random.Random, at_least: int = 1) -> tuple[str, ...]:
    """Keys along transitions from the first node of `ring` on; where the seed branches the dice choose.

    A path that ends early at the release is lengthened at its beginning. Where fewer than `at_least` steps lead through
    the first node, the next one opens the page.
    """
    after, before = _neighbours(seed)
    for start in ring:
        path = [start]
        while len(path) <= steps and after.get(path[-1]):
            path.append(_choose(after[path[-1]], path, dice))
        while len(path) <= steps and before.get(path[0]):
            path.insert(0, _choose(before[path[0]], path, dice))
        if len(path) > at_least:
            return tuple(path)
    raise AssertionError("a valid seed has a cycle, on which every path can go on")


def _neighbours(seed: Seed) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    after: dict[str, list[str]] = {}
    before: dict[str, list[str]] = {}
    for step in seed.walk():
        after.setdefault(step.source, []).append(step.target)
        before.setdefault(step.target, []).append(step.source)
    return after, before


def _choose(keys: list[str], path: list[str], dice: random.Random) -> str:
    fresh = [key for key in keys if key not in path] or keys
    return fresh[0] if len(fresh) == 1 else dice.choice(fresh)
