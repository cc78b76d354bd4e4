"""Pages that code composes from the seed's graph and the model's own sentences: composed prose and chat dialogues.

Glosses, transitions, clashes, the scene and the sentences of the bank are the model's words; the frame around them comes
from `wordings` and `voices`. Such pages say so: `author="code"`.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rostok.generator import wordings
from rostok.generator.bank import Bank
from rostok.generator.groups import told
from rostok.generator.records import PageSpec, Turn
from rostok.generator.voices import REGISTERS
from rostok.records import stable_seed
from rostok.seeds.record import Contradiction, Seed, Transition

_FRAME = {"place": "place", "person": "stranger", "hour": "at noon", "weather": "in the wind"}


def thrown(spec: PageSpec, seed: Seed, attempt: int, random_seed: int) -> int:
    """The random seed of one sample of a page by code."""
    return stable_seed(random_seed, seed.id, spec.model_dump(mode="json"), attempt)


def compose(spec: PageSpec, seed: Seed, bank: Bank, characters: int, attempt: int, random_seed: int) -> str:
    """A composed page of about `characters` characters: the path's steps in the given form, cut by the fragmentation."""
    dice = random.Random(thrown(spec, seed, attempt, random_seed))
    steps = told(spec.path, seed)
    openings, closings = REGISTERS[spec.register_]
    frame = {**_FRAME, **seed.lineage.attributes, "x": seed.name(spec.path[0])}
    opening, closing = dice.choice(openings).format(**frame), dice.choice(closings).format(**frame)
    parts, at = [], 0
    said = _said(steps, seed, wordings.STEPS, dice)
    form = _Form(seed, bank, dice, dice.randrange(60), _said(steps, seed, wordings.QUESTIONS, dice))
    tell = _FORMS[spec.form]
    for size in spec.fragmentation:
        lines = list(zip(steps, said, strict=True))[at : at + size]
        if lines:
            parts.append(tell(form, lines, at))
        at += size
    separator = " " if spec.form in ("prose", "timeline") else "\n"
    room = characters - len(opening) - len(closing) - sum(len(line) + 1 for part in parts for line in part)
    for index, sentence in enumerate(_model_sentences(spec, seed, bank, steps, dice, room)):
        parts[min(index, len(parts) - 1)].append(sentence)
    parts[0].insert(0, opening)
    parts[-1].append(closing)
    return "\n\n".join(separator.join(part) for part in parts)


def converse(spec: PageSpec, seed: Seed, bank: Bank, characters: int, attempt: int, random_seed: int) -> tuple[Turn, ...]:
    """A dialogue page: questions about the path's steps, and answers; every page begins at another node."""
    dice = random.Random(thrown(spec, seed, attempt, random_seed))
    steps = told(spec.path, seed)
    asked, answered = _said(steps, seed, wordings.QUESTIONS, dice), _drawn(wordings.ANSWERS, len(steps), dice)
    turns: list[Turn] = []
    for index in _order(len(steps), spec.form, dice):
        step, text = steps[index], _filled(answered[index], steps[index], seed)
        more = {1: "", 2: seed.node(step.target).gloss, 3: _filled("the {x} {op}.", step, seed)}[spec.depth]
        if more and _size(turns) < characters - 250 and dice.random() < 0.5:
            text += " " + more
        turns += [Turn(role="user", content=asked[index]), Turn(role="assistant", content=text)]
    keys = sorted(dice.sample(spec.path, len(spec.path)), key=lambda key: not _against(key, seed) or dice.random() < 0.5)
    wanted = characters - 150 if 1 in spec.fragmentation else characters / 2  # without them too, where steps fill half a page
    for number, key in enumerate(dict.fromkeys([*keys, *seed.order()])):  # a long page takes other nodes, too
        if _size(turns) >= wanted and (number or 1 not in spec.fragmentation):
            break
        about = _besides(key, seed, bank, dice)
        turns = [*about, *turns] if spec.fragmentation[0] == 1 else [*turns, *about]
    return tuple(turns)


def _besides(key: str, seed: Seed, bank: Bank, dice: random.Random) -> list[Turn]:
    """A question about something else than what follows, and its answer: what a node is, does, or cannot agree with."""
    against, ways = _against(key, seed), [step for step in seed.transitions if step.source == key]
    what = dice.choice(["is", *["does"] * bool(ways), *["clashes"] * (2 * bool(against))])
    if what == "is":
        asked, answer = dice.choice(wordings.ABOUT), dice.choice([seed.node(key).gloss, *bank.texts("definition", [key])])
    elif what == "does":
        asked, answer = dice.choice(wordings.DOES), _filled(dice.choice(wordings.DOES_ANSWERS), dice.choice(ways), seed)
    else:
        clash = dice.choice(against)
        other = seed.name(clash.b if clash.a == key else clash.a)
        said = dice.choice([*wordings.CLASH_ANSWERS, clash.sentence])
        asked, answer = dice.choice(wordings.CLASH), said.replace("{x}", seed.name(key)).replace("{y}", other)
    return [Turn(role="user", content=asked.format(x=seed.name(key))), Turn(role="assistant", content=answer)]


def _against(key: str, seed: Seed) -> list[Contradiction]:
    return [clash for clash in seed.contradictions if key in (clash.a, clash.b)]


def _order(steps: int, form: str, dice: random.Random) -> Sequence[int]:
    """In which order so many steps are asked about."""
    onward = range(steps)
    return {"onward": onward, "backward": onward[::-1], "across": dice.sample(onward, steps)}[form]


def _size(turns: Sequence[Turn]) -> int:
    return sum(len(turn.content) for turn in turns)


Line = tuple[Transition, str]  # a step, and the sentence that states it


@dataclass(frozen=True)
class _Form:
    """What the parts of one page have in common: a question for every step, and `style`, which chooses heads and times."""

    seed: Seed
    bank: Bank
    dice: random.Random
    style: int
    asked: Sequence[str]


def _prose(form: _Form, lines: Sequence[Line], at: int) -> list[str]:
    return [sentence for _, sentence in lines]


def _questions(form: _Form, lines: Sequence[Line], at: int) -> list[str]:
    return [f"{question} {sentence}" for question, (_, sentence) in zip(form.asked[at:], lines, strict=False)]


def _table(form: _Form, lines: Sequence[Line], at: int) -> list[str]:
    """Every step as a row, every second one as a sentence below the rows, too."""
    plain = _forks(form.seed) or _meetings(form.seed)
    head, row = wordings.TABLES[0 if plain else form.style % len(wordings.TABLES)]
    traits = [form.bank.about("trait", step.source) for step, _ in lines]
    rows = [_filled(row, step, form.seed, n=at + number) for number, (step, _) in enumerate(lines, start=1)]
    if all(traits):
        head += " | known for"
        rows = [f"{row} | {form.dice.choice(known).text}" for row, known in zip(rows, traits, strict=True)]
    return [*([] if at else [head]), *rows, *(sentence for _, sentence in lines[::2])]


def _glossary(form: _Form, lines: Sequence[Line], at: int) -> list[str]:
    entry = wordings.ENTRIES[form.style % len(wordings.ENTRIES)]
    return [_filled(entry, step, form.seed, sentence=sentence) for step, sentence in lines]


def _timeline(form: _Form, lines: Sequence[Line], at: int) -> list[str]:
    times = wordings.TIMES[form.style % len(wordings.TIMES)]
    return [f"{times[at + number]}: {sentence[0].lower()}{sentence[1:]}" for number, (_, sentence) in enumerate(lines)]


def _instructions(form: _Form, lines: Sequence[Line], at: int) -> list[str]:
    return [f"{at + number}. {sentence}" for number, (_, sentence) in enumerate(lines, start=1)]


_FORMS = {"prose": _prose, "question and answer": _questions, "table": _table, "glossary": _glossary, "timeline": _timeline,
          "instructions": _instructions}


def _said(steps: Sequence[Transition], seed: Seed, families: Mapping[str, tuple[str, ...]], dice: random.Random) -> list[str]:
    """A sentence or question for every step, each of another family; at a fork one that names the operation.

    Where several ways meet, none that says there is only one.
    """
    forks, meetings = _forks(seed), _meetings(seed)
    names = _names(families, len(steps), dice)
    spare = [name for name in families if name not in (*names, *wordings.SOLE)]
    drawn = []
    for step, name in zip(steps, names, strict=True):
        wording = dice.choice(families[name])
        if step.source in forks and "{op}" not in wording:
            wording = dice.choice(families["operation"])
        elif step.target in meetings and name in wordings.SOLE:
            wording = dice.choice(families[spare.pop(dice.randrange(len(spare)))])
        drawn.append(_filled(wording, step, seed))
    return drawn


def _names(families: Mapping[str, tuple[str, ...]], number: int, dice: random.Random) -> list[str]:
    """So many families; of the six steps of a page three that say what the node does. Questions have no such three."""
    if not families.keys() >= {*wordings.OPERATING}:
        return dice.sample(sorted(families), number)
    others = sorted(families.keys() - {*wordings.OPERATING})
    names = [*wordings.OPERATING, *dice.sample(others, number - len(wordings.OPERATING))]
    dice.shuffle(names)
    return names


def _drawn(families: Mapping[str, tuple[str, ...]], number: int, dice: random.Random) -> list[str]:
    return [dice.choice(families[name]) for name in dice.sample(sorted(families), number)]


def _filled(wording: str, step: Transition, seed: Seed, **more: object) -> str:
    text = wording.format(x=seed.name(step.source), y=seed.name(step.target), op=step.operation, **more)
    return text[0].upper() + text[1:]


def _forks(seed: Seed) -> set[str]:
    """Nodes that lead to several others: there "what follows?" has one answer only when the operation is named."""
    sources = [step.source for step in seed.transitions]
    return {source for source in sources if sources.count(source) > 1}


def _meetings(seed: Seed) -> set[str]:
    """Nodes that several others lead to: there nothing is said of the only way in."""
    targets = [step.target for step in seed.transitions]
    return {target for target in targets if targets.count(target) > 1}


def _model_sentences(spec: PageSpec, seed: Seed, bank: Bank, steps: Sequence[Transition], dice: random.Random,
                     room: int) -> list[str]:
    """Sentences of the model that fit the room: definitions at depth 1, transitions at 2, clashes and scenes at 3 first."""
    sources = [step.source for step in steps]
    answers = [(known.question, known.text) for key in sources for known in bank.about("answer", key)]
    definitions = [seed.node(key).gloss for key in sources] + bank.texts("definition", sources)
    definitions += [f"{question} {text}" if spec.form in ("prose", "question and answer") else text for question, text in answers]
    reasons = [step.sentence for step in steps] + bank.texts("reason", [(step.source, step.target) for step in steps])
    inner = bank.texts("scene", sources)
    focus = set(spec.focus)
    ours = [clash.sentence for clash in seed.contradictions if {clash.a, clash.b} <= focus]
    clashes = [clash.sentence for clash in seed.contradictions if clash.sentence not in ours]
    for pool in (definitions, reasons, inner, clashes):
        dice.shuffle(pool)
    touched = [clash for clash in seed.contradictions if {clash.a, clash.b} & set(spec.path)]
    if touched:
        clash = dice.choice(touched)
        pair = dice.sample((clash.a, clash.b), 2)
        ours.append(dice.choice(wordings.CLASHES).format(x=seed.name(pair[0]), y=seed.name(pair[1])))
    scene = [seed.scene.split(". ")[0].rstrip(".") + "."]
    pools = {1: [*definitions, *reasons], 2: [*inner[:1], *reasons, *definitions],
             3: [*clashes, *inner[:1], *scene, *reasons, *definitions]}
    chosen: list[str] = []
    for sentence in [*ours, *pools[spec.depth]]:
        if len(sentence) < room:
            chosen.append(sentence)
            room -= len(sentence) + 1
    return chosen
