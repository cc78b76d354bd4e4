"""Steps of a batching engine, and the pace found from what it was asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rostok.estimate.pace import EnginePace, steps
from rostok.estimate.recorder import Wave, fit

LENGTHS = st.lists(st.integers(1, 200), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 40))
def test_steps_are_bounded_by_work_and_by_the_longest(lengths: list[int], sequences: int) -> None:
    """Prevents: a batch that is told to be done before its longest text, or later than one text after the other."""
    found = steps(lengths, sequences)
    assert max(lengths) <= found <= sum(lengths)
    assert found * sequences >= sum(lengths)
    assert steps(lengths, sequences + 1) <= found + max(lengths)
    assert steps(lengths, 1) == sum(lengths)


@given(st.floats(1e-3, 0.1), st.floats(1e-4, 1e-2), st.floats(0, 0.1))
def test_the_pace_is_found_again(step_s: float, token_s: float, request_s: float) -> None:
    """Prevents: a fit that mixes up what a step, a token and a prompt cost."""
    true = EnginePace(open_s=1, step_s=step_s, token_s=token_s, request_s=request_s, sequences=64)
    waves = [Wave(lengths, 0.0, true.seconds(lengths))
             for lengths in ([150] * 25, [20] * 64, [150, 40, 90], [12] * 9, [100, 160] * 20, [170])]
    found = fit(waves, 64, 1.0)
    for name in ("step_s", "token_s", "request_s"):
        assert getattr(found, name) == pytest.approx(getattr(true, name), rel=1e-3, abs=1e-6)


@given(st.lists(st.tuples(LENGTHS, st.floats(0.01, 60)), min_size=1, max_size=8))
def test_no_noise_makes_time_run_backwards(noisy: list[tuple[list[int], float]]) -> None:
    """Prevents: negative costs, and with them estimates that fall as runs grow, after a noisy measurement."""
    found = fit([Wave(lengths, 0.0, seconds) for lengths, seconds in noisy], 16, 0.5)
    assert found.step_s >= 0
    assert found.token_s >= 0
    assert found.request_s >= 0
    assert found.seconds([100] * 40) >= found.seconds([100] * 20)
