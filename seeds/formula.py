"""The formula: a seed's graph as one line that people and programs can read.

    n01 -binds-> n02 -melts-> n03 -wakes-> n01 | n02 -calls-> n04! ; n01 # n03

The graph is told as paths. A path begins with a node and goes on with transitions; the bar begins another path, where
the thought branches or begins anew. `!` marks the release, the one node that leads nowhere. After the semicolon stand
the contradictions, `#` between the two nodes of each. The grammar, in EBNF:

    formula   = path { " | " path } [ " ; " clash { ", " clash } ]
    path      = node { " -" operation "-> " node }
    clash     = key " # " key
    node      = key [ "!" ]
    key       = "n" digit digit
    operation = letters { ( " " | "'" | "’" | "-" ) letters } | JSON string

An operation that is not words alone is written as a JSON string. Spaces between the parts may be any white space when
read. `read(write(graph))` gives the same graph, and `write(read(text))` the one canonical line for it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import NoReturn

from rostok.errors import DataError
from rostok.seeds.graph import walk

_KEY = re.compile(r"\s*(n\d\d)(!?)", re.ASCII)
_BARE = re.compile(r"[^\W\d_]+(?:[ '’-][^\W\d_]+)*")
_STEP = re.compile(r'\s*-(?:(?P<bare>[^\W\d_]+(?:[ \'’-][^\W\d_]+)*)|(?P<quoted>"(?:[^"\\]|\\.)*"))->')
_MARK = {mark: re.compile(rf"\s*{re.escape(mark)}") for mark in "|;#,"}


@dataclass(frozen=True)
class Graph:
    """What a formula states.

    Attributes:
        start: the key of the node at which the telling begins.
        steps: transitions as (source, operation, target).
        release: the key of the node that leads nowhere, or None.
        clashes: the contradictions as pairs of keys, in their order.
    """

    start: str
    steps: frozenset[tuple[str, str, str]]
    release: str | None = None
    clashes: tuple[tuple[str, str], ...] = ()


def write(graph: Graph) -> str:
    """The canonical formula of a graph: its steps in the order of the walk from `start`."""
    def node(key: str) -> str:
        return f"{key}!" if key == graph.release else key

    operations = {(source, target): operation for source, operation, target in graph.steps}
    paths, here = [node(graph.start)], graph.start
    for source, target in walk(graph.start, operations):
        if source != here:
            paths.append(node(source))
        operation = operations[source, target]
        said = operation if _BARE.fullmatch(operation) else json.dumps(operation, ensure_ascii=False)
        paths[-1] += f" -{said}-> {node(target)}"
        here = target
    clashes = ", ".join(f"{a} # {b}" for a, b in graph.clashes)
    return " | ".join(paths) + (f" ; {clashes}" if clashes else "")


def read(text: str) -> Graph:
    """The graph that a formula states.

    Raises:
        DataError: no formula; the message tells where, and what should stand there.
    """
    reader = _Reader(text)
    start, steps, clashes = "", set(), []
    pairs: set[tuple[str, str]] = set()
    while True:
        here = reader.node()
        start = start or here
        while (operation := reader.operation()) is not None:
            target = reader.node()
            if (here, target) in pairs:
                reader.refuse(f"a second transition from {here} to {target}")
            pairs.add((here, target))
            steps.add((here, operation, target))
            here = target
        if not reader.mark("|"):
            break
    if reader.mark(";"):
        while True:
            a = reader.node()
            if not reader.mark("#"):
                reader.refuse("no '#' between the two nodes of a contradiction")
            clashes.append((a, reader.node()))
            if not reader.mark(","):
                break
    reader.end()
    return Graph(start, frozenset(steps), reader.release, tuple(clashes))


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0
        self.release: str | None = None

    def node(self) -> str:
        found = _KEY.match(self.text, self.at)
        if found is None:
            self.refuse("no node key such as n01")
        self.at = found.end()
        if found[2]:
            if self.release not in (None, found[1]):
                self.refuse(f"a second release beside {self.release}")
            self.release = found[1]
        return found[1]

    def operation(self) -> str | None:
        found = _STEP.match(self.text, self.at)
        if found is None:
            return None
        self.at = found.end()
        if found["bare"] is not None:
            return found["bare"]
        try:
            return str(json.loads(found["quoted"]))
        except json.JSONDecodeError:
            self.refuse("a quoted operation that is no JSON string")

    def mark(self, sign: str) -> bool:
        found = _MARK[sign].match(self.text, self.at)
        self.at = found.end() if found else self.at
        return found is not None

    def end(self) -> None:
        if self.text[self.at :].strip():
            self.refuse("something that is no formula")

    def refuse(self, what: str) -> NoReturn:
        rest = self.text[self.at : self.at + 20].strip()
        raise DataError(f"formula, character {self.at + 1}: {what}, before '{rest}'. docs/seeds.md shows the notation.")
