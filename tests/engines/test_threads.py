"""Threads give way to other programs, and come back."""

from __future__ import annotations

from rostok.engines.threads import Threads


def test_threads_give_way_to_a_busy_neighbour_and_come_back() -> None:
    """Prevents: a night ten times slower because a browser holds one core, and one that stays slow afterwards."""
    used: list[int] = []
    threads = Threads(2, used.append)
    clock = 0.0

    def steps(number: int, seconds: float, processor: float) -> None:
        nonlocal clock
        for _ in range(number):
            clock += seconds
            threads.took(seconds, processor, clock)

    steps(5, 0.05, 0.1)
    assert used == []
    steps(2, 0.5, 0.35)
    steps(1, 0.06, 0.12)
    assert used == []  # a single hiccup changes nothing
    steps(3, 0.5, 0.35)
    assert used == [1]
    steps(40, 0.1, 0.09)
    assert used == [1]
    steps(61, 0.1, 0.1)
    assert used[:2] == [1, 2]


def test_many_threads_are_halved_down_to_one() -> None:
    """Prevents: a count of 0, or sixteen threads given up one by one while every step takes seconds."""
    used: list[int] = []
    threads = Threads(16, used.append)
    for step in range(30):
        threads.took(1.0, 0.4, 0.1 * step)
    assert used == [8, 4, 2, 1]
