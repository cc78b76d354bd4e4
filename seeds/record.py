"""The record of a thought seed.

Every content field is a model's: title, scene, node names and glosses, operations, the sentences of transitions and
contradictions; what code has composed from a model's words is listed in the lineage. Code writes keys, ids, lineage and
scores, and derives formula, delta and glyphs from the rest. docs/seeds.md tells the whole.
"""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import Field, computed_field, field_validator, model_validator

from rostok.records import Record, digest
from rostok.seeds import formula as notation
from rostok.seeds import glyphs, graph

FORMAT = 2  # of a seed's line; 1 had glyphs by place instead of by name, and neither releases nor branches
_KEY = re.compile(r"n\d\d")
REGISTERS = ("parable", "dialogue", "lecture", "field note", "manual", "letter", "proof sketch", "court record")


class Node(Record):
    """A concept of the seed. `key` is `n01`…; name and gloss are the model's words."""

    key: str
    name: str = Field(min_length=3, max_length=40)
    gloss: str = Field(min_length=10, max_length=300)

    @field_validator("key")
    @classmethod
    def _shape(cls, key: str) -> str:
        if not _KEY.fullmatch(key):
            raise ValueError(f"'{key}' is no node key; keys are n01, n02, …")
        return key


class Transition(Record):
    """`source` leads to `target` by `operation` (a verb). `tension` is measured: how far the two glosses lie apart."""

    source: str
    operation: str = Field(min_length=3, max_length=30)
    target: str
    tension: float = Field(ge=0, le=1)
    sentence: str = Field(min_length=10, max_length=300)


class Contradiction(Record):
    """Two nodes in tension, and the sentence that states the clash."""

    a: str
    b: str
    sentence: str = Field(min_length=10, max_length=300)


def _empty(value: object) -> bool:
    """Fields that came later stay out of the line where they say nothing: a line of format 1 is read and written alike."""
    return not value


class Lineage(Record):
    """Where a seed comes from.

    Attributes:
        parents: ids of the seeds it was made from, none when the agents wrote it.
        operator: how it was made from them: `mutate`, `cross`, `split` or `splice`.
        origins: for every node, which parent's node it was: {"n03": "s-0123456789ab:n07"}.
        composed: what code composed from the parents' words, since no model had said it: `title`, `scene`,
            `n01 -> n05` for a transition's sentence, `n01 # n05` for a contradiction's.
    """

    theme: str
    parents: tuple[str, ...] = ()
    operator: str = Field("", exclude_if=_empty)
    origins: dict[str, str] = Field(default_factory=dict, exclude_if=_empty)
    composed: tuple[str, ...] = Field((), exclude_if=_empty)
    attributes: dict[str, str] = Field(default_factory=dict)
    place: int = Field(ge=0, description="which of the run's seeds this is")
    attempt: int = Field(0, ge=0)
    random_seed: int
    model: str = Field(description="SHA-256 of the model that wrote it")
    rostok: str


class Seed(Record):
    """A thought that returns to itself: a graph of nodes whose order code has drawn, so that no base can guess it.

    Attributes:
        format: of the line; the rules for derived fields are those of the format a seed was written in.
        transitions: connected, at least one of them on a directed cycle.
        release: key of the one node that may lead nowhere, or None.
    """

    format: int = Field(FORMAT, ge=1, le=FORMAT, exclude_if=lambda value: value == 1)
    title: str = Field(min_length=3, max_length=80)
    language: str = "en"
    scene: str = Field(min_length=60, max_length=1200)
    nodes: tuple[Node, ...] = Field(min_length=8, max_length=20)
    transitions: tuple[Transition, ...] = Field(max_length=60)
    release: str | None = Field(None, exclude_if=_empty)
    contradictions: tuple[Contradiction, ...] = Field(min_length=1, max_length=3)
    registers: tuple[str, ...] = Field(min_length=1)
    scores: dict[str, float] = Field(default_factory=dict)
    lineage: Lineage

    @computed_field  # type: ignore[prop-decorator]
    @property
    def id(self) -> str:
        """`s-` and twelve hex digits of the hash of the content (format, lineage and scores left out)."""
        content: list[object] = [self.title, self.language, self.scene, self.registers]
        if self.release is not None:
            content.append(self.release)
        return "s-" + digest(content, *self.nodes, *self.transitions, *self.contradictions)[:12]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def formula(self) -> str:
        """The graph as text: `n01 -binds-> n02 -melts-> … -> n01 ; n03 # n07`; `rostok.seeds.formula` is the notation."""
        return notation.write(notation.Graph(
            start=self.nodes[0].key, steps=frozenset((step.source, step.operation, step.target) for step in self.transitions),
            release=self.release, clashes=tuple((clash.a, clash.b) for clash in self.contradictions)))

    @computed_field  # type: ignore[prop-decorator]
    @property
    def delta(self) -> tuple[str, ...]:
        """The ordered changes that lead from the first scene to the last: `Δ1 lamp → rope (binds, +0.31)`."""
        return tuple(
            f"Δ{number} {self.name(step.source)} → {self.name(step.target)} ({step.operation}, {step.tension:+.2f})"
            for number, step in enumerate(self.walk(), start=1)
        )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def glyphs(self) -> str:
        """One symbol per node, in the order of the walk."""
        if self.format == 1:
            place = {node.key: index for index, node in enumerate(self.nodes)}
            return "".join(glyphs.FIRST[place[key]] for key in self.order())
        symbol = glyphs.symbols((node.key, node.name) for node in self.nodes)
        return "".join(symbol[key] for key in self.order())

    @model_validator(mode="before")
    @classmethod
    def _check_derived(cls, values: Any) -> Any:
        """Derived fields stand in the file for people; they are taken out here and compared by `Library`."""
        if isinstance(values, dict):
            return {key: value for key, value in values.items() if key not in cls.model_computed_fields}
        return values

    @model_validator(mode="after")
    def _check_graph(self) -> Self:
        keys = [node.key for node in self.nodes]
        found = []
        if len(set(keys)) != len(keys):
            found.append("nodes: two nodes have the same key")
        names = [node.name.casefold() for node in self.nodes]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            found.append(f"nodes: '{double}' stands twice")
        found += graph.problems(keys, [(step.source, step.target) for step in self.transitions], self.release)
        pairs = [frozenset((clash.a, clash.b)) for clash in self.contradictions]
        for clash, pair in zip(self.contradictions, pairs, strict=True):
            if not pair <= set(keys) or len(pair) < 2:
                found.append(f"contradictions: '{clash.a}' and '{clash.b}' must be two nodes of this seed")
        if len(set(pairs)) < len(pairs):
            found.append("contradictions: the same two nodes stand twice")
        unknown = [register for register in self.registers if register not in REGISTERS]
        if unknown:
            found.append(f"registers: '{unknown[0]}' is not one of {', '.join(REGISTERS)}")
        if found:
            raise ValueError("; ".join(found))
        return self

    def name(self, key: str) -> str:
        """The name of the node with this key."""
        return self.node(key).name

    def node(self, key: str) -> Node:
        """The node with this key."""
        return next(node for node in self.nodes if node.key == key)

    def walk(self) -> list[Transition]:
        """Every transition once, in the order in which the thought is told, from the first node on."""
        steps = {(step.source, step.target): step for step in self.transitions}
        return [steps[edge] for edge in graph.walk(self.nodes[0].key, steps)]

    def order(self) -> list[str]:
        """The keys of all nodes, in the order in which the walk meets them."""
        met = [self.nodes[0].key, *(key for step in self.walk() for key in (step.source, step.target))]
        return list(dict.fromkeys(met))

    def is_ring(self) -> bool:
        """Whether the walk visits every node once and returns to the first."""
        path = self.walk()
        return len(path) == len(self.nodes) == len({step.source for step in path}) and all(
            step.target == after.source for step, after in zip(path, [*path[1:], path[0]], strict=True))

    def cycle(self) -> list[Transition]:
        """The walk of a seed that is one ring. Raises `ValueError` for any other; `walk` tells every seed."""
        if not self.is_ring():
            raise ValueError(f"{self.id} is no single ring; walk() tells its transitions")
        return self.walk()

    def sole_steps(self) -> list[Transition]:
        """The transitions from nodes that lead to exactly one other, in the order of the walk.

        Only of these has "what follows?" one right answer. Every valid seed has at least one.
        """
        sources = [step.source for step in self.transitions]
        return [step for step in self.walk() if sources.count(step.source) == 1]

    def card(self) -> str:
        """The seed as a text that a model can read in its context (about 400 tokens for 12 nodes)."""
        path = "; ".join(f"{self.name(step.source)} {step.operation} and leads to {self.name(step.target)}"
                         for step in self.walk())
        ends = f" It ends with {self.name(self.release)}." if self.release is not None else ""
        glosses = "\n".join(f"- {node.name}: {node.gloss}" for node in self.nodes)
        clashes = "\n".join(f"- {clash.sentence}" for clash in self.contradictions)
        return f"{self.title}\n{self.scene}\nThings:\n{glosses}\nThe path: {path}.{ends}\nClashes:\n{clashes}"
