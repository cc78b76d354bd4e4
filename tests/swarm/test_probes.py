"""What is asked about a seed's structure, and how the answers are counted."""

from __future__ import annotations

from typing import Any

import pytest

from rostok.generator.drills import drill
from rostok.seeds.record import Contradiction
from rostok.swarm import probes
from rostok.swarm.base import FrozenBase
from rostok.swarm.measure import choices

THOUGHT = drill(3)


def test_every_operation_and_every_contradiction_is_asked_in_six_wordings() -> None:
    """Prevents: an expert asked for what follows alone, and an item whose right answer is no option or stands there twice."""
    items = probes.items_of(THOUGHT)
    assert set(items) == {"operation", "contradiction"}
    assert len(items["operation"]) == 6 * len(THOUGHT.transitions)
    clash = THOUGHT.contradictions[0]
    assert len(items["contradiction"]) == 6 * 2 * len(THOUGHT.contradictions)
    assert {right for _, _, right in items["contradiction"]} >= {THOUGHT.name(clash.a), THOUGHT.name(clash.b)}
    for kind, asked in items.items():
        for stem, options, right in asked:
            assert list(options).count(right) == 1 and len(set(options)) == len(options) > 1, kind
            assert right not in stem
    chance = probes.chance_of(THOUGHT)
    assert chance["operation"] == pytest.approx(1 / len({step.operation for step in THOUGHT.transitions}))
    assert chance["contradiction"] == pytest.approx(1 / (len(THOUGHT.nodes) - 1))


def test_what_has_several_right_answers_is_not_asked() -> None:
    """Prevents: an expert marked down for naming the other contradiction; a share of no items."""
    twice = THOUGHT.model_copy(update={"contradictions": (
        Contradiction(a="n01", b="n05", sentence="They cannot both stay."),
        Contradiction(a="n01", b="n07", sentence="They cannot both go."))})
    rights = [right for _, _, right in probes.items_of(twice)["contradiction"]]
    assert set(rights) == {THOUGHT.name("n01")} and len(rights) == 12
    assert "contradiction" not in probes.items_of(THOUGHT.model_copy(update={"contradictions": ()}))
    same = tuple(step.model_copy(update={"operation": "feeds"}) for step in THOUGHT.transitions)
    assert "operation" not in probes.items_of(THOUGHT.model_copy(update={"transitions": same}))


def test_items_read_together_are_counted_as_those_read_alone(frozen: FrozenBase, tiny: Any) -> None:
    """Prevents: answers compared with another item's options where the items take several passes."""
    for kind, share in probes.structure(tiny, frozen, THOUGHT).items():
        items = probes.items_of(THOUGHT)[kind]
        alone = [options[choices(tiny, frozen, [stem], [options])[0]] == right for stem, options, right in items]
        assert share == pytest.approx(sum(alone) / len(alone), abs=1.5 / len(alone))  # a tie may fall the other way
