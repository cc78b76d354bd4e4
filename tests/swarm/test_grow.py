"""Which seeds are trained, and which an expert is measured on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from rostok.config import resolve
from rostok.errors import RunError
from rostok.models import Base
from rostok.progress import Watch
from rostok.runs import Run
from rostok.seeds.record import Seed
from rostok.swarm import grow as growing
from rostok.swarm.evaluate import measured_on
from rostok.swarm.grow import grow
from rostok.swarm.jobs import Order
from rostok.swarm.supervisor import Outcome
from tests.swarm.tiny_run import make_corpus

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


def test_seeds_without_a_corpus_hold_up_no_other(make_seed: Callable[..., Seed], tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a hundred experts that are not trained because the gates refused one seed's pages, or one left out in silence."""
    trained: list[str] = []

    def nobody_trains(run: Run, orders: Sequence[Order], *rest: object, **more: object) -> Outcome:
        trained.extend(order.name for order in orders)
        return Outcome((), (), "", False)

    monkeypatch.setattr(growing, "execute", nobody_trains)
    run, seeds = Run(tmp_path / "run"), [make_seed(place) for place in range(3)]
    settings = resolve(options={"school": {"drills": 0}})
    run.start(settings)
    base, watch = Base("tiny", tmp_path, "0" * 64), Watch(quiet=True)
    with pytest.raises(RunError, match="has no finished corpus yet. Run: rostok corpus build"):
        grow(run, seeds, base, settings, watch)
    for seed in (seeds[0], seeds[2]):
        make_corpus(run, seed.id, 24)
    (run.corpora / seeds[1].id).mkdir()  # begun, and given up
    grown = grow(run, seeds, base, settings, watch)
    assert trained == [seeds[0].id, seeds[2].id]
    assert grown.unbuilt == (f"{seeds[1].id} ({seeds[1].title})",)
    assert grown.left_out == ()
    assert [event.note for event in run.events() if event.kind == "left out"] == [
        f"{seeds[1].id} ({seeds[1].title}): it has no finished corpus"]
