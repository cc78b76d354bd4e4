"""The logician: what one node does to the next, in words; graph and formula are drawn and checked in code."""

from __future__ import annotations

from collections import Counter

from rostok.agents import checks
from rostok.agents.draft import Blank, Desk, Draft, Field, still_open
from rostok.agents.writer import fill_sentences, sentence_blanks
from rostok.engines.protocol import Sampling
from rostok.seeds import formula
from rostok.seeds.record import Seed


def step(draft: Draft, index: int) -> tuple[str, str, str]:
    """Name, operation and target of the transition that leaves a node: the next one in the order that code has drawn."""
    order, names = draft["order"], draft["names"]
    return names[index], draft["operations"][str(index)], names[order[(order.index(index) + 1) % len(order)]]


def opposites(draft: Draft) -> list[tuple[str, str]]:
    """Pairs that lie opposite each other on the way round, for the contradictions."""
    order, names = draft["order"], draft["names"]
    half = len(order) // 2
    return [(names[order[i]], names[order[i + half]]) for i in range(min(2, half))]


def flaw(seed: Seed) -> str | None:
    """What is wrong with a finished seed's logic: its formula must be read back as the graph that it was written from."""
    graph = formula.read(seed.formula)
    if formula.write(graph) != seed.formula:
        return "formula does not read back"
    steps = {(one.source, one.operation, one.target) for one in seed.transitions}
    return None if graph.steps == steps else "formula states another graph"


def _verb_blanks(desk: Desk, draft: Draft) -> list[Blank]:
    say, dice = desk.language.say, desk.dice(draft, "operations", draft["round"])
    blanks = []
    for index in still_open(desk, draft, "operations"):
        lines = [say.deed_line.format(deed=example.deed) for example in desk.language.shown(dice, 5)]
        prompt = "\n".join([say.deed_head, *lines, say.deed_ask.format(name=draft["names"][index])])
        blanks.append(Blank(str(index), prompt, Sampling(max_tokens=4, temperature=1.0, stop=("\n", ".")),
                            3 * desk.settings.candidates, raw=True))
    return blanks


def _fill_verbs(desk: Desk, draft: Draft, candidates: list[list[str]], counts: Counter[str]) -> tuple[Draft, bool]:
    """A verb for every node: its own where the model said one, else the likeliest of what it said of the others."""
    say = desk.language.say
    done, pool = dict(draft.get("operations", {})), list(draft.get("verbs", []))
    shown = {word for example in desk.language.examples for word in desk.language.words(example.deed)}
    for index, texts in zip(still_open(desk, draft, "operations"), candidates, strict=True):
        for text in texts:
            verb = (text.split() or [""])[0].strip(",;")
            reason = checks.verb_problem(desk.language, verb, shown=shown, used=done.values())
            if reason is not None:
                counts[reason] += 1
                continue
            pool.append(verb)
            if str(index) not in done:
                done[str(index)] = verb
    for index in range(desk.settings.nodes):
        free = sorted(set(pool) - set(done.values()))
        if str(index) not in done and free:
            start = say.deed_ask.format(name=draft["names"][index])
            fits = [score.mean for score in desk.engine.score(start, [say.deed_fit.format(verb=verb) for verb in free])]
            done[str(index)] = free[max(range(len(free)), key=fits.__getitem__)]
    return {**draft, "operations": done, "verbs": sorted(set(pool))}, len(done) == desk.settings.nodes


def _step(desk: Desk, draft: Draft, index: int) -> tuple[str, str]:
    say, (source, verb, target) = desk.language.say, step(draft, index)
    parts = {"source": source, "verb": verb, "target": target}
    return say.step.format(**parts, **draft["attributes"]), say.step_start.format(**parts)


FIELDS = (
    Field("operations", "logician", _verb_blanks, _fill_verbs),
    Field("steps", "logician", lambda desk, draft: sentence_blanks(desk, draft, "steps", _step),
          lambda desk, draft, texts, counts: fill_sentences(desk, draft, "steps", _step, texts, counts)),
)
