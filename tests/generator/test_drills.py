"""Seeds that code makes."""

from __future__ import annotations

from itertools import combinations

from rostok.generator.drills import FIRST, SECOND, drill
from rostok.generator.plan import check
from rostok.seeds.lint import placeholders


def test_drills_are_whole_seeds_and_share_no_name() -> None:
    """Prevents: a drill that the generator refuses, and a name whose successor two drills tell differently."""
    made = [drill(place) for place in range(120)]
    for seed in made:
        check(seed)
        assert not placeholders(seed) and len(seed.sole_steps()) == len(seed.nodes) == 12
    names = [{node.name for node in seed.nodes} for seed in made]
    assert all(not a & b for a, b in combinations(names, 2))
    assert len({seed.id for seed in made}) == 120


def test_a_drill_is_the_same_every_time() -> None:
    """Prevents: a school that depends on what was drawn before."""
    again = drill(3)
    drill(4)
    assert drill(3) == again != drill(5)


def test_its_words_are_plain() -> None:
    """Prevents: a word that stands in both lists, whose names then read alike."""
    assert not set(FIRST) & set(SECOND) and len(set(FIRST)) == len(set(SECOND)) == 40
