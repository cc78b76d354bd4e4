"""New seeds from old ones: mutate, cross, split, splice. Pure functions; the same random seed gives the same children.

    mutate   the order of one seed drawn anew in part, a node or two left out
    cross    transitions of two seeds, and the nodes at their ends, brought together
    split    a long seed cut into two that overlap no more than they must
    splice   a run of one seed set into another, in place of some of it

A child that is nearly a copy of a parent, or of a seed in the library, is refused with a reason; reasons are counted.
With a goal, several children are made, and the best by the goal's measure is kept.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from pydantic import ValidationError

from rostok.errors import RostokError
from rostok.records import reasons, stable_seed
from rostok.seeds.genes import Genes, Nursery
from rostok.seeds.graph import Edge
from rostok.seeds.measures import NEAR, Embeds, thought
from rostok.seeds.record import Seed

Goal = Literal["novelty", "tension"]
GOALS: tuple[Goal, ...] = ("novelty", "tension")
_EDGES = 0.6  # shared transitions (Jaccard, by name) from which a child tells its parent's order again
_NODES = 0.9  # shared nodes from which it speaks of the same things; a mutation is meant to
_SMALLEST, _LARGEST = 8, 20

Litter = list[tuple[Genes, set[Edge]]]  # of every child of one birth: its genes, and edges not to be drawn again


class EvolutionError(RostokError):
    """No child was new enough, or the parents do not fit."""


class Reword(Protocol):
    """A model that says in its own words what code has composed."""

    model: str  # SHA-256

    def __call__(self, seed: Seed, what: str) -> str | None:
        """Another text for `what`, an entry of the seed's `lineage.composed`; None when nothing passed the checks."""
        ...


@dataclass(frozen=True)
class Conditions:
    """What children are measured by.

    Attributes:
        library: seeds that a child must differ from, besides its parents.
        place: of the child in the library; of the first child when there are two.
        candidates: children tried; with a goal the best of them, otherwise the first that passes.
        reword: without it, what code has composed stays.
    """

    embedder: Embeds
    library: Sequence[Seed] = ()
    random_seed: int = 0
    place: int = 0
    goal: Goal | None = None
    candidates: int = 8
    reword: Reword | None = None


def mutate(seed: Seed, conditions: Conditions) -> Seed:
    """The same things in another order: about half of the transitions are drawn anew, up to two nodes are left out.

    Raises:
        EvolutionError: every candidate was refused; the message counts the reasons.
    """
    def breed(dice: random.Random) -> Litter:
        keys = [node.key for node in seed.nodes]
        spare = [key for key in keys if key != seed.release]
        left_out = set(dice.sample(spare, dice.randint(0, min(2, len(keys) - _SMALLEST))))
        genes = Genes()
        kept = genes.take(seed, [key for key in keys if key not in left_out])
        genes.steps = dice.sample(genes.steps, round(len(genes.steps) * dice.uniform(0.35, 0.55)))
        cut = {(kept[step.source], kept[step.target]) for step in seed.transitions if step.source in kept and step.target in kept}
        return [(genes, cut)]

    return _born("mutate", [seed], breed, conditions)[0]


def cross(a: Seed, b: Seed, conditions: Conditions) -> Seed:
    """Half of one seed and half of another, transition by transition. Raises like `mutate`."""
    def breed(dice: random.Random) -> Litter:
        size = (len(a.nodes) + len(b.nodes) + 1) // 2
        genes = Genes()
        for parent, room in ((a, size // 2), (b, size)):
            keys: list[str] = []
            names = {node.name.casefold() for node in genes.nodes}
            for step in dice.sample(parent.transitions, len(parent.transitions)):
                ends = [key for key in (step.source, step.target) if key not in keys and parent.name(key).casefold() not in names]
                if len(genes.nodes) + len(keys) + len(ends) <= room:
                    keys += ends
            genes.take(parent, keys)
        return [(genes, set())]

    return _born("cross", [a, b], breed, conditions)[0]


def split(seed: Seed, conditions: Conditions) -> tuple[Seed, Seed]:
    """The first and the second half of the walk, each closed to a thought of its own. Raises like `mutate`."""
    order = seed.order()
    size = max(_SMALLEST, (len(order) + 1) // 2)

    def breed(dice: random.Random) -> Litter:
        turn = dice.randrange(len(order)) if seed.is_ring() else 0
        turned = order[turn:] + order[:turn]
        litter: Litter = []
        for keys in (turned[:size], turned[-size:]):
            genes = Genes()
            genes.take(seed, keys)
            litter.append((genes, set()))
        return litter

    first, second = _born("split", [seed], breed, conditions)
    return first, second


def splice(a: Seed, b: Seed, conditions: Conditions) -> Seed:
    """A run of `b`'s walk set into `a`, in place of a run of about that length. Raises like `mutate`."""
    def breed(dice: random.Random) -> Litter:
        host, guest = a.order(), b.order()
        names = {node.name.casefold() for node in a.nodes}
        guest = [key for key in guest if b.name(key).casefold() not in names]
        length = min(len(guest), dice.randint(3, 6))
        if not length:
            raise EvolutionError(f"splice: every node of {b.id} is in {a.id} already. Take another seed.")
        removed = dice.randint(max(1, length // 2), length)
        removed = max(min(removed, len(host) + length - _SMALLEST), len(host) + length - _LARGEST, 0)
        start, at = dice.randrange(max(1, len(guest) - length + 1)), dice.randrange(1, max(2, len(host) - removed))
        run, rest = guest[start : start + length], [*host[:at], *host[at + removed :]]
        genes = Genes()
        own, set_in = genes.take(a, rest), genes.take(b, run)
        ends = [(own[host[at - 1]], set_in[run[0]]), (set_in[run[-1]], own[host[at + removed]])]
        genes.links = [edge for edge in ends if edge[0] != genes.release]
        genes.steps = [step for step in genes.steps if step.source not in {source for source, _ in genes.links}
                       or (step.source, step.target) in genes.links]
        return [(genes, set())]

    return _born("splice", [a, b], breed, conditions)[0]


def _born(operator: str, parents: Sequence[Seed], breed: Callable[[random.Random], Litter],
          conditions: Conditions) -> list[Seed]:
    ids = " and ".join(parent.id for parent in parents)
    if len({parent.id for parent in parents}) < len(parents):
        raise EvolutionError(f"{operator} needs two different seeds, not {parents[0].id} twice.")
    if len({parent.language for parent in parents}) > 1:
        raise EvolutionError(f"{ids} are in different languages ({' and '.join(parent.language for parent in parents)}). "
                             "Take two seeds of one language.")
    nursery = Nursery(conditions.embedder)
    others = list({seed.id: seed for seed in (*parents, *conditions.library)}.values())
    refused: Counter[str] = Counter()
    passed: list[list[Seed]] = []
    for attempt in range(conditions.candidates):
        dice = random.Random(stable_seed(conditions.random_seed, operator, *(parent.id for parent in parents), attempt))
        try:
            litter = [nursery.grow(genes, parents, operator, dice, conditions.random_seed, conditions.place + number, avoid)
                      for number, (genes, avoid) in enumerate(breed(dice))]
        except ValidationError as error:
            refused[reasons(error)[0]] += 1
            continue
        reason = _near(litter, parents, others, nursery)
        if reason is not None:
            refused[reason] += 1
            continue
        passed.append(litter)
        if conditions.goal is None:
            break
    if not passed:
        told = ", ".join(f"{reason} {count}×" for reason, count in refused.most_common(4))
        raise EvolutionError(f"{operator}: none of {conditions.candidates} children of {ids} was new enough: {told}. "
                             "Try more candidates, another random seed, or other parents.")
    best = max(passed, key=lambda litter: _worth(litter, conditions.goal, others, nursery))
    if conditions.reword is None:
        return best
    worded = [_worded(child, conditions.reword) for child in best]
    return worded if _near(worded, parents, others, nursery) is None else best


def _near(litter: Sequence[Seed], parents: Sequence[Seed], others: Sequence[Seed], nursery: Nursery) -> str | None:
    """Why a child is no new thought beside its parents, the library and its twin; None when it is one."""
    vectors = nursery.vectors([thought(seed) for seed in (*litter, *others)]).astype(np.float64)
    known = {seed.id for seed in others}
    for number, child in enumerate(litter):
        rivals = [*litter[:number], *others]
        rival_vectors = np.concatenate([vectors[:number], vectors[len(litter):]])
        cosines = rival_vectors @ vectors[number]
        nearest = int(cosines.argmax())
        if cosines[nearest] >= NEAR:
            return f"nearly the text of {_called(rivals[nearest], known)}"
        for rival in rivals:
            if rival.title.casefold() == child.title.casefold():
                return f"the title of {_called(rival, known)}"
            if _shared(_steps(child), _steps(rival)) > _EDGES:
                return f"nearly the transitions of {_called(rival, known)}"
        for parent in parents:
            nodes, old = ({node.name.casefold() for node in seed.nodes} for seed in (child, parent))
            if child.lineage.operator != "mutate" and _shared(nodes, old) > _NODES:
                return f"nearly the nodes of {parent.id}"
    return None


def _called(seed: Seed, known: set[str]) -> str:
    return seed.id if seed.id in known else "its twin"


def _steps(seed: Seed) -> set[tuple[str, str]]:
    return {(seed.name(step.source).casefold(), seed.name(step.target).casefold()) for step in seed.transitions}


def _shared(one: set[str] | set[tuple[str, str]], other: set[str] | set[tuple[str, str]]) -> float:
    return len(one & other) / len(one | other)  # type: ignore[operator]


def _worth(litter: Sequence[Seed], goal: Goal | None, others: Sequence[Seed], nursery: Nursery) -> float:
    """Novelty: how far the nearest other thought is. Tension: the mean over the transitions."""
    if goal == "tension":
        return sum(seed.scores["tension"] for seed in litter) / len(litter)
    if goal == "novelty":
        mine = nursery.vectors([thought(seed) for seed in litter])
        return float(1 - (mine @ nursery.vectors([thought(seed) for seed in others]).T).max(axis=1).mean())
    return 0.0


def _worded(child: Seed, reword: Reword) -> Seed:
    """The child with a model's words for what code has composed, as far as the model finds any."""
    for what in child.lineage.composed:
        text = reword(child, what)
        if text is None:
            continue
        values = child.model_dump(exclude=set(Seed.model_computed_fields))
        if what in ("title", "scene"):
            values[what] = text
        else:
            a, sign, b = what.split()
            part, ends = ("transitions", ("source", "target")) if sign == "->" else ("contradictions", ("a", "b"))
            next(item for item in values[part] if (item[ends[0]], item[ends[1]]) == (a, b))["sentence"] = text
        values["lineage"]["composed"] = [other for other in child.lineage.composed if other != what]
        values["lineage"]["model"] = reword.model
        try:
            child = Seed.model_validate(values)
        except ValidationError:  # too long or too short for the field: what code has composed stays, and says so
            continue
    return child
