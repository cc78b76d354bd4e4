"""The antagonist: attacks the scene, and states what clashes. A scene that is written again must win against the first."""

from __future__ import annotations

from collections import Counter

from rostok.agents import checks
from rostok.agents.critic import choose
from rostok.agents.draft import Blank, Desk, Draft, Field, passed
from rostok.agents.logician import opposites
from rostok.agents.writer import SCENE, SENTENCE, good_scenes, scene_prompt
from rostok.seeds.measures import thought_of


def _objection_blanks(desk: Desk, draft: Draft) -> list[Blank]:
    say = desk.language.say
    return [Blank("objection", say.objection.format(scene=draft["scene"]), SENTENCE, desk.settings.candidates,
                  start=say.objection_start, grammar=desk.language.sentence_grammar)]


def _fill_objection(desk: Desk, draft: Draft, candidates: list[list[str]], counts: Counter[str]) -> tuple[Draft, bool]:
    say = desk.language.say
    good = passed(candidates[0], lambda text: checks.sentence_problem(
        desk.language, text, start=say.objection_start, prompt=say.objection.format(scene=""), shortest=4), counts)
    if not good:
        return draft, False
    return {**draft, "objection": choose(desk, say.objection.format(scene=draft["scene"]) + "\n", good)}, True


def _revision_blanks(desk: Desk, draft: Draft) -> list[Blank]:
    if "objection" not in draft:
        return []
    say = desk.language.say
    return [Blank("revision", say.revision.format(scene=draft["scene"], objection=draft["objection"]),
                  SCENE, desk.settings.candidates, start=say.scene_start.format(**draft["attributes"]),
                  grammar=desk.language.scene_grammar)]


def _fill_revision(desk: Desk, draft: Draft, candidates: list[list[str]], counts: Counter[str]) -> tuple[Draft, bool]:
    """The better of the first scene and its revisions; the first one stays where nothing beats it."""
    if not candidates:
        return draft, True
    good = [text for text in good_scenes(desk, draft, candidates[0], counts)
            if not checks.copied(desk.language, text, [draft["scene"]], 8)]
    chosen = choose(desk, scene_prompt(desk, draft) + "\n", [draft["scene"], *good],
                    as_seed=lambda scene: thought_of(draft["title"], scene))
    return {**draft, "scene": chosen, "revised": chosen != draft["scene"]}, True


def _clash(desk: Desk, draft: Draft, a: str, b: str) -> tuple[str, str]:
    say = desk.language.say
    return say.clash.format(a=a, b=b, **draft["attributes"]), say.clash_start.format(a=a, b=b)


def _clash_blanks(desk: Desk, draft: Draft) -> list[Blank]:
    blanks = []
    for a, b in opposites(draft):
        prompt, start = _clash(desk, draft, a, b)
        blanks.append(Blank(a, prompt, SENTENCE, desk.settings.candidates, start=start, grammar=desk.language.sentence_grammar))
    return blanks


def _fill_clashes(desk: Desk, draft: Draft, candidates: list[list[str]], counts: Counter[str]) -> tuple[Draft, bool]:
    done = list(draft.get("clashes", []))
    for (a, b), texts in zip(opposites(draft), candidates, strict=True):
        prompt, start = _clash(desk, draft, a, b)

        def problem(text: str, start: str = start, prompt: str = prompt) -> str | None:
            return checks.sentence_problem(desk.language, text, start=start, prompt=prompt, shortest=3)

        good = passed(texts, problem, counts)
        if good and [a, b] not in [clash[:2] for clash in done]:
            done.append([a, b, choose(desk, prompt + "\n", good)])
    return {**draft, "clashes": done}, len(done) >= 1


ATTACK = (
    Field("objection", "antagonist", _objection_blanks, _fill_objection, rounds=2, optional=True),
    Field("revision", "writer", _revision_blanks, _fill_revision, rounds=1, optional=True),
)
CLASHES = Field("clashes", "antagonist", _clash_blanks, _fill_clashes)
