"""What all paths share: the ensemble, its faces, the answers in the making, and how an answer is told."""

from __future__ import annotations

import time
from typing import Any

from rostok.ensemble.conversation import Ensemble
from rostok.ensemble.history.answer import Answer
from rostok.ensemble.routing.router import Route
from rostok.ensemble.serve.answering import Answering
from rostok.ensemble.serve.faces import Faces
from rostok.ensemble.serve.metrics import Metrics
from rostok.ensemble.serve.place import SeedPlaces
from rostok.seeds.library import Library


class Desk:
    """One server's ensemble. Made where the event loop is not needed yet."""

    def __init__(self, ensemble: Ensemble, places: int) -> None:
        self.ensemble, self.run = ensemble, ensemble.run
        self.seeds = {seed.id: seed for seed in Library(self.run.seeds).seeds()}
        self.faces = Faces(self.seeds, ensemble.experts, ensemble.titles)
        self.metrics = Metrics()
        self.answering = Answering(places, self.metrics)
        self.map = SeedPlaces(ensemble.memory, list(self.seeds))
        self.started = int(time.time())

    def speaker_of(self, route: Route) -> str | None:
        """The seed of the expert that answers on this route; None for the base, also where the expert does not serve."""
        return route.seed if route.seed in self.ensemble.experts else None

    def told(self, answer: Answer) -> dict[str, Any]:
        """What stands beside an answer's text: who spoke, why, what was read, what it cost."""
        return {
            **self.faces.reasons(answer.route), "finish": answer.finish, "note": answer.note,
            "experts": [self.faces.of(seed).told() for seed in answer.experts or (None,)],
            "memories": [one.model_dump() for one in answer.memories],
            "tokens": answer.tokens, "prompt_tokens": answer.prompt_tokens, "seconds": answer.seconds}
