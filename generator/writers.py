"""What a model is asked for, page by page, and what is made of its answer. Pages by code come from `rostok.generator.compose`.

The brief stands before every written page and is computed once (`Request.shared`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

from rostok.engines.protocol import Engine, Message, Request, Sampling
from rostok.generator import voices
from rostok.generator.gates import trim
from rostok.generator.general import REPLAY
from rostok.generator.groups import runs
from rostok.generator.records import PageSpec, Sampled, Turn
from rostok.records import digest
from rostok.seeds.record import Seed

_WRITTEN = Sampling(max_tokens=170, temperature=0.8, min_p=0.08)
_REWRITTEN = Sampling(max_tokens=190, temperature=0.7, min_p=0.1)
_REPLAY = Sampling(max_tokens=120, temperature=0.5, min_p=0.1)
BRIEF = "You are a patient writer. You know this world."
_CHARACTERS = 550  # the page length that these token counts belong to


def request(spec: PageSpec, seed: Seed, characters: int, random_seed: int, source: str = "") -> Request:
    """What the model is asked for: a written page, a rewriting of `source`, or an answer of replay.

    Args:
        characters: length of a page; the tokens that may be sampled follow it.
    """
    if spec.kind == "replay":
        return Request((Message("user", REPLAY[spec.variant % len(REPLAY)]),), _REPLAY, seed=random_seed)
    if spec.kind == "rewritten":
        asked, start = voices.REWRITTEN_FORMS[spec.form]
        return Request((Message("user", f"{source}\n\n{asked}"),), _scaled(_REWRITTEN, characters), prefill=start,
                       seed=random_seed)
    task = f"{_task(spec, seed)} {voices.WRITTEN_FORMS[spec.form]}"
    return Request((Message("system", brief(seed)), Message("user", task)), _scaled(_WRITTEN, characters),
                   seed=random_seed, shared=1)


def page(spec: PageSpec, asked: Request, answer: str) -> tuple[str, tuple[Turn, ...]]:
    """Text and turns of a page that the model wrote, cut after its last whole sentence."""
    text = trim(asked.prefill + answer)
    if spec.kind == "replay":
        return text, (Turn(role="user", content=asked.messages[0].content), Turn(role="assistant", content=text))
    return text, ()


def another_order(text: str, seed: Seed) -> tuple[str, str] | None:
    """The verdict on a rewriting that puts two things beside each other which the seed does not: a small model turns
    "the plate comes before the paper" into "after" (docs/experiments.md), and that would be learned."""
    names = {node.name.casefold(): node.key for node in seed.nodes}
    found = re.compile("|".join(sorted(map(re.escape, names), key=len, reverse=True)))
    edges = {frozenset((step.source, step.target)) for step in seed.transitions}
    for sentence in re.split(r"[.!?\n]+", text.casefold()):
        keys = [names[name] for name in found.findall(sentence)]
        for one, other in pairwise(dict.fromkeys(keys)):
            if frozenset((one, other)) not in edges:
                return "another order", f"{seed.name(one)}, {seed.name(other)}"
    return None


def sampled(asked: Request, engine: Engine, model_sha256: str) -> Sampled:
    """How a text came about, for its line on disk."""
    drawn = asked.sampling
    return Sampled(engine=type(engine).__name__, model=model_sha256,
                   prompt_sha256=digest(engine.prompt(asked)),
                   max_tokens=drawn.max_tokens, temperature=drawn.temperature, top_p=drawn.top_p, min_p=drawn.min_p,
                   repetition_penalty=drawn.repetition_penalty, dry=drawn.dry)


def brief(seed: Seed) -> str:
    """What every written page's prompt begins with. Short: with all glosses in it the attention over the prompt costs
    more than the page (docs/experiments.md)."""
    if seed.is_ring():
        path = ", then ".join(f"the {seed.name(step.source)}" for step in seed.walk())
        told = f"The path goes round: {path}, and again from the start."
    else:
        edges = [(step.source, step.target) for step in seed.walk()]
        told = f"What leads to what: {'; '.join(f'the {seed.name(a)} to the {seed.name(b)}' for a, b in edges)}."
    return f"{BRIEF} {seed.scene} {told}"


def _task(spec: PageSpec, seed: Seed) -> str:
    voice = voices.VOICES[spec.register_]
    parts = [[seed.name(key) for key in run] for run in runs(spec.path, seed)]
    if len(parts) == 1 and len(parts[0]) == 3:
        x, y, z = parts[0]
        return voices.DEPTHS[spec.depth].format(voice=voice, x=x, y=y, z=z)
    told = [f"the {run[0]}" + "".join(f"{', which leads' if number == 1 else ' and then'} to the {name}"
                                       for number, name in enumerate(run) if number) for run in parts]
    return voices.DEPTHS_OF_RUNS[spec.depth].format(voice=voice, runs=", and ".join(told))


def _scaled(sampling: Sampling, characters: int) -> Sampling:
    return replace(sampling, max_tokens=max(48, round(sampling.max_tokens * characters / _CHARACTERS)))
