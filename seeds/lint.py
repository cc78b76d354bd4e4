"""Check a library that may have been edited by hand, line by line, and rewrite what code derives from the content.

A person may edit any content field in the file. The derived fields (id, formula, delta, glyphs) then no longer follow;
`lint` says so, `fix` rewrites them, and nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rostok.records import write_atomic
from rostok.seeds.library import read_lines
from rostok.seeds.record import Seed

_PLACEHOLDER = re.compile(r"lorem ipsum|\b(todo|tbd|fixme|placeholder|xxx+|n/a)\b|\[[^\]]*\]|\{[^}]*\}|<[^>]*>", re.IGNORECASE)
_LETTERS = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: on which line, what, and whether `fix` mends it."""

    line: int
    text: str
    fixable: bool = False


def lint(path: Path) -> list[Problem]:
    """Every problem of a library, in the order of its lines; empty when it is sound.

    Raises:
        DataError: there is no such file.
    """
    found: list[Problem] = []
    seen: dict[str, int] = {}
    for line in read_lines(path):
        found += [Problem(line.number, text) for text in line.problems]
        found += [Problem(line.number, f"{name}: does not follow from the content", fixable=True) for name in line.stale]
        if line.seed is None:
            continue
        found += [Problem(line.number, f"{name}: is empty or a placeholder") for name in placeholders(line.seed)]
        for what in (f"id: {line.seed.id}", f"lineage.place: {line.seed.lineage.place}"):
            first = seen.setdefault(what, line.number)
            if first != line.number:
                found.append(Problem(line.number, f"{what} stands on line {first} already"))
    return found


def fix(path: Path) -> list[tuple[int, str, str]]:
    """Rewrite derived fields that do not follow from the content; every other line stays as it is, byte for byte.

    Atomic; call with the run's lock held.

    Returns:
        (line, id as it stood there, id now) of every line rewritten.
    """
    lines = {line.number: line for line in read_lines(path)}
    changed, out = [], []
    for number, raw in enumerate(path.read_bytes().split(b"\n"), start=1):
        line = lines.get(number)
        if line is not None and line.seed is not None and line.stale:
            changed.append((number, str(json.loads(line.text).get("id", "")), line.seed.id))
            raw = line.seed.line().encode()
        out.append(raw)
    if changed:
        write_atomic(path, b"\n".join(out))
    return changed


def texts(seed: Seed) -> Iterator[tuple[str, str]]:
    """(field, text) of everything that a person reads in a seed."""
    yield "title", seed.title
    yield "scene", seed.scene
    for number, node in enumerate(seed.nodes):
        yield f"nodes.{number}.name", node.name
        yield f"nodes.{number}.gloss", node.gloss
    for number, step in enumerate(seed.transitions):
        yield f"transitions.{number}.operation", step.operation
        yield f"transitions.{number}.sentence", step.sentence
    for number, clash in enumerate(seed.contradictions):
        yield f"contradictions.{number}.sentence", clash.sentence


def placeholders(seed: Seed) -> list[str]:
    """Fields that say nothing: no letters, one letter over and over, or a mark such as TODO or […]."""
    return [name for name, text in texts(seed)
            if len(set(_LETTERS.findall(text.casefold()))) < 2 or _PLACEHOLDER.search(text)]
