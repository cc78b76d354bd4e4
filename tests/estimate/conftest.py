"""A pace in plain numbers: what a prediction does with it needs no machine."""

from __future__ import annotations

import pytest

from rostok.estimate.pace import AuthorPace, CorpusPace, EnginePace, MemoryPace, Pace, Peaks, Sizes, SwarmPace


@pytest.fixture(scope="session")
def pace() -> Pace:
    """Round figures, near those of two cores."""
    return Pace(
        how="measured", machine="two cores", model="SmolLM2-135M-Instruct",
        engine=EnginePace(open_s=1, step_s=0.01, token_s=0.001, request_s=0.02, sequences=64),
        author=AuthorPace(fixed_s=5, seed_s=12, compare_s=0.004),
        corpus=CorpusPace(bank_s=4, by_model=0.35, refused=0.1, lengths=(100, 140, 170), page_s=0.005),
        swarm=SwarmPace(load_s=5, start_s=3, page_tokens=150, together=8, step_tokens=4800, step_s=0.1, token_s=0.001, keep_s=1,
                        probe_s=1, read_s=0.1, card_s=1, general_s=0.5, ask_s=4),
        memory=MemoryPace(fixed_s=4, remember_s=0.01, question_s=0.01, report_s=8),
        sizes=Sizes(seed=250_000, corpus=40_000, page=2_000, expert=30e6, remembered=9_000, fixed=1e6),
        peaks=Peaks(author=2_700, corpus=2_700, swarm=3_000, adapter=100, memory=1_500, remembered=0.004, report=1_500))
