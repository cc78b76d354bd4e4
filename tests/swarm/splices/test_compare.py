"""A splice beside its parents and a freshly trained adapter, with the real trainer and engine on a tiny base."""

from __future__ import annotations

import torch
from rich.console import Console

from rostok.generator.folder import training_pages
from rostok.models import Base
from rostok.progress import Watch
from rostok.records import append_jsonl, read_jsonl, read_record
from rostok.runs import Run
from rostok.swarm import school
from rostok.swarm.adapters import read_adapter
from rostok.swarm.base import FrozenBase
from rostok.swarm.compare import compare, difference_interval, verdict
from rostok.swarm.evaluate import GeneralAnswer
from rostok.swarm.fresh import fresh_adapter
from rostok.swarm.records import Comparison, Expert, Score, Splice
from rostok.swarm.splice import Merge, merge, split


def test_a_merge_is_measured_beside_training_again(run: Run, base: Base) -> None:
    """Prevents: a parent measured with another's adapter still in the base, a yardstick of another rank or on one corpus only,
    and a yardstick that is trained again for every splice."""
    one, two = (expert.seed for expert in read_jsonl(run.registry, Expert))
    append_jsonl(run.experts / "general.jsonl", [GeneralAnswer(question="What is tea?", answer="A hot drink.")])
    settings, watch = run.read().settings, Watch(Console(quiet=True))
    exact = merge(run, (one, two), base, Merge(rank=6))
    found = compare(run, [exact], base, settings, watch)[0]
    assert found == read_record(run.experts / exact.name / "measured.json", Comparison)
    assert [score.role for score in found.scores] == ["base", "parent", "parent", "splice", "fresh"]
    assert [score.rank for score in found.scores] == [0, 4, 6, 6, 6]
    assert all(set(score.probes) == set(score.chat_probes) == set(score.bits_per_byte) == {one, two} for score in found.scores)
    bits = [score.bits_per_byte[one] for score in found.scores]
    assert len(set(bits)) == 5
    assert found.fresh_seconds > 0
    tokens = sum(len(page.text) for seed in (one, two) for page in training_pages(run.corpora / seed)[0]) / 8
    assert found.fresh_tokens > tokens  # both corpora
    assert exact.title in verdict(exact, found)
    assert compare(run, [exact], base, settings, watch) == [found]

    thinned = merge(run, (two, one), base, Merge(method="ties", rank=6))
    other = compare(run, [thinned], base, settings, watch)[0]
    assert (other.fresh_tokens, other.fresh_seconds) == (found.fresh_tokens, 0)
    same = {score.name: (score.probes, score.bits_per_byte, score.general) for score in other.scores if score.role != "splice"}
    assert same == {score.name: (score.probes, score.bits_per_byte, score.general) for score in found.scores
                    if score.role != "splice"}


def test_the_yardstick_begins_where_the_experts_began(schooled: Run, base: Base) -> None:
    """Prevents: a splice that is held against an adapter which had to learn from nothing what its parents began with."""
    one, two = (expert.seed for expert in read_jsonl(schooled.registry, Expert))
    settings = schooled.read().settings
    slow = settings.model_copy(update={"training": settings.training.model_copy(update={"learning_rate": 1e-12})})
    made, _, _ = fresh_adapter(schooled, [one, two], 5, base, slow, lambda: FrozenBase(base))
    begun, fresh = read_adapter(school.folder(schooled)), read_adapter(made)
    for module, (a, b) in fresh.pairs.items():
        assert a.shape[0] == 5 and torch.allclose(b @ a, begun.pairs[module][1] @ begun.pairs[module][0], atol=1e-4)


def test_both_parts_of_a_split_are_measured(run: Run, base: Base) -> None:
    """Prevents: the second part of a split compared with a yardstick of the first one's rank."""
    whole = read_jsonl(run.registry, Expert)[1].seed
    parts = split(run, whole, base, 2)
    found = compare(run, parts, base, run.read().settings, Watch(Console(quiet=True)))
    for part, comparison in zip(parts, found, strict=True):
        assert [score.rank for score in comparison.scores if score.role == "fresh"] == [part.rank]
        assert [score.role for score in comparison.scores] == ["base", "parent", "splice", "splice", "fresh"]


def _figures(splice: Splice, mine: float, fresh: float) -> Comparison:
    scores = [Score(role=role, name=name, title="A + B", probes={"a": share}, chat_probes={"a": share}, bits_per_byte={})
              for role, name, share in (("splice", splice.name, mine), ("fresh", "fresh-4", fresh))]  # type: ignore[arg-type]
    return Comparison(made_from="0", seeds={"a": "A"}, items={"a": 72}, chat_items={"a": 28}, chance=0.1, scores=tuple(scores),
                      fresh_tokens=0, fresh_seconds=0)


def test_the_verdict_says_when_a_splice_is_worse() -> None:
    """Prevents: a loss told as a draw, and a difference of a few lucky answers told as a win."""
    splice = Splice(name="x-000000000000", title="A + B", operator="merge", parents=(), of_seeds=("a",), rank=4, kept=1,
                    made_from="0", base_sha256="0", adapter_sha256="0", gguf_sha256="0", rostok="0")
    assert "A + B is WORSE than training again: 40% of 100" in verdict(splice, _figures(splice, 0.4, 0.7))
    assert "is better than training again" in verdict(splice, _figures(splice, 0.9, 0.7))
    assert "cannot be told from training again" in verdict(splice, _figures(splice, 0.72, 0.7))
    low, high = difference_interval(56, 48, 72)  # 0.7778 - 0.6667; Agresti and Caffo by hand: 57/74 - 49/74 ± 1.96 · 0.0736
    assert (round(low, 3), round(high, 3)) == (-0.036, 0.252)
