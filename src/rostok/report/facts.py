"""The figures of a run as one plain object: what `rostok report RUN --json` prints. DESIGN.md names the keys."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rostok.report import sources
from rostok.runs import Run


def facts(run: Run) -> dict[str, Any]:
    """The run in figures; parts that it has not reached are None.

    Returns:
        `seeds` [{id, title, theme}], `pages` {accepted, rejected {reason: count}} of the finished corpora,
        `stages` [{name, seconds, peak_mib, tokens}], `matrix` (bits per byte), `probes` and `chat_probes` (share
        right), `structure_probes` {`operation`, `contradiction`: the same, and `chance`}, `chance`, `general` (nats
        per token), `router` {top1, abstain}, `retrieval` {with, without, items}, `versions`, `models` {role: {name,
        sha256}}.

    Raises:
        RunError: the folder holds no run, or one of another format.
        DataError: a file of the run is damaged.
    """
    file = run.read()
    measured = sources.measurements(run)
    return {
        "seeds": [{"id": seed.id, "title": seed.title, "theme": seed.lineage.theme} for seed in sources.seeds(run)]
        or None,
        "pages": _pages(run),
        "stages": _stages(run),
        "matrix": (measured.matrix or None) if measured else None,
        "probes": (measured.probes or None) if measured else None,
        "structure_probes": (measured.structure_probes or None) if measured else None,
        "chat_probes": (measured.chat_probes or None) if measured else None,
        "chance": measured.chance if measured else None,
        "general": (measured.general or None) if measured else None,
        "router": {name: measured.router.get(name) for name in ("top1", "abstain")}
        if measured and measured.router
        else None,
        "retrieval": (measured.retrieval or None) if measured else None,
        "versions": file.versions or None,
        "models": {role: {"name": model.name, "sha256": model.sha256} for role, model in file.models.items()}
        or None,
    }


def _pages(run: Run) -> dict[str, Any] | None:
    finished = sources.manifests(run)
    if not finished:
        return None
    rejected: Counter[str] = Counter()
    for manifest in finished.values():
        rejected.update(manifest.rejected)
    return {
        "accepted": sum(manifest.pages for manifest in finished.values()),
        "rejected": dict(rejected.most_common()),
    }


def _stages(run: Run) -> list[dict[str, Any]] | None:
    """Cost per stage over all sessions, in the order in which the stages first appear in the journal."""
    journal = sources.events(run)
    ended = [event for event in journal if event.kind == "end" and event.stage]
    order = dict.fromkeys(event.stage for event in journal if event.stage)
    stages = []
    for name in order:
        sessions = [event for event in ended if event.stage == name]
        if sessions:
            stages.append(
                {
                    "name": name,
                    "seconds": round(sum(event.seconds for event in sessions), 2),
                    "peak_mib": max(event.peak_mib for event in sessions),
                    "tokens": sum(event.tokens for event in sessions),
                }
            )
    return stages or None
