"""The page plan: seed and settings -> page specifications, deterministic and all different.

A specification is nodes (path, pair or triple: `rostok.generator.groups`) × register × form × fractal depth ×
fragmentation; for replay a question and which sample of it; for a rewriting a page and another form.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import count, islice, product
from typing import TypeVar

from rostok.config import CorpusSettings
from rostok.errors import ConfigError, DataError
from rostok.generator.general import REPLAY
from rostok.generator.groups import Groups, Shapes
from rostok.generator.records import KINDS, Kind, PageSpec
from rostok.generator.voices import REWRITTEN_FORMS
from rostok.generator.wordings import EXCHANGES, FORMS, FRAGMENTATIONS, ORDERS
from rostok.records import stable_seed
from rostok.seeds.lint import placeholders
from rostok.seeds.record import Seed

# Steps told from each node of a path, a pair and a triple. A composed page has six, the units that a fragmentation cuts.
_SHAPES: dict[Kind, Shapes] = {
    "composed": {1: (6,), 2: (3, 3), 3: (2, 2, 2)},
    "dialogue": {1: (4,), 2: (2, 2), 3: (2, 1, 1)},
    "written": {1: (2,), 2: (1, 1), 3: (1, 1, 1)},
}
CardT = TypeVar("CardT")
_REWRITABLE = ("written", "composed")  # kinds whose pages are prose that can take another form
_CUTS: dict[Kind, Sequence[tuple[int, ...]]] = {"composed": FRAGMENTATIONS, "dialogue": EXCHANGES, "written": ((),)}


def plan(seed: Seed, settings: CorpusSettings, random_seed: int) -> list[PageSpec]:
    """The plan of a corpus: `settings.pages` specifications, kinds mixed, a share of every kind held out.

    Raises:
        DataError: a field of the seed is empty or a placeholder.
        ConfigError: shares that plan rewritings of nothing.
    """
    check(seed)
    counts = page_counts(settings)
    specs: list[PageSpec] = []
    for kind in KINDS:
        if kind != "rewritten":
            made = list(islice(specifications(seed, kind, random_seed, settings), counts[kind]))
            chosen = _held_out(len(made), settings.held_out, random.Random(stable_seed(random_seed, seed.id, kind, "held out")))
            specs += [spec.model_copy(update={"held_out": index in chosen}) for index, spec in enumerate(made)]
    total = settings.pages
    order = random.Random(stable_seed(random_seed, seed.id, "order")).sample(range(total), total)
    specs = [spec.model_copy(update={"number": number}) for spec, number in zip(specs, order, strict=False)]
    specs += _rewritten(seed, specs, order[len(specs):], settings, random_seed)
    return sorted(specs, key=lambda spec: spec.number)


def check(seed: Seed) -> None:
    """Raises `DataError` for a seed that says nothing in one of its fields; pages would say it over and over."""
    empty = placeholders(seed)
    if empty:
        raise DataError(f"the seed {seed.id} ({seed.title}) cannot be unfolded: {empty[0]} is empty or a placeholder. "
                        "Mend it in seeds/library.jsonl; rostok seeds lint names every problem.")


def page_counts(settings: CorpusSettings) -> dict[Kind, int]:
    """Pages of each kind; they add up to `settings.pages`. What rounding leaves goes to the largest remainders."""
    shares = {kind: settings.pages * float(getattr(settings.shares, kind)) for kind in KINDS}
    counts = {kind: int(share + 1e-9) for kind, share in shares.items()}
    left = settings.pages - sum(counts.values())
    for kind in sorted(KINDS, key=lambda kind: counts[kind] - shares[kind])[:left]:
        counts[kind] += 1
    return counts


def specifications(seed: Seed, kind: Kind, random_seed: int, settings: CorpusSettings) -> Iterator[PageSpec]:
    """Specifications of one kind without end and without repetition; replacements go on where the plan stopped."""
    dice = random.Random(stable_seed(random_seed, seed.id, kind))
    if kind == "replay":
        yield from _replay(seed, dice)
        return
    groups = Groups(seed, _SHAPES[kind], dice)
    voices = ("dialogue",) if kind == "dialogue" else seed.registers
    shapes = {"composed": FORMS, "dialogue": ORDERS, "written": settings.written_forms}[kind]
    deep_ones = range(1, settings.depth + 1)
    registers, forms, depths, cuts = _deck(voices, dice), _deck(shapes, dice), _deck(deep_ones, dice), _deck(_CUTS[kind], dice)
    seen: dict[tuple[object, ...], int] = {}
    while True:
        group = groups.take()
        for _ in range(8):  # other cards for a group that has had these
            cards = next(registers), next(forms), next(depths), next(cuts)
            if (group.path, *cards) not in seen:
                break
        else:
            left = [cards for cards in product(voices, shapes, deep_ones, _CUTS[kind]) if (group.path, *cards) not in seen]
            cards = dice.choice(left) if left else cards
        variant = seen[(group.path, *cards)] = seen.get((group.path, *cards), -1) + 1
        register, form, deep, cut = cards
        yield PageSpec(number=0, kind=kind, focus=group.focus, path=group.path, register_=register, form=form, depth=deep,
                       fragmentation=cut, variant=variant)


def rewritings(sources: Sequence[PageSpec], dice: random.Random) -> Iterator[PageSpec]:
    """Every source in another form, then every source in yet another; without end."""
    order = dice.sample(range(len(sources)), len(sources))
    for turn in count():
        for index in order:
            source = sources[index]
            forms = [form for form in REWRITTEN_FORMS if form != source.form]
            yield PageSpec(number=0, kind="rewritten", focus=source.focus, path=source.path, register_=source.register_,
                           form=forms[(index + turn) % len(forms)], depth=source.depth, variant=turn // len(forms),
                           held_out=source.held_out, source=source.number)


def rewriting_after(specs: Sequence[PageSpec], given_up: PageSpec, seed: Seed, random_seed: int, planned: int) -> PageSpec:
    """The next rewriting that the plan has not had, held out like the one that was given up."""
    used = sum(spec.kind == "rewritten" and spec.held_out == given_up.held_out for spec in specs)
    dice = random.Random(stable_seed(random_seed, seed.id, "rewritten", given_up.held_out))
    return next(islice(rewritings(_sources(specs[:planned], given_up.held_out), dice), used, None))


def _rewritten(seed: Seed, specs: Sequence[PageSpec], numbers: Sequence[int], settings: CorpusSettings,
               random_seed: int) -> list[PageSpec]:
    """Rewritings of held-out pages are held out, those of the others are not: no page is trained on in another form."""
    if not numbers:
        return []
    if not any(spec.kind in _REWRITABLE for spec in specs):
        raise ConfigError("corpus.shares plans rewritten pages, but not a single page that they could rewrite. Ask for more "
                          "pages, or raise the share of the written or composed ones.")
    held_out = len(_held_out(len(numbers), settings.held_out, random.Random(0)))
    made: list[PageSpec] = []
    for flag, wanted in ((True, held_out), (False, len(numbers) - held_out)):
        sources = _sources(sorted(specs, key=lambda spec: spec.number), flag)
        if not sources:  # one page of a kind is not held out; then no rewriting is either
            continue
        wanted = wanted if flag else len(numbers) - len(made)
        dice = random.Random(stable_seed(random_seed, seed.id, "rewritten", flag))
        made += islice(rewritings(sources, dice), wanted)
    return [spec.model_copy(update={"number": number}) for spec, number in zip(made, numbers, strict=True)]


def _sources(specs: Sequence[PageSpec], held_out: bool) -> list[PageSpec]:
    return [spec for spec in specs if spec.kind in _REWRITABLE and spec.held_out == held_out]


def _held_out(pages: int, share: float, dice: random.Random) -> set[int]:
    return set(dice.sample(range(pages), max(1, round(pages * share)) if pages > 1 else 0))


def _replay(seed: Seed, dice: random.Random) -> Iterator[PageSpec]:
    for sample in count():
        for question in dice.sample(range(len(REPLAY)), len(REPLAY)):
            yield PageSpec(number=0, kind="replay", form="chat", variant=question + sample * len(REPLAY))


def _deck(cards: Sequence[CardT], dice: random.Random) -> Iterator[CardT]:
    """Cards in shuffled order, all of them before any comes again."""
    while True:
        yield from dice.sample(cards, len(cards))
