"""One plain sentence: was the structure of the seeds learned? Wins and losses are told alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rostok.report.wording import Wording

TIMES_CHANCE = 2  # with 36 probes and chance 0.09, guessing gets there in fewer than 1 of 20 experts


@dataclass(frozen=True)
class Verdict:
    """The sentence, and the mean shares that it tells, for drawing.

    Attributes:
        tone: `win` (all experts know their path, and beat the base that reads the seed), `loss` (none knows it),
            `mixed`, or `none` (not measured).
        means: {row: mean share right}, rows `expert`, `base`, `base_with_seed`, `chance`.
    """

    tone: str
    sentence: str
    rule: str = ""
    means: dict[str, float | None] = field(default_factory=dict)


def verdict(figures: Mapping[str, Any], wording: Wording) -> Verdict:
    """The verdict on the figures of `facts`: the multiple-choice probes of every expert about its own seed."""
    probes, chance = figures["probes"] or {}, figures["chance"]
    base, seeded = probes.get("base", {}), probes.get("base_with_seed", {})
    own = {row: scores[row] for row, scores in probes.items() if row in scores}
    if not own or chance is None:
        return Verdict("none", wording("verdict_none"))
    known = sum(score > base.get(seed, 0.0) and score >= TIMES_CHANCE * chance for seed, score in own.items())
    mean_own, mean_base, mean_seeded = mean(own), mean(base, own), mean(seeded, own)
    opening = "verdict_zero" if known == 0 else "verdict_one" if known == 1 else "verdict_all"
    sentence = wording(
        opening, known=wording.count(known), all=wording.count(len(own)), own=wording.number(mean_own)
    )
    sentence += wording(
        "verdict_rivals",
        base=wording.number(mean_base),
        seeded=wording.number(mean_seeded),
        chance=wording.number(chance),
    )
    if mean_own is not None and mean_seeded is not None and mean_seeded >= mean_own:
        sentence += " " + wording("verdict_reads")
    tone = "loss" if known == 0 else "win" if known == len(own) and _ahead(mean_own, mean_seeded) else "mixed"
    means = {"expert": mean_own, "base": mean_base, "base_with_seed": mean_seeded, "chance": chance}
    return Verdict(tone, sentence, wording("verdict_rule"), means)


def mean(scores: Mapping[str, float], over: Mapping[str, float] | None = None) -> float | None:
    """The mean of the scores (of the seeds in `over` alone), None when there are none."""
    values = [score for seed, score in scores.items() if over is None or seed in over]
    return sum(values) / len(values) if values else None


def _ahead(own: float | None, seeded: float | None) -> bool:
    return own is not None and (seeded is None or own > seeded)
