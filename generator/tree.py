"""A plan to look at: kinds, what their pages are about, registers, forms and cuts, as a tree for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.text import Text
from rich.tree import Tree

from rostok.generator.groups import coverage, runs
from rostok.generator.records import KINDS, PageSpec
from rostok.seeds.record import Seed

_FOCUS = {1: "paths along the transitions", 2: "pairs", 3: "triples"}


def tree(seed: Seed, specs: Sequence[PageSpec], *, examples: int = 3, whole: bool = True) -> Tree:
    """The plan of one seed.

    Args:
        examples: plan lines shown of every branch.
        whole: with all branches; otherwise only the kinds.
    """
    top = Tree(Text(f"{seed.id}  {seed.title}: {len(specs)} pages, {sum(spec.held_out for spec in specs)} held out"))
    for kind in KINDS:
        ours = [spec for spec in specs if spec.kind == kind]
        if not ours:
            continue
        branch = top.add(Text(f"{kind}: {len(ours)} pages{_coverage(ours, seed)}"))
        if not whole:
            continue
        for name, values in (("registers", (spec.register_ for spec in ours)), ("forms", (spec.form for spec in ours)),
                             ("depths", (str(spec.depth) for spec in ours if spec.path)),
                             ("cuts", ("+".join(map(str, spec.fragmentation)) for spec in ours))):
            counted = _counted(values)
            if counted:
                branch.add(Text(f"{name}: {counted}"))
        for size in sorted({len(spec.focus) for spec in ours}):
            group = [spec for spec in ours if len(spec.focus) == size]
            leaf = branch.add(Text(f"{_FOCUS[size]}: {len(group)}")) if size else branch
            for spec in group[:examples]:
                leaf.add(Text(_line(spec, seed), overflow="fold"))
    return top


def _line(spec: PageSpec, seed: Seed) -> str:
    parts = [spec.register_, spec.form + (f" of page {spec.source}" if spec.source is not None else "")]
    if spec.path:
        parts.append(f"depth {spec.depth}")
    if spec.fragmentation:
        parts.append("+".join(map(str, spec.fragmentation)))
    if spec.path:
        parts.append("; ".join(" > ".join(seed.name(key) for key in run) for run in runs(spec.path, seed)))
    if spec.held_out:
        parts.append("held out")
    return f"{spec.number}  " + " · ".join(part for part in parts if part)


def _coverage(specs: Iterable[PageSpec], seed: Seed) -> str:
    least, most = coverage((spec.path for spec in specs), seed)
    if not most:
        return ""
    return f", every step told {least} times" if least == most else f", every step told {least} to {most} times"


def _counted(values: Iterable[str]) -> str:
    return ", ".join(f"{value} {number}" for value, number in sorted(Counter(value for value in values if value).items()))
