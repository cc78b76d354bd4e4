"""The page that a person looks at in the morning: report.html, one file that needs nothing else and no network.

Everything that a model wrote reaches the template as plain text; Jinja2 escapes all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from rostok.generator.records import KINDS
from rostok.records import write_atomic
from rostok.report import draw, sources
from rostok.report.facts import facts
from rostok.report.verdict import mean, verdict
from rostok.report.wording import Wording
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm.records import Figures

SHOWN = 12  # seeds, rows and legend entries in sight; the rest is folded away
LARGEST_TABLE = 16  # corpora; a larger matrix is drawn in small cells with the numbers as tooltips
REJECT_CHARACTERS = 300


def write_report(run: Run, language: str = "en") -> Path:
    """Write report.html and return its path.

    Args:
        run: the run, at whatever stage it is.
        language: of the interface, a key of `texts.TEXTS`; what models wrote stays as it is.

    Raises:
        ConfigError: there is no such language.
        RunError: the folder holds no run, or one of another format.
        DataError: a file of the run is damaged.
        StorageError: report.html cannot be written.
    """
    environment = Environment(
        loader=PackageLoader("rostok.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html.j2").render(_contents(run, Wording(language)))
    write_atomic(run.report, page)
    return run.report


@dataclass(frozen=True)
class Label:
    """How a seed is called and drawn throughout the page: number, title, hue and dash pattern."""

    id: str
    number: int
    title: str
    language: str
    colour: int
    dash: str


@dataclass(frozen=True)
class Scores:
    """One row of a table of probes."""

    label: Label | None
    expert: float | None
    base: float | None
    base_with_seed: float | None


def _contents(run: Run, wording: Wording) -> dict[str, Any]:
    """Everything the template names."""
    file, figures, seeds = run.read(), facts(run), sources.seeds(run)
    measured, experts, finished = sources.measurements(run), sources.figures(run), sources.manifests(run)
    measured_rows = (
        [*measured.matrix, *measured.probes, *measured.chat_probes, *measured.general] if measured else []
    )
    labels = _labels(seeds, [*experts, *finished, *measured_rows])
    stages = figures["stages"] or []
    return {
        "t": wording,
        "shown": SHOWN,
        "theme": file.settings.theme,
        "verdict": verdict(figures, wording),
        "facts": figures,
        "labels": labels,
        "experts": len(experts),
        "seconds": sum(stage["seconds"] for stage in stages),
        "peak_mib": max((stage["peak_mib"] for stage in stages), default=0),
        "map": _map(run, labels),
        "cards": [(labels[seed.id], seed, draw.ring(seed)) for seed in seeds],
        "matrix": _matrix(figures["matrix"], labels),
        "choice": _scores(figures["probes"], labels),
        "structure": [
            (kind, _scores(rows, labels), mean(rows["chance"])) for kind, rows in (figures["structure_probes"] or {}).items()
        ],
        "chat": _scores(figures["chat_probes"], labels),
        "chance": figures["chance"],
        "examples": _examples(measured.chat_examples if measured else ()),
        "general": _general(figures["general"], labels),
        "chart": draw.curves(
            {
                seed: [(point.step, point.loss) for point in expert.curve]
                for seed, expert in _in_order(experts, labels)
            }
        ),
        "school": sources.school(run),
        "growth": [(labels[seed], expert) for seed, expert in _in_order(experts, labels)],
        "kinds": [
            (kind, count)
            for kind in KINDS
            if (count := sum(manifest.by_kind.get(kind, 0) for manifest in finished.values()))
        ],
        "accepted": sources.accepted_examples(run, finished),
        "rejected": sources.rejected_examples(run, finished),
        "reject_characters": REJECT_CHARACTERS,
        "settings": yaml.safe_dump(file.settings.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        "file": file,
        "name": run.folder.resolve().name,
        "share": draw.share,
    }


def _labels(seeds: Sequence[Seed], others: Iterable[str]) -> dict[str, Label]:
    """Labels by seed id: the library's seeds in order, then whatever else has an artefact in the run."""
    titles = {seed.id: (seed.title, seed.language) for seed in seeds}
    for name in others:
        if name not in ("base", "base_with_seed"):
            titles.setdefault(name, (name, ""))
    return {
        seed: Label(seed, index + 1, title, language, draw.colour(index), draw.dash(index))
        for index, (seed, (title, language)) in enumerate(titles.items())
    }


def _in_order(found: Mapping[str, Figures], labels: Mapping[str, Label]) -> list[tuple[str, Figures]]:
    return sorted(found.items(), key=lambda item: labels[item[0]].number)


def _map(run: Run, labels: Mapping[str, Label]) -> dict[str, Any] | None:
    found = sources.seed_map(run)
    if found is None or not found.points:
        return None
    points = [point for point in found.points if point.seed in labels]
    kinds = [point.kind for point in points]
    titles = {seed: label.title for seed, label in labels.items()} if len(labels) <= SHOWN else {}
    return {"drawing": draw.scatter(points, titles), "seeds": kinds.count("seed"), "pages": kinds.count("page")}


def _matrix(
    matrix: Mapping[str, Mapping[str, float]] | None, labels: Mapping[str, Label]
) -> dict[str, Any] | None:
    if not matrix:
        return None
    corpora = {corpus for row in matrix.values() for corpus in row}
    columns = [seed for seed in labels if seed in corpora]
    rows = [seed for seed in labels if seed in matrix] + ["base"] * ("base" in matrix)
    return {
        "rows": rows,
        "columns": columns,
        "cells": draw.heat(matrix, rows, columns),
        "large": len(columns) > LARGEST_TABLE,
        "own": [
            (labels[seed], matrix[seed][seed], matrix.get("base", {}).get(seed))
            for seed in rows
            if seed in matrix[seed]
        ],
    }


def _scores(probes: Mapping[str, Mapping[str, float]] | None, labels: Mapping[str, Label]) -> list[Scores] | None:
    """The mean of all seeds first, then seed by seed: the seed's own expert, the base, the base with the seed."""
    if not probes:
        return None
    own = {seed: probes[seed][seed] for seed in labels if seed in probes.get(seed, {})}
    base, seeded = probes.get("base", {}), probes.get("base_with_seed", {})
    rows = [
        Scores(label, own.get(seed), base.get(seed), seeded.get(seed))
        for seed, label in labels.items()
        if seed in own or seed in base or seed in seeded
    ]
    return [Scores(None, mean(own), mean(base), mean(seeded)), *rows]


def _examples(examples: Sequence[dict[str, str]], most: int = 3) -> list[dict[str, str]]:
    """The first example of each seed, up to three."""
    blank = dict.fromkeys(("seed", "question", "expected", "base", "expert"), "")
    by_seed: dict[str, dict[str, str]] = {}
    for example in examples:
        by_seed.setdefault(example.get("seed", ""), {**blank, **example})
    return list(by_seed.values())[:most]


def _general(general: Mapping[str, float] | None, labels: Mapping[str, Label]) -> dict[str, Any] | None:
    if not general:
        return None
    return {
        "base": general.get("base"),
        "rows": [(labels[seed], general[seed]) for seed in labels if seed in general],
        "mean": mean({seed: value for seed, value in general.items() if seed != "base"}),
        "top": max(general.values()),
    }
