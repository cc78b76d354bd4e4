"""The librarian: makes a seed of a finished draft, compares it with the library, admits it or keeps it aside with the reason."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from rostok import __version__
from rostok.agents import logician
from rostok.agents.draft import Desk, Draft
from rostok.agents.questioner import tensions
from rostok.agents.writer import scene_prompt
from rostok.records import problems
from rostok.seeds.library import DraftRecord
from rostok.seeds.measures import NEAR, thought
from rostok.seeds.record import Contradiction, Lineage, Node, Seed, Transition

_NODES_SHARED = 6  # a sixth of the nodes may stand in another seed, too
_KEPT = 300        # characters of an objection, a question or an answer that go into the lineage


def judge(desk: Desk, draft: Draft) -> tuple[Seed | None, str]:
    """The seed, or None with the reason why it is not admitted. The library is left as it is."""
    if draft["problem"]:
        return None, str(draft["problem"])
    try:
        seed = finish(desk, draft)
    except ValidationError as error:
        return None, problems(error)
    reason = logician.flaw(seed) or too_near(desk, seed)
    return (None, reason) if reason else (seed, "")


def record(draft: Draft, reason: str) -> DraftRecord:
    """What the draft cost, for the library's measures."""
    return DraftRecord(place=draft["place"], attempt=draft["attempt"], admitted=not reason, reason=reason,
                       retries=draft["retries"], refused=draft["refused"], tokens=draft["tokens"])


def finish(desk: Desk, draft: Draft) -> Seed:
    """The finished draft as a seed: keys, tensions, lineage and scores by code.

    Raises:
        ValueError: the record refuses it (pydantic's error names field and reason).
    """
    names, order = draft["names"], draft["order"]
    keys = [f"n{index + 1:02d}" for index in range(len(names))]
    follows = {order[i]: order[(i + 1) % len(order)] for i in range(len(order))}
    measured = tensions(desk, draft)
    transitions = tuple(
        Transition(source=keys[here], operation=draft["operations"][str(here)], target=keys[there],
                   tension=round(measured[here], 3), sentence=draft["steps"][str(here)])
        for here, there in sorted(follows.items()))
    scene_fit, scene_alone = (desk.engine.score(context, [" " + draft["scene"]])[0].mean
                              for context in (scene_prompt(desk, draft) + "\n", "\n"))
    return Seed(
        title=draft["title"], language=desk.language.code, scene=draft["scene"],
        nodes=tuple(Node(key=key, name=name, gloss=draft["glosses"][str(index)])
                    for index, (key, name) in enumerate(zip(keys, names, strict=True))),
        transitions=transitions,
        contradictions=tuple(Contradiction(a=keys[names.index(a)], b=keys[names.index(b)], sentence=sentence)
                             for a, b, sentence in draft["clashes"]),
        registers=tuple(draft["registers"]),
        scores={"tension": round(sum(measured) / len(measured), 3), "scene_fit": round(scene_fit - scene_alone, 3)},
        lineage=Lineage(theme=desk.theme, attributes={**draft["attributes"], **_story(draft)}, place=draft["place"],
                        attempt=draft["attempt"], random_seed=desk.random_seed, model=desk.model_sha256, rostok=__version__))


def too_near(desk: Desk, seed: Seed) -> str | None:
    """Why a seed is no new thought beside the admitted ones, or None."""
    others = [old for old in desk.admitted() if old.lineage.place != seed.lineage.place]
    for other in others:
        if seed.title.casefold() == other.title.casefold():
            return f"same title as {other.id}"
        shared = {node.name for node in seed.nodes} & {node.name for node in other.nodes}
        if len(shared) > len(seed.nodes) // _NODES_SHARED:
            return f"{len(shared)} nodes of {other.id}"
    if others:
        cosines = desk.embedder.embed([thought(other) for other in others]) @ desk.embedder.embed([thought(seed)])[0]
        if float(cosines.max()) >= NEAR:
            return f"scene is nearly that of {others[int(cosines.argmax())].id}"
    return None


def _story(draft: Draft) -> dict[str, str]:
    """What the antagonist held against the scene, and what the seed was asked: kept as the model's words in the lineage."""
    told: dict[str, Any] = {}
    if draft.get("objection"):
        told["objection"] = draft["objection"]
        told["revised"] = "yes" if draft.get("revised") else "no"
    for number, entry in enumerate(draft.get("questions", []), start=1):
        told[f"question {number}"] = entry["question"]
        told[f"answer {number}"] = entry["answer"] or "(none raised the tension)"
    return {name: str(text)[:_KEPT] for name, text in told.items()}
