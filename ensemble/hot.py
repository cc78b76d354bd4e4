"""Which adapters lie in the engine's memory: within a budget, the one used longest ago makes room.

The engine knows who is at work, so it is the engine that loads and unloads; here the budget becomes a number of adapters.
More is not always faster: llama.cpp plans its graph for every adapter in memory, so that with 100 of them a change of
adapters takes 21 ms, with 8 of them 2 ms, and reading one anew 3.5 ms (docs/routing.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rostok.config import EnsembleSettings
from rostok.engines.protocol import Engine


def keep_hot(engine: Engine, files: Sequence[Path], settings: EnsembleSettings) -> int:
    """Tell the engine how many of these adapters it may hold at once. Returns the number.

    As many as speak at once are held whatever the budget says, since an answer needs them together.

    Args:
        files: the experts' adapters; the largest counts, so that any choice of them fits.
    """
    largest = max((file.stat().st_size for file in files), default=1)
    fit = int(settings.hot_mib * (1 << 20) // largest)
    needed = settings.experts if settings.mixing in ("adapters", "tokens") else 1
    number = min(max(fit, needed), max(1, len(files)))
    engine.hold(number)
    return number
