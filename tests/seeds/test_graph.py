"""Graphs: loose ends are closed so that every result is a thought again."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from rostok.seeds.graph import close, problems, walk


@given(size=st.integers(2, 20), kept=st.floats(0, 1), number=st.integers(0, 2**31))
def test_a_cut_ring_is_closed_to_one_ring(size: int, kept: float, number: int) -> None:
    """Prevents: a child in two parts, or one whose kept transitions were torn to mend others."""
    dice = random.Random(number)
    keys = [f"n{index:02}" for index in range(1, size + 1)]
    order = dice.sample(keys, size)
    ring = list(zip(order, [*order[1:], order[0]], strict=True))
    left = [edge for edge in ring if dice.random() < kept]
    edges = close(keys, left, None, dice)
    assert problems(keys, edges, None) == []
    assert len(walk(keys[0], edges)) == size == len({source for source, _ in edges}) == len({target for _, target in edges})
    assert set(left) <= set(edges)


@given(number=st.integers(0, 2**31), share=st.floats(0, 1))
def test_any_graph_is_closed_without_dead_ends(make_thought, number: int, share: float) -> None:
    """Prevents: a dead end, a loop of one node or a lost part after an edge or a node was taken away."""
    seed, dice = make_thought(number), random.Random(number)
    keys = [node.key for node in seed.nodes]
    kept = [(step.source, step.target) for step in seed.transitions if dice.random() < share]
    found = problems(keys, close(keys, kept, seed.release, dice), seed.release)
    assert all("no path returns" in reason or "leads to several" in reason for reason in found)
