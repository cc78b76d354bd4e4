"""The record of a thought seed.

Every content field is a model's: title, scene, node names and glosses, operations, the sentences of transitions and
contradictions. Code writes keys, ids, lineage and scores, and derives formula, delta and glyphs from the rest.
"""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import Field, computed_field, field_validator, model_validator

from rostok.records import Record, digest

GLYPHS = "◉◬◈⬡✶☍⟁⌬⏃⎔⍟⌖☌⏚⎈⍜⌇⏁⍙⎊"  # one per place in the chain, so that a glyph line is stable
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


class Lineage(Record):
    """Where a seed comes from."""

    theme: str
    parents: tuple[str, ...] = ()
    attributes: dict[str, str] = Field(default_factory=dict)
    place: int = Field(ge=0, description="which of the run's seeds this is")
    attempt: int = Field(0, ge=0)
    random_seed: int
    model: str = Field(description="SHA-256 of the model that wrote it")
    rostok: str


class Seed(Record):
    """A thought that returns to itself: a cycle of nodes whose order code has drawn, so that no base can guess it."""

    title: str = Field(min_length=3, max_length=80)
    language: str = "en"
    scene: str = Field(min_length=60, max_length=1200)
    nodes: tuple[Node, ...] = Field(min_length=8, max_length=20)
    transitions: tuple[Transition, ...]
    contradictions: tuple[Contradiction, ...] = Field(min_length=1, max_length=3)
    registers: tuple[str, ...] = Field(min_length=1)
    scores: dict[str, float] = Field(default_factory=dict)
    lineage: Lineage

    @computed_field  # type: ignore[prop-decorator]
    @property
    def id(self) -> str:
        """`s-` and twelve hex digits of the hash of the content (lineage and scores left out)."""
        content = [self.title, self.language, self.scene, self.registers]
        return "s-" + digest(content, *self.nodes, *self.transitions, *self.contradictions)[:12]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def formula(self) -> str:
        """The cycle as text: `n01 -binds-> n02 -melts-> … -> n01 ; n03 # n07`, where `#` marks a contradiction."""
        chain = "".join(f"{step.source} -{step.operation}-> " for step in self.cycle())
        clashes = ", ".join(f"{clash.a} # {clash.b}" for clash in self.contradictions)
        return f"{chain}{self.nodes[0].key} ; {clashes}"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def delta(self) -> tuple[str, ...]:
        """The ordered changes that lead once around: `Δ1 lamp → rope (binds, +0.31)`."""
        return tuple(
            f"Δ{number} {self.name(step.source)} → {self.name(step.target)} ({step.operation}, {step.tension:+.2f})"
            for number, step in enumerate(self.cycle(), start=1)
        )

    @computed_field  # type: ignore[prop-decorator]
    @property
    def glyphs(self) -> str:
        """One symbol per node, in the order of the cycle."""
        place = {node.key: index for index, node in enumerate(self.nodes)}
        return "".join(GLYPHS[place[step.source]] for step in self.cycle())

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
        if len(set(keys)) != len(keys):
            raise ValueError("nodes: two nodes have the same key")
        names = [node.name.casefold() for node in self.nodes]
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise ValueError(f"nodes: '{double}' stands twice")
        known = set(keys)
        for step in self.transitions:
            for end in (step.source, step.target):
                if end not in known:
                    raise ValueError(f"transitions: '{end}' is no node of this seed")
        for clash in self.contradictions:
            if clash.a not in known or clash.b not in known or clash.a == clash.b:
                raise ValueError(f"contradictions: '{clash.a}' and '{clash.b}' must be two nodes of this seed")
        follows = {step.source: step.target for step in self.transitions}
        if len(follows) != len(self.transitions) or set(follows) != known:
            raise ValueError("transitions: every node must lead to exactly one other")
        seen, here = set(), keys[0]
        while here not in seen:
            seen.add(here)
            here = follows[here]
        if seen != known or here != keys[0]:
            raise ValueError("transitions: the path must visit every node once and return to the first")
        unknown = [register for register in self.registers if register not in REGISTERS]
        if unknown:
            raise ValueError(f"registers: '{unknown[0]}' is not one of {', '.join(REGISTERS)}")
        return self

    def name(self, key: str) -> str:
        """The name of the node with this key."""
        return next(node.name for node in self.nodes if node.key == key)

    def node(self, key: str) -> Node:
        """The node with this key."""
        return next(node for node in self.nodes if node.key == key)

    def cycle(self) -> list[Transition]:
        """The transitions in the order in which they are walked, from the first node back to it."""
        by_source = {step.source: step for step in self.transitions}
        here, path = self.nodes[0].key, []
        for _ in self.transitions:
            path.append(by_source[here])
            here = path[-1].target
        return path

    def card(self) -> str:
        """The seed as a text that a model can read in its context (about 400 tokens for 12 nodes)."""
        path = "; ".join(f"{self.name(step.source)} {step.operation} and leads to {self.name(step.target)}"
                         for step in self.cycle())
        glosses = "\n".join(f"- {node.name}: {node.gloss}" for node in self.nodes)
        clashes = "\n".join(f"- {clash.sentence}" for clash in self.contradictions)
        return f"{self.title}\n{self.scene}\nThings:\n{glosses}\nThe path: {path}.\nClashes:\n{clashes}"
