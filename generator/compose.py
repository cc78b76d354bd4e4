"""Pages that code composes from the seed's graph and the model's own sentences: composed prose and chat dialogues.

Glosses, transitions, clashes and the scene are the model's words; the frame around them comes from `wordings`. Such
pages say so: `author="code"`.
"""

from __future__ import annotations

import random
from itertools import pairwise

from rostok.generator import wordings
from rostok.generator.records import PageSpec, Turn
from rostok.records import stable_seed
from rostok.seeds.record import Seed, Transition


def compose(spec: PageSpec, seed: Seed, characters: int, attempt: int, random_seed: int) -> str:
    """A composed page of about `characters` characters: the path's steps in the given form, cut by the fragmentation."""
    dice = random.Random(stable_seed(random_seed, seed.id, spec.model_dump(mode="json"), attempt))
    steps = _steps(spec, seed)
    openings, closings = wordings.REGISTERS[spec.register_]
    attributes = {"place": "place", "person": "stranger", "hour": "at noon", "weather": "in the wind",
                  **seed.lineage.attributes, "x": seed.name(spec.path[0])}
    opening, closing = dice.choice(openings).format(**attributes), dice.choice(closings).format(**attributes)
    said = dice.sample(wordings.STEPS, len(steps))
    asked = dice.sample(wordings.QUESTIONS, len(steps))
    forks = _forks(seed)
    lines: list[str] = []
    for number, (step, wording, question) in enumerate(zip(steps, said, asked, strict=True), start=1):
        x, y = seed.name(step.source), seed.name(step.target)
        if step.source in forks:
            wording, question = _naming(wording, wordings.STEPS), _naming(question, wordings.QUESTIONS)
        sentence = wording.format(x=x, y=y, op=step.operation)
        if spec.form == "question and answer":
            lines.append(f"{question.format(x=x, op=step.operation)} {sentence}")
        elif spec.form == "table":
            lines.append(f"{x} | {step.operation} | {y}" if number % 2 else sentence)
        elif spec.form == "timeline":
            lines.append(f"{_ORDER[number - 1]}: {sentence[0].lower()}{sentence[1:]}")
        elif spec.form == "instructions":
            lines.append(f"{number}. {sentence}")
        else:
            lines.append(sentence)
    room = characters - len(opening) - len(closing) - sum(len(line) + 1 for line in lines)
    extra = _model_sentences(spec, seed, steps, dice, room)
    separator = " " if spec.form in ("prose", "timeline") else "\n"
    paragraphs, at = [], 0
    for index, size in enumerate(spec.fragmentation):
        part = [separator.join(lines[at : at + size])]
        at += size
        if index < len(extra):
            part.append(extra[index])
        if any(part):  # a path that ends at the release may have fewer steps than the fragmentation cuts
            paragraphs.append(separator.join(filter(None, part)))
    paragraphs[-1] = separator.join([paragraphs[-1], *extra[len(spec.fragmentation):], closing])
    return "\n\n".join([f"{opening}{separator}{paragraphs[0]}", *paragraphs[1:]])


def converse(spec: PageSpec, seed: Seed, characters: int, attempt: int, random_seed: int) -> tuple[Turn, ...]:
    """A dialogue page: questions about the path's steps, and answers; every page begins at another node."""
    dice = random.Random(stable_seed(random_seed, seed.id, spec.model_dump(mode="json"), attempt))
    turns: list[Turn] = []
    steps = _steps(spec, seed)
    forks = _forks(seed)
    asked, answered = dice.sample(wordings.QUESTIONS, len(steps)), dice.sample(wordings.ANSWERS, len(steps))
    for step, question, answer in zip(steps, asked, answered, strict=True):
        x, y = seed.name(step.source), seed.name(step.target)
        if step.source in forks:
            question = _naming(question, wordings.QUESTIONS)
        text = answer.format(x=x, y=y)
        if spec.depth == 2 and sum(len(turn.content) for turn in turns) < characters - 250 and dice.random() < 0.5:
            text += " " + seed.node(step.target).gloss
        turns += [Turn(role="user", content=question.format(x=x, op=step.operation)), Turn(role="assistant", content=text)]
    node = seed.node(dice.choice(spec.path))
    if sum(len(turn.content) for turn in turns) < characters - 150:
        turns += [Turn(role="user", content=dice.choice(wordings.ABOUT).format(x=node.name)),
                  Turn(role="assistant", content=node.gloss)]
    return tuple(turns)


def _steps(spec: PageSpec, seed: Seed) -> list[Transition]:
    steps = {(step.source, step.target): step for step in seed.transitions}
    return [steps[edge] for edge in pairwise(spec.path)]


def _forks(seed: Seed) -> set[str]:
    """Nodes that lead to several others."""
    sources = [step.source for step in seed.transitions]
    return {source for source in sources if sources.count(source) > 1}


def _naming(wording: str, wordings_: tuple[str, ...]) -> str:
    """A wording that names the operation, without which "what follows?" has several answers at a fork."""
    return wording if "{op}" in wording else next(other for other in wordings_ if "{op}" in other)


def _model_sentences(spec: PageSpec, seed: Seed, steps: list[Transition], dice: random.Random, room: int) -> list[str]:
    """Sentences of the model that fit the room: glosses at depth 1, transitions at 2, clashes and scene at 3 first."""
    glosses = [seed.node(step.source).gloss for step in steps]
    sentences = [step.sentence for step in steps]
    clashes = [clash.sentence for clash in seed.contradictions]
    for pool in (glosses, sentences, clashes):
        dice.shuffle(pool)
    pools = {1: [*glosses, *sentences], 2: [*sentences, *glosses], 3: [*clashes, seed.scene.split(". ")[0].rstrip(".") + ".",
                                                                      *sentences, *glosses]}
    chosen: list[str] = []
    for sentence in pools[spec.depth]:
        if len(sentence) < room:
            chosen.append(sentence)
            room -= len(sentence) + 1
    return chosen


_ORDER = ("First", "Second", "Third", "Fourth", "Fifth", "Sixth")
