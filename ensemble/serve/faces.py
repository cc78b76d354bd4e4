"""The experts as people and programs see them: name, number, colour, and the ids by which one is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rostok.ensemble.history.answer import BASE, hue
from rostok.ensemble.routing.router import Route
from rostok.swarm.records import Expert

AUTO = "auto"


@dataclass(frozen=True)
class Face:
    """Whoever may answer. `model` is the name in the API; `hue` is in degrees, as in `answer.hue`."""

    seed: str | None
    model: str
    title: str
    number: int
    hue: int | None

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


NOBODY = Face(None, BASE, BASE, 0, None)


class Faces:
    """All that serve, in the order of the library, so that their numbers are those of the report.

    Args:
        seeds: ids of the library's seeds in order.
        experts: {seed: expert} of those that serve.
        titles: {seed: title} of all that are known.
    """

    def __init__(self, seeds: Iterable[str], experts: Mapping[str, Expert], titles: Mapping[str, str]) -> None:
        order = list(seeds)
        order += [seed for seed in experts if seed not in order]
        ids = [expert.id for expert in experts.values()]
        self._faces: dict[str, Face] = {}
        for place, seed in enumerate(order):
            expert = experts.get(seed)
            model = expert.id if expert is not None and ids.count(expert.id) == 1 else seed
            self._faces[seed] = Face(seed, model, titles.get(seed, seed), place + 1, hue(seed))
        self.serving = [self._faces[seed] for seed in order if seed in experts]

    def of(self, seed: str | None) -> Face:
        """The face of a seed, which may not serve, or of the base."""
        if seed is None:
            return NOBODY
        return self._faces.get(seed) or Face(seed, seed, seed, 0, hue(seed))

    def called(self, model: str) -> Face | None:
        """Who is meant by a model's name: an id of the registry, a seed's id, or `base`. Nothing else, and no path."""
        if model == BASE:
            return NOBODY
        return next((face for face in self.serving if model in (face.model, face.seed)), None)

    def reasons(self, route: Route) -> dict[str, Any]:
        """Why somebody answers: scores by seed, and the evidence."""
        return {
            "wanted": self.of(route.seed).told(), "pinned": route.pinned, "strategy": route.strategy,
            "score": round(route.score, 4), "threshold": round(route.threshold, 4),
            "scores": [{**self.of(seed).told(), "weight": round(weight, 4)} for seed, weight in list(route.scores.items())[:12]],
            "neighbours": [one.model_dump() for one in route.neighbours[:8]],
        }
