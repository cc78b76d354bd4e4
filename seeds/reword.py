"""A local model says in its own words what code has composed for a child: a transition, a contradiction, the scene, the title.

Every text is begun with the words that it must state, sampled a few times, and checked in code; the first that passes is
taken. Where none does, the caller keeps what code has composed.
"""

from __future__ import annotations

import re

from rostok.engines.protocol import Engine, Message, Request, Sampling
from rostok.records import stable_seed
from rostok.seeds.record import Seed

_TRIES = 4
_WORDS = re.compile(r"[^\W\d_]+")
_SENTENCE = Sampling(max_tokens=44, temperature=0.8, min_p=0.08, stop=("\n",))
_SCENE = Sampling(max_tokens=150, temperature=0.8, min_p=0.08, stop=("\n\n",))
_TITLE = Sampling(max_tokens=12, temperature=0.9, stop=("\n", '"'))


class EngineReword:
    """Fulfils `rostok.seeds.evolve.Reword` with an engine.

    Args:
        model: SHA-256 of the model.
        random_seed: of the samples; the same child is worded alike.
    """

    def __init__(self, engine: Engine, model: str, random_seed: int) -> None:
        self.model = model
        self._engine, self._random_seed = engine, random_seed

    def __call__(self, seed: Seed, what: str) -> str | None:
        """A text of the model for `what`, or None when no sample passed."""
        asked, start, sampling = _task(seed, what)
        begun = f'"{start}' if what == "title" else start
        futures = self._engine.submit_all([
            Request((Message("user", asked),), sampling, prefill=begun,
                    seed=stable_seed(self._random_seed, seed.id, what, number))
            for number in range(_TRIES)])
        for future in futures:
            text = _whole(start + future.result().text, what)
            if _passes(text, what, start, seed):
                return text
        return None


def _task(seed: Seed, what: str) -> tuple[str, str, Sampling]:
    """What the model is asked for, the words that its answer is begun with, and how it is drawn."""
    tongue = "" if seed.language == "en" else " Answer in the language of the text."
    if what == "title":
        return f"{seed.scene}\n\nGive this story a title of two to six words.{tongue}", "", _TITLE
    if what == "scene":
        path = " ".join(step.sentence for step in seed.walk()[:4])
        return (f"{path}\n\nWrite the opening scene of a short story about this in three or four plain sentences.{tongue}", "",
                _SCENE)
    a, sign, b = what.split()
    if sign == "->":
        step = next(step for step in seed.transitions if (step.source, step.target) == (a, b))
        asked = (f"{seed.node(a).gloss} {seed.node(b).gloss}\n\nIn one plain sentence, tell why this happens: "
                 f"{step.sentence}{tongue}")
        return asked, step.sentence.rstrip("."), _SENTENCE
    x, y = seed.node(a), seed.node(b)
    clash = next(clash for clash in seed.contradictions if (clash.a, clash.b) == (a, b))
    asked = (f"{x.gloss} {y.gloss}\n\nIn one plain sentence, say what one of them wants and the other forbids: "
             f"{x.name}, {y.name}.{tongue}")
    return asked, clash.sentence.removesuffix(" have their way.").rstrip("."), _SENTENCE


def _whole(text: str, what: str) -> str:
    text = " ".join(text.split())
    if what == "title":
        return text.strip(' "*.')
    ends = [match.end() for match in re.finditer(r"[.!?…](?=\s|$)", text)]
    return text[: ends[-1]] if ends else text


def _passes(text: str, what: str, start: str, seed: Seed) -> bool:
    words = [word.casefold() for word in _WORDS.findall(text)]
    if what == "title":
        return 2 <= len(words) <= 8 and len(text) <= 60 and text[:1].isupper()
    added = len(words) - len(_WORDS.findall(start))
    grams = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
    loops = len(set(grams)) < len(grams) - (2 if what == "scene" else 0)
    if loops or not text.endswith((".", "!", "?", "…")) or any(mark in text for mark in "#*[]|<>"):
        return False
    known = {node.gloss for node in seed.nodes} | {step.sentence for step in seed.transitions}
    return 120 <= len(text) <= 900 if what == "scene" else added >= 4 and len(text) <= 260 and text not in known
