"""Which seeds an expert is measured on."""

from __future__ import annotations

from rostok.swarm.grow import measured_on

SEEDS = [f"s-{number:03}" for number in range(100)]


def test_measuring_a_hundred_experts_does_not_take_ten_thousand_cells() -> None:
    """Prevents: a night whose measuring grows with the square of its seeds, and an expert not asked about its own."""
    draws = {seed: measured_on(seed, SEEDS, 12) for seed in SEEDS}
    assert all(seed in draw and len(draw) == 13 for seed, draw in draws.items())
    asked = [sum(seed in draw for draw in draws.values()) for seed in SEEDS]
    assert min(asked) >= 2  # nobody is left out, as the first of the library would not be and the last would
    assert measured_on("s-001", SEEDS[:4], 12) == set(SEEDS[:4])
    assert measured_on("s-001", SEEDS, 0) == {"s-001"}


def test_a_new_seed_changes_few_draws() -> None:
    """Prevents: a hundred experts measured again because one seed was added to the library."""
    changed = [seed for seed in SEEDS if measured_on(seed, [*SEEDS, "s-100"], 12) != measured_on(seed, SEEDS, 12)]
    assert 0 < len(changed) < 30
