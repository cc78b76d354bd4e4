"""The map: near things near, nothing lost, safe to open."""

from __future__ import annotations

from xml.etree import ElementTree

import numpy as np
import pytest

from rostok.seeds.map import positions, svg, terminal


class Angles:
    sha256 = "e" * 64

    def __init__(self, *angles: float) -> None:
        self.angles = angles

    def embed(self, texts):
        return np.array([[np.cos(a), np.sin(a), 0.1] for a in self.angles[: len(texts)]], np.float32)


def test_near_thoughts_lie_near(make_seed) -> None:
    """Prevents: a picture whose distances mean nothing, or that is mirrored from call to call."""
    seeds = [make_seed(place) for place in range(4)]
    where = positions(seeds, Angles(0.0, 0.1, 2.0, 2.1))
    assert where.shape == (4, 2) and np.abs(where).max() == pytest.approx(1)
    near, far = np.linalg.norm(where[0] - where[1]), np.linalg.norm(where[0] - where[2])
    assert near * 3 < far
    assert np.array_equal(where, positions(seeds, Angles(0.0, 0.1, 2.0, 2.1)))


@pytest.mark.parametrize("count", [0, 1, 2, 30])
def test_every_seed_is_told(count: int, make_seed) -> None:
    """Prevents: a seed that another covers and that nobody sees; a crash on a library of one."""
    seeds = [make_seed(place) for place in range(count)]
    where = positions(seeds, Angles(*[0.5] * count)) if count else np.zeros((0, 2))
    shown = terminal(seeds, where, width=40, height=8)
    assert all(f"{seed.id}  {seed.title}" in shown for seed in seeds)
    if count == 30:
        assert "(on it: 2, 3, 4" in shown
    assert {len(line) for line in shown.splitlines()[:10]} == {42}


def test_the_svg_is_whole_and_safe(make_seed) -> None:
    """Prevents: a title with markup that breaks the picture or runs in it; evolved seeds without their parents."""
    parent = make_seed(0, title="Salt & <script>alert(1)</script>")
    lineage = parent.lineage.model_copy(update={"parents": (parent.id, "s-000000000000"), "operator": "mutate"})
    drawn = svg([parent, make_seed(1, lineage=lineage)], np.array([[0.0, 1.0], [1.0, -1.0]]))
    root = ElementTree.fromstring(drawn)
    tags = [element.tag.split("}")[1] for element in root.iter()]
    assert tags.count("circle") == 2 and tags.count("line") == 1 and "script" not in tags
