"""What a child has of its parents, and how it grows to a whole seed: the graph closed, missing sentences composed.

Names, glosses, operations and sentences are the words of the parents' model. Where the graph was drawn anew, no sentence
states the new transition yet: code composes one from the parts and lists it in `lineage.composed`, until a model has said
it in its own words.
"""

from __future__ import annotations

import random
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rostok import __version__
from rostok.seeds import graph
from rostok.seeds.graph import Edge
from rostok.seeds.measures import Embeds
from rostok.seeds.record import Contradiction, Lineage, Node, Seed, Transition

# Title, sentence of a transition, sentence of a contradiction. A language that is not here gets the bare notation, since
# names would have to be inflected.
_FORMS = {"en": ("The {x} and the {y}", "The {x} {op} the {y}.", "The {x} and the {y} cannot both have their way.")}
_BARE = ("{x} – {y}", "{x} – {op} – {y}.", "{x} ≠ {y}, {y} ≠ {x}.")
_SCENE = 500  # characters; a scene of the author has about 400


@dataclass
class Genes:
    """Nodes with the keys that they have in the child, and what of the parents still holds between them.

    Attributes:
        origins: {key: which parent's node it was}.
        verbs: {key: the operations that the parent had for this node}.
        links: edges without a transition yet.
    """

    nodes: list[Node] = field(default_factory=list)
    origins: dict[str, str] = field(default_factory=dict)
    steps: list[Transition] = field(default_factory=list)
    verbs: dict[str, list[str]] = field(default_factory=dict)
    clashes: list[Contradiction] = field(default_factory=list)
    links: list[Edge] = field(default_factory=list)
    release: str | None = None

    def take(self, parent: Seed, keys: Collection[str]) -> dict[str, str]:
        """Add these nodes of a parent, and what holds between them; a node whose name is there already is left out.

        A node keeps its key where that is free.

        Returns:
            {key in the parent: key in the child} of the nodes taken.
        """
        names = {node.name.casefold() for node in self.nodes}
        used = {node.key for node in self.nodes}
        kept: dict[str, str] = {}
        for node in parent.nodes:
            if node.key in keys and node.name.casefold() not in names:
                free = (key for key in (node.key, *(f"n{number:02}" for number in range(1, 100))) if key not in used)
                kept[node.key] = next(free)
                used.add(kept[node.key])
                self.nodes.append(node.model_copy(update={"key": kept[node.key]}))
                self.origins[kept[node.key]] = f"{parent.id}:{node.key}"
        for step in parent.walk():
            if step.source in kept:
                self.verbs.setdefault(kept[step.source], []).append(step.operation)
                if step.target in kept:
                    ends = {"source": kept[step.source], "target": kept[step.target]}
                    self.steps.append(step.model_copy(update=ends))
        self.clashes += [clash.model_copy(update={"a": kept[clash.a], "b": kept[clash.b]}) for clash in parent.contradictions
                         if clash.a in kept and clash.b in kept]
        if self.release is None and parent.release is not None:
            self.release = kept.get(parent.release)
        return kept


class Nursery:
    """Lets genes grow into seeds. Vectors of texts are computed once, however many candidates share them."""

    def __init__(self, embedder: Embeds) -> None:
        self._embedder = embedder
        self._known: dict[str, NDArray[np.float32]] = {}

    def vectors(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors, shape [texts, dimensions]."""
        fresh = [text for text in dict.fromkeys(texts) if text not in self._known]
        if fresh:
            self._known.update(zip(fresh, self._embedder.embed(fresh), strict=True))
        return np.stack([self._known[text] for text in texts])

    def grow(self, genes: Genes, parents: Sequence[Seed], operator: str, dice: random.Random, random_seed: int, place: int,
             avoid: Collection[Edge] = ()) -> Seed:
        """A whole seed: every word a parent's, or composed from parents' words and listed as such.

        Args:
            avoid: edges that are not drawn anew where others can be.

        Raises:
            ValidationError: what has grown is no valid seed.
        """
        language = parents[0].language
        forms = _FORMS.get(language, _BARE)
        names = {node.key: node.name for node in genes.nodes}
        keys = list(names)
        inherited = {(step.source, step.target): step for step in genes.steps}
        edges = graph.close(keys, list(dict.fromkeys([*inherited, *genes.links])), genes.release, dice, avoid)
        composed: list[str] = []
        steps: list[Transition] = []
        for edge in edges:
            if edge in inherited:
                steps.append(inherited[edge])
                continue
            composed.append(f"{edge[0]} -> {edge[1]}")
            operation = _verb(edge[0], genes.verbs, [*steps, *inherited.values()], dice)
            sentence = _sentence(forms[1], x=names[edge[0]], op=operation, y=names[edge[1]])
            steps.append(Transition(source=edge[0], operation=operation, target=edge[1], sentence=sentence,
                                    tension=self._tension(genes.nodes, edge)))
        clashes = genes.clashes[:3]
        if not clashes:
            pairs = [pair for pair in combinations(keys, 2) if pair not in edges and pair[::-1] not in edges]
            a, b = max(pairs or combinations(keys, 2), key=lambda pair: self._tension(genes.nodes, pair))
            clashes = [Contradiction(a=a, b=b, sentence=_sentence(forms[2], x=names[a], y=names[b]))]
            composed.append(f"{a} # {b}")
        themes = list(dict.fromkeys(parent.lineage.theme for parent in parents))
        drawn = [parent.lineage.attributes for parent in parents]
        attributes = {name: dice.choice([values[name] for values in drawn if name in values])
                      for name in dict.fromkeys(name for values in drawn for name in values)}
        voices = list(dict.fromkeys(register for parent in parents for register in parent.registers))
        return Seed(
            title=_title(forms[0], list(names.values()), dice, capital=language == "en"), language=language,
            scene=_scene(parents, [step for edge, step in inherited.items() if edge in edges], genes.nodes, dice),
            nodes=tuple(genes.nodes), transitions=tuple(sorted(steps, key=lambda step: (step.source, step.target))),
            release=genes.release, contradictions=tuple(clashes),
            registers=tuple(dice.sample(voices, min(len(voices), max(len(parent.registers) for parent in parents)))),
            scores={"tension": round(sum(step.tension for step in steps) / len(steps), 3)},
            lineage=Lineage(
                theme=" + ".join(themes), parents=tuple(parent.id for parent in parents), operator=operator,
                origins=genes.origins, composed=("title", "scene", *composed), attributes=attributes, place=place,
                random_seed=random_seed, model=parents[0].lineage.model, rostok=__version__))

    def _tension(self, nodes: Sequence[Node], edge: Edge) -> float:
        """How far two glosses lie apart, as the author measures it: 1 - cosine, within 0 and 1."""
        gloss = {node.key: node.gloss for node in nodes}
        a, b = self.vectors([gloss[edge[0]], gloss[edge[1]]])
        return round(float(min(1.0, max(0.0, 1.0 - a @ b))), 3)


def _verb(source: str, verbs: Mapping[str, list[str]], steps: Sequence[Transition], dice: random.Random) -> str:
    """An operation of the node's own, or else of another node, that it does not use yet: a fork is told by its verbs."""
    used = {step.operation for step in steps if step.source == source}
    own = [verb for verb in verbs.get(source, ()) if verb not in used]
    taken = {step.operation for step in steps}
    every = {verb for said in verbs.values() for verb in said}
    pool = sorted(every - used or every)
    return own[0] if own else dice.choice([verb for verb in pool if verb not in taken] or pool)


def _title(form: str, names: Sequence[str], dice: random.Random, *, capital: bool) -> str:
    x, y = (name[:33] for name in dice.sample(sorted(names, key=len)[: max(2, sum(len(name) <= 33 for name in names))], 2))
    if capital:
        x, y = (" ".join(word[:1].upper() + word[1:] for word in name.split()) for name in (x, y))
    title = form.format(x=x, y=y)
    return title[:1].upper() + title[1:]


def _sentence(form: str, **parts: str) -> str:
    text = form.format(**parts)
    return text[:1].upper() + text[1:]


def _scene(parents: Sequence[Seed], steps: Sequence[Transition], nodes: Sequence[Node], dice: random.Random) -> str:
    """Sentences of the parents' model, chosen by code: some of each scene, then of what leads to what."""
    opening = [dice.choice(_sentences(parent.scene)) for parent in parents if len(parents) > 1 or dice.random() < 0.5]
    told = dice.sample([step.sentence for step in steps], min(3, len(steps)))
    meant = dice.sample([node.gloss for node in nodes], len(nodes))
    scene: list[str] = []
    for sentence in [*opening, *told, *meant]:
        size = sum(len(part) + 1 for part in scene)
        if size > _SCENE / 2 and len(scene) > 2:
            break
        if size + len(sentence) <= 2 * _SCENE:
            scene.append(sentence)
    return " ".join(scene)


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?…])\s+", text.strip())
