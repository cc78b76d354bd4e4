"""Which nodes a page is about: pairs first, then triples (EntiGraph, arXiv:2409.07431), and paths along the transitions.

Every page tells true steps of the graph, never that two nodes of a pair follow each other when they do not: a pair is
told as the run of steps that begins at the one node and the run that begins at the other. Of what may come next the
choice is always the group whose steps were told least, so that an expert is shown every transition equally often,
however many pages there are.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np

from rostok.seeds.record import Seed, Transition

_FAR, _FEW = 1.5, 3  # told so many times as often, and so many times more, is far more often; in a ring it never is
Shapes = Mapping[int, tuple[int, ...]]  # {nodes in the focus: steps told from each of them}


@dataclass(frozen=True)
class Group:
    """What one page is about: `focus`, and the `path` of keys on which its steps lie (see `PageSpec`)."""

    focus: tuple[str, ...]
    path: tuple[str, ...]


def told(path: Sequence[str], seed: Seed) -> list[Transition]:
    """The transitions that a path tells, each once: its neighbours, where they are a step of the seed."""
    steps = {(step.source, step.target): step for step in seed.transitions}
    return [steps[edge] for edge in dict.fromkeys(pairwise(path)) if edge in steps]


def runs(path: Sequence[str], seed: Seed) -> list[list[str]]:
    """The path cut where it begins anew."""
    edges = {(step.source, step.target) for step in seed.transitions}
    parts = [[path[0]]]
    for edge in pairwise(path):
        if edge in edges:
            parts[-1].append(edge[1])
        else:
            parts.append([edge[1]])
    return parts


def coverage(paths: Iterable[Sequence[str]], seed: Seed) -> tuple[int, int]:
    """How often the paths tell the transition that they tell least, and the one that they tell most."""
    counts = Counter({(step.source, step.target): 0 for step in seed.transitions})
    for path in paths:
        counts.update((step.source, step.target) for step in told(path, seed))
    return min(counts.values()), max(counts.values())


class Groups:
    """An endless supply of groups: every second one a path; between them the pairs, then the triples, then all again.

    Pairs that the seed names as contradictions come first.
    """

    def __init__(self, seed: Seed, shapes: Shapes, dice: random.Random) -> None:
        self._edges = [(step.source, step.target) for step in seed.walk()]
        self._number = {edge: index for index, edge in enumerate(self._edges)}
        self._counts = np.zeros(len(self._edges), np.int64)
        self._leaving: dict[str, list[int]] = {node.key: [] for node in seed.nodes}
        self._entering: dict[str, list[int]] = {node.key: [] for node in seed.nodes}
        for index, (source, target) in enumerate(self._edges):
            self._leaving[source].append(index)
            self._entering[target].append(index)
        self._shapes, self._dice = shapes, dice
        self._keys = seed.order()
        clashes = [(min(clash.a, clash.b), max(clash.a, clash.b)) for clash in seed.contradictions]
        self._paths = _Lane(self, self._shuffled(self._edges), paths=True)
        pairs = self._shuffled([pair for pair in combinations(sorted(self._keys), 2) if pair not in clashes])
        self._pairs = _Lane(self, [*clashes, *pairs], first=len(clashes))
        self._triples: _Lane | None = None
        self._turn = 0

    def take(self) -> Group:
        """The next group; its steps count as told."""
        self._turn += 1
        if self._turn % 2:
            source, target = self._paths.least_told()
            return self._unfold((source,), self._shapes[1], first=target)
        if self._triples is None and self._pairs.rounds():
            self._triples = _Lane(self, self._shuffled(list(combinations(sorted(self._keys), 3))))
        lane = self._pairs
        if self._triples is not None and self._triples.rounds() < self._pairs.rounds():
            lane = self._triples
        focus = lane.least_told()
        return self._unfold(focus, self._shapes[len(focus)])

    def _shuffled(self, items: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
        return self._dice.sample(items, len(items))

    def steps_of(self, focus: Sequence[str], shape: Sequence[int], first: str | None = None) -> list[int]:
        """Edges that a group would tell now; nothing is counted."""
        return sorted(self._number[edge] for edge in self._walk(focus, shape, first)[1])

    def _unfold(self, focus: Sequence[str], shape: Sequence[int], first: str | None = None) -> Group:
        path, steps = self._walk(focus, shape, first)
        for edge in steps:
            self._counts[self._number[edge]] += 1
        return Group(tuple(focus), tuple(path))

    def _walk(self, focus: Sequence[str], shape: Sequence[int], first: str | None) -> tuple[list[str], set[tuple[str, str]]]:
        path: list[str] = []
        done: set[tuple[str, str]] = set()
        total = min(sum(shape), len(self._edges))
        for start, size in zip(focus, shape, strict=True):
            here = start
            for number in range(size):
                if len(done) >= total:
                    break
                begun = (start, first) if first is not None and not path else None
                edge = begun or self._edges[self._onward(here, done, path, leave=number > 0)]
                if not path or path[-1] != edge[0]:
                    if path and (path[-1], edge[0]) in self._number:  # where the runs touch, that step is told as well
                        done.add((path[-1], edge[0]))
                    path.append(edge[0])
                if len(done) < total:
                    path.append(edge[1])
                    done.add(edge)
                here = path[-1]
        return path, done

    def _onward(self, here: str, done: set[tuple[str, str]], path: Sequence[str], *, leave: bool) -> int:
        """The edge to tell next: from `here`, else further on, else into `here`, else the one told least of all.

        With `leave`, the one told least of all comes first where the way on has been told far more often: in a graph with several
        entrances, which nothing leads to, all ways meet in few edges, and each entrance would be told by its own pages alone.
        """
        untold = [index for index, edge in enumerate(self._edges) if edge not in done]
        least = min(untold, key=lambda index: int(self._counts[index]))
        seen = set()
        while here not in seen:
            seen.add(here)
            open_ = [index for index in self._leaving[here] if self._edges[index] not in done]
            if open_:
                onward = min(open_, key=lambda index: (self._counts[index], self._edges[index][1] in path))
                far = self._counts[onward] > _FAR * self._counts[least] + _FEW
                return least if leave and far else onward
            if not self._leaving[here]:
                break
            here = self._edges[min(self._leaving[here], key=lambda index: int(self._counts[index]))][1]
        open_ = [index for index in self._entering[here] if self._edges[index] not in done]
        return min(open_, key=lambda index: int(self._counts[index])) if open_ else least

    @property
    def counts(self) -> np.ndarray:
        """How often each step of the walk has been told, shape (steps,)."""
        return self._counts

    def shape(self, size: int) -> tuple[int, ...]:
        """Steps told from each of so many nodes."""
        return self._shapes[size]


class _Lane:
    """Groups of one size. A path may come again whenever its steps are the least told; pairs and triples take turns.

    Args:
        items: the keys of each group; for paths its first step.
        first: so many items come before all others.
    """

    def __init__(self, groups: Groups, items: Sequence[tuple[str, ...]], *, paths: bool = False, first: int = 0) -> None:
        self._groups, self._items, self._paths, self._first = groups, items, paths, first
        self._uses = np.zeros(len(items), np.int64)
        rows = [groups.steps_of(item[:1], groups.shape(1), item[1]) if paths else groups.steps_of(item, groups.shape(len(item)))
                for item in items]
        width = max(map(len, rows))
        self._rows = np.array([row + row[:1] * (width - len(row)) for row in rows])

    def rounds(self) -> int:
        """How often every group has been used at least."""
        return int(self._uses.min())

    def least_told(self) -> tuple[str, ...]:
        """The group to tell now."""
        if self._first and self._uses[: self._first].min() == 0:
            index = int(self._uses[: self._first].argmin())
        else:
            weight = self._groups.counts[self._rows].sum(axis=1)
            rank = weight * 1_000_000 + self._uses if self._paths else self._uses * 1_000_000 + weight
            index = int(rank.argmin())
        self._uses[index] += 1
        return self._items[index]
