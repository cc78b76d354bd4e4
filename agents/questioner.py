"""Self-questioning: a seed is asked what its flattest transition leaves open, and keeps an answer that adds tension."""

from __future__ import annotations

from collections import Counter

import numpy as np

from rostok.agents import checks
from rostok.agents.critic import choose
from rostok.agents.draft import Blank, Desk, Draft, Field, passed
from rostok.agents.writer import SENTENCE
from rostok.engines.protocol import Sampling


def tensions(desk: Desk, draft: Draft) -> list[float]:
    """Tension of the transition that leaves each node: how far the glosses of its two ends lie apart (1 - cosine, 0 to 1)."""
    order = draft["order"]
    vectors = desk.embedder.embed([draft["glosses"][str(index)] for index in range(len(order))])
    after = {here: order[(place + 1) % len(order)] for place, here in enumerate(order)}
    return [float(np.clip(1.0 - vectors[index] @ vectors[after[index]], 0.0, 1.0)) for index in range(len(order))]


def fields(rounds: int) -> tuple[Field, ...]:
    """Question and answer, so many times."""
    return (_QUESTION, _ANSWER) * rounds


def _flattest(desk: Desk, draft: Draft) -> int:
    asked = {entry["node"] for entry in draft.get("questions", [])}
    open_ones = [index for index in range(desk.settings.nodes) if index not in asked] or list(range(desk.settings.nodes))
    found = tensions(desk, draft)
    return min(open_ones, key=found.__getitem__)


def _question_blanks(desk: Desk, draft: Draft) -> list[Blank]:
    say = desk.language.say
    shown = [say.question_line.format(deed=example.deed + ".", question=example.question)
             for example in desk.language.shown(desk.dice(draft, "question", len(draft.get("questions", [])), draft["round"]), 4)]
    said = draft["steps"][str(_flattest(desk, draft))]
    return [Blank("question", "\n".join([say.question_head, *shown, say.question_ask.format(said=said)]),
                  Sampling(max_tokens=24, temperature=0.9, stop=("\n",)), 2 * desk.settings.candidates, raw=True)]


def _fill_question(desk: Desk, draft: Draft, candidates: list[list[str]], counts: Counter[str]) -> tuple[Draft, bool]:
    shown = [example.question for example in desk.language.examples]
    before = [entry["question"] for entry in draft.get("questions", [])]

    def problem(text: str) -> str | None:
        if "?" not in text or len(desk.language.words(text)) < 4:
            return "no question"
        if checks.looping(desk.language, text) or text in before:
            return "loop"
        return "copies an example" if checks.copied(desk.language, text, shown, 4) else None

    good = passed([text.strip().split("?")[0] + "?" if "?" in text else text for text in candidates[0]], problem, counts)
    if not good:
        return {**draft, "question": None}, False
    node = _flattest(desk, draft)
    return {**draft, "question": {"node": node, "question": choose(desk, draft["steps"][str(node)], good)}}, True


def _answer_blanks(desk: Desk, draft: Draft) -> list[Blank]:
    question = draft.get("question")
    if not question:
        return []
    say, name = desk.language.say, draft["names"][question["node"]]
    prompt = say.answer.format(scene=draft["scene"], said=draft["steps"][str(question["node"])], question=question["question"])
    return [Blank("answer", prompt, SENTENCE, 2 * desk.settings.candidates, start=say.gloss_start.format(name=name),
                  grammar=desk.language.sentence_grammar)]


def _fill_answer(desk: Desk, draft: Draft, candidates: list[list[str]], counts: Counter[str]) -> tuple[Draft, bool]:
    """Keep the answer as the node's gloss where the mean tension of the whole seed rises by it."""
    question = draft.get("question")
    if not question:
        return draft, True
    key = str(question["node"])
    start = desk.language.say.gloss_start.format(name=draft["names"][question["node"]])
    good = passed(candidates[0], lambda text: checks.sentence_problem(
        desk.language, text, start=start, prompt=question["question"]), counts)
    before = float(np.mean(tensions(desk, draft)))
    raised = []
    for text in good:
        after = float(np.mean(tensions(desk, {**draft, "glosses": {**draft["glosses"], key: text}})))
        if after > before and text not in draft["glosses"].values():
            raised.append((after, text))
    after, text = max(raised, default=(before, ""))
    entry = {**question, "answer": text, "tension": round(after, 4), "before": round(before, 4)}
    glosses = {**draft["glosses"], key: text} if text else draft["glosses"]
    return {**draft, "glosses": glosses, "question": None, "questions": [*draft.get("questions", []), entry]}, True


_QUESTION = Field("question", "questioner", _question_blanks, _fill_question, rounds=2, optional=True)
_ANSWER = Field("answer", "questioner", _answer_blanks, _fill_answer, rounds=1, optional=True)
