"""Which experts of a run may serve: experts.jsonl against the files it names and the base it is to run on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rostok.config import EnsembleSettings
from rostok.engines.protocol import Engine
from rostok.ensemble.hot import keep_hot
from rostok.errors import ModelError, RunError
from rostok.models import Base
from rostok.records import file_digest, read_jsonl
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm.records import Expert

_SPLICE = re.compile(r"x-[0-9a-f]{12}")


@dataclass
class Serving:
    """The experts that serve, where their adapters lie, and one sentence for each that does not."""

    run: Run
    experts: list[Expert] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def load(self, engine: Engine, settings: EnsembleSettings) -> None:
        """Register the adapters under their seeds' ids, as many in memory as its budget holds; one refused is skipped.

        Raises:
            RunError: none is left.
        """
        keep_hot(engine, [adapter_file(self.run, expert) for expert in self.experts], settings)
        for expert in list(self.experts):
            try:
                engine.add_adapter(expert.seed, adapter_file(self.run, expert).parent)
            except ModelError as error:
                self.experts.remove(expert)
                self.skipped.append(f"“{expert.title}” ({expert.id}) is left out: {error}")
        self.check()

    def check(self) -> None:
        """Raises `RunError` when no expert is left to serve."""
        if not self.experts:
            reasons = " ".join(self.skipped) or "there are none."
            raise RunError(f"no expert of {self.run.folder} can serve: {reasons} Train them: "
                           f"rostok swarm train {self.run.folder}")


def admit(run: Run, seeds: Sequence[Seed], base: Base) -> Serving:
    """Read experts.jsonl, where a seed's last line counts. An expert whose adapter is gone or changed is skipped.

    Raises:
        ModelError: an expert was trained on another base.
        RunError: no expert is left.
        DataError: a line of experts.jsonl is not valid.
    """
    known = {seed.id for seed in seeds}
    registered = {expert.seed: expert for expert in read_jsonl(run.registry, Expert)}
    serving = Serving(run)
    for expert in registered.values():
        name = f"“{expert.title}” ({expert.id})"
        absent = [seed for seed in expert.seeds if seed not in known]
        if absent:  # also keeps a stranger's registry from naming a path outside the run
            serving.skipped.append(f"{name} is left out: its seed {absent[0]} is not in the library.")
            continue
        if expert.operator and not _SPLICE.fullmatch(expert.seed):
            serving.skipped.append(f"{name} is left out: '{expert.seed}' is no name of a splice.")
            continue
        again = f"repeat the {expert.operator}" if expert.operator else f"run: rostok swarm train {run.folder}"
        if expert.base_sha256 != base.sha256:
            raise ModelError(
                f"the expert {name} is an adapter for another base (sha256 {expert.base_sha256[:12]}); this is "
                f"{base.name} ({base.sha256[:12]}). Set models.base to the one it was trained on, or train again: "
                f"rostok swarm train {run.folder}")
        path = adapter_file(run, expert)
        if not path.is_file():
            serving.skipped.append(f"{name} is left out: {path} is missing. To make it anew, {again}")
        elif file_digest(path) != expert.gguf_sha256:
            serving.skipped.append(f"{name} is left out: {path} was changed since it was made. "
                                   f"Delete its folder and {again}")
        else:
            serving.experts.append(expert)
    serving.check()
    return serving


def adapter_file(run: Run, expert: Expert) -> Path:
    """The expert's adapter as llama.cpp reads it."""
    return run.experts / expert.seed / "adapter.gguf"
