"""The transition graph of a seed: what is wrong with it, the order in which it is told, and its gaps closed.

An edge is a pair of node keys, source and target. Nothing here knows a seed's words.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

Edge = tuple[str, str]


def walk(start: str, edges: Collection[Edge]) -> list[Edge]:
    """Every edge once, in the order in which the graph is told. Depends on `start` and the edges alone.

    The walk goes to a node that it has not seen where it can, of several to the lowest key. Where it is stuck it goes
    on from the earliest node seen that still has an edge, and when there is none, from one that no open edge enters.
    """
    left: dict[str, list[str]] = {}
    for source, target in sorted(edges):
        left.setdefault(source, []).append(target)
    seen, here, path = {start: None}, start, []
    while any(left.values()):
        if not left.get(here):
            here = next((key for key in seen if left.get(key)), "") or _entrance(left)
            seen[here] = None
        target = next((key for key in left[here] if key not in seen), left[here][0])
        left[here].remove(target)
        path.append((here, target))
        seen[target] = None
        here = target
    return path


def _entrance(left: dict[str, list[str]]) -> str:
    entered = {target for targets in left.values() for target in targets}
    sources = sorted(source for source, targets in left.items() if targets)
    return next((source for source in sources if source not in entered), sources[0])


def problems(keys: Sequence[str], edges: Sequence[Edge], release: str | None) -> list[str]:
    """What keeps the graph from being a thought; empty when it is one."""
    known, found = set(keys), []
    for source, target in edges:
        found += [f"transitions: {source} -> {target}: '{end}' is no node of this seed" for end in (source, target)
                  if end not in known]
        if source == target:
            found.append(f"transitions: '{source}' leads to itself")
    found += [f"transitions: {source} -> {target} stands twice" for (source, target), times in Counter(edges).items()
              if times > 1]
    if release is not None and release not in known:
        found.append(f"release: '{release}' is no node of this seed")
    if found:
        return found
    sources = {source for source, _ in edges}
    found += [f"transitions: '{key}' leads nowhere; give it a transition, or mark it as the release" for key in keys
              if key not in sources and key != release]
    if release in sources:
        found.append(f"release: '{release}' leads on; the release is the node at which the thought lets go")
    if len(components(keys, edges)) > 1:
        lost = next(min(part) for part in components(keys, edges) if keys[0] not in part)
        found.append(f"transitions: '{lost}' is not connected with '{keys[0]}'")
    if not any(reaches(edges, target, source) for source, target in edges):
        found.append("transitions: no path returns to where it was; at least one must")
    if not found and not any(times == 1 for times in Counter(source for source, _ in edges).values()):
        found.append("transitions: every node leads to several; at least one must lead to one other, or nothing can be asked")
    return found


def components(keys: Iterable[str], edges: Iterable[Edge]) -> list[set[str]]:
    """The parts of the graph between which no edge leads, in either direction."""
    group = {key: {key} for key in keys}
    for source, target in edges:
        if group[source] is not group[target]:
            group[source] |= group[target]
            for key in group[target]:
                group[key] = group[source]
    return list({id(part): part for part in group.values()}.values())


def reaches(edges: Iterable[Edge], start: str, goal: str) -> bool:
    """Whether a directed path leads from `start` to `goal`; a node reaches itself."""
    follows: dict[str, list[str]] = {}
    for source, target in edges:
        follows.setdefault(source, []).append(target)
    seen, open_ = {start}, [start]
    while open_:
        here = open_.pop()
        open_ += [key for key in follows.get(here, ()) if key not in seen]
        seen.update(follows.get(here, ()))
    return goal in seen


def close(keys: Sequence[str], kept: Collection[Edge], release: str | None, dice: random.Random,
          avoid: Collection[Edge] = ()) -> list[Edge]:
    """`kept` and as many new edges as make it a graph without problems; loose ends meet as the dice fall.

    Where no node of `kept` branches and there is no release, the result is one ring through all nodes.

    Args:
        avoid: edges that are not drawn anew where others can be.
    """
    edges = list(kept)
    loose = [key for key in keys if key != release and key not in {source for source, _ in edges}]
    unmet = [key for key in keys if key not in {target for _, target in edges}]
    dice.shuffle(loose)
    dice.shuffle(unmet)
    for source in loose:
        if unmet == [source] and len(edges) > len(kept):  # only itself is left: it goes between an earlier pair
            before, after = edges.pop()
            edges += [(before, source), (source, after)]
            unmet = []
            continue
        free = [key for key in unmet if key != source] or [key for key in keys if key not in (source, release)]
        target = next((key for key in free if (source, key) not in avoid), free[0])
        if target in unmet:
            unmet.remove(target)
        edges.append((source, target))
    while len(parts := sorted(components(keys, edges), key=min)) > 1:
        one, other = (_ring_edge(edges, part, kept) for part in parts[:2])
        if one and other:  # two rings with a pair of targets exchanged are one ring
            edges.remove(one)
            edges.remove(other)
            edges += [(one[0], other[1]), (other[0], one[1])]
        else:  # what has no ring of its own hangs on one that has
            ringed, lone = (parts[0], parts[1]) if one else (parts[1], parts[0])
            edges.append((min(key for key in ringed if key != release), min(lone)))
    return edges


def _ring_edge(edges: Sequence[Edge], part: Collection[str], kept: Collection[Edge]) -> Edge | None:
    """An edge of this part that lies on a directed cycle, a drawn one before a kept one."""
    own = [edge for edge in edges if edge[0] in part and reaches(edges, edge[1], edge[0])]
    return min(own, key=lambda edge: (edge in kept, edge), default=None)
