"""A splice beside its parents, the base, and an adapter trained freshly on the corpora of all its parents.

Recycled adapters often add nothing (arXiv 2602.12323), so every splice is held against what training again would have given.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from rostok.config import Settings
from rostok.engines.open import open_engine
from rostok.errors import DataError, RunError
from rostok.generator.folder import training_pages
from rostok.models import Base
from rostok.progress import Watch
from rostok.records import digest, read_jsonl, read_record, write_atomic
from rostok.runs import Run
from rostok.seeds.library import Library
from rostok.seeds.record import Seed
from rostok.swarm import probes, registry
from rostok.swarm.base import FrozenBase
from rostok.swarm.evaluate import GeneralAnswer, general_rows, per_token
from rostok.swarm.fresh import fresh_adapter
from rostok.swarm.measure import bits_per_byte
from rostok.swarm.records import Comparison, Score, Splice

_COMPARISON = 1  # raise when the same splice would be measured otherwise


def compare(run: Run, splices: Sequence[Splice], base: Base, settings: Settings, watch: Watch) -> list[Comparison]:
    """Measure the splices of one merge or split, and write each one's `measured.json`. Call with the run held.

    Raises:
        RunError: a seed or a corpus is missing; `--no-measure` does without.
        DataError: a corpus or an adapter was changed.
        ModelError: an adapter cannot be used with the base.
    """
    settled = [_settled(run, splice, settings) for splice in splices]
    if all(one is not None for one in settled):
        return [one for one in settled if one is not None]
    wanted = splices[0].of_seeds
    known = {seed.id: seed for seed in Library(run.seeds).seeds()}
    missing = [seed for seed in wanted if seed not in known]
    if missing:
        raise RunError(f"the seed {missing[0]} is not in the library of {run.folder}, so its probes cannot be asked. "
                       "Add --no-measure to leave the comparison out.")
    seeds = [known[seed] for seed in wanted]
    models = _models(run, splices, base)
    lazy = _Lazy(base)
    yardsticks = {}
    for rank in dict.fromkeys(splice.rank for splice in splices):
        path, record, now = fresh_adapter(
            run, wanted, rank, base, settings, lazy, lambda steps: watch.start("train a fresh adapter", steps, "steps"),
            lambda steps, tokens: watch.advance(steps, tokens))
        watch.finish()
        yardsticks[rank] = (record, now)
        models.append(("fresh", f"fresh-{rank}", "trained freshly on the same corpora", rank, path))
    scores = _by_likelihood(run, seeds, models, lazy(), settings, watch)
    del lazy
    gc.collect()  # the 4-bit base goes before the serving engine comes
    chat, asked = _by_questions(seeds, models, base, settings, watch)
    comparisons = []
    for splice in splices:
        record, now = yardsticks[splice.rank]
        own = [score.model_copy(update={"chat_probes": chat[score.name]}) for score in scores
               if score.role != "fresh" or score.rank == splice.rank]
        comparisons.append(Comparison(
            made_from=_origin(splice, settings), seeds={seed.id: seed.title for seed in seeds},
            items={seed.id: len(seed.sole_steps()) * len(probes.COMPLETIONS) for seed in seeds}, chat_items=asked,
            chance=round(sum(1 / (len(seed.nodes) - 1) for seed in seeds) / len(seeds), 4),
            scores=tuple(own), fresh_tokens=record.tokens, fresh_seconds=record.seconds if now else 0.0))
        write_atomic(run.experts / splice.name / "measured.json", comparisons[-1].model_dump_json(indent=1) + "\n")
    return comparisons


def verdict(splice: Splice, comparison: Comparison) -> str:
    """In one sentence how the splice stands beside the freshly trained adapter, over all probes of all its seeds."""
    mine = next(score for score in comparison.scores if score.name == splice.name)
    fresh = next(score for score in comparison.scores if score.role == "fresh")
    hits, items = _hits(mine, comparison)
    others, _ = _hits(fresh, comparison)
    low, high = difference_interval(hits, others, items)
    figures = (f"{hits / items:.0%} of {items} probes and open questions right, freshly trained {others / items:.0%} "
               f"(difference {(hits - others) / items:+.0%}, 95% interval {low:+.0%} to {high:+.0%})")
    if high < 0:
        return f"{mine.title} is WORSE than training again: {figures}."
    if low > 0:
        return f"{mine.title} is better than training again: {figures}."
    return f"{mine.title} cannot be told from training again: {figures}."


def difference_interval(hits: int, others: int, items: int) -> tuple[float, float]:
    """95% interval of hits/items - others/items, each with one success and one failure added (Agresti and Caffo 2000)."""
    a, b = (hits + 1) / (items + 2), (others + 1) / (items + 2)
    half = 1.96 * math.sqrt(a * (1 - a) / (items + 2) + b * (1 - b) / (items + 2))
    return a - b - half, a - b + half


# ── what is measured ────────────────────────────────────────────────────────────────────────────────────────────

_Model = tuple[Literal["base", "parent", "splice", "fresh"], str, str, int, Path | None]  # role, name, title, rank, folder


class _Lazy:
    """The frozen base, loaded when it is first needed."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._frozen: FrozenBase | None = None

    def __call__(self) -> FrozenBase:
        if self._frozen is None:
            self._frozen = FrozenBase(self._base)
        return self._frozen


def _models(run: Run, splices: Sequence[Splice], base: Base) -> list[_Model]:
    models: list[_Model] = [("base", "base", "base", 0, None)]
    for parent in splices[0].parents:
        expert = registry.find(run, parent.seed)
        if expert.adapter_sha256 != parent.adapter_sha256:
            raise DataError(f"“{parent.title}” was trained anew since it was spliced. Make the splice again.")
        rank = registry.read(run, expert, base).rank
        models.append(("parent", expert.seed, expert.title, rank, registry.checked_folder(run, expert, base)))
    for splice in splices:
        folder = registry.checked_folder(run, splice.expert(), base)
        models.append(("splice", splice.name, splice.title, splice.rank, folder))
    return models


def _by_likelihood(run: Run, seeds: Sequence[Seed], models: Sequence[_Model], frozen: FrozenBase, settings: Settings,
                   watch: Watch) -> list[Score]:
    held_out = {}
    for seed in seeds:
        pages = training_pages(run.corpora / seed.id)[1][: settings.probes.matrix_pages]
        held_out[seed.id] = [frozen.render(page) for page in pages]
    general = general_rows(frozen, read_jsonl(run.experts / "general.jsonl", GeneralAnswer)[: settings.probes.general])
    watch.start("measure the splice", len(models) * len(seeds), "probes")
    scores = []
    for role, name, title, rank, folder in models:
        with _adapted(frozen, folder) as model:
            accuracy, bits = {}, {}
            for seed in seeds:
                accuracy[seed.id] = round(probes.multiple_choice(model, frozen, seed), 4)
                bits[seed.id] = round(bits_per_byte(model, frozen, held_out[seed.id], settings.training.max_tokens), 4)
                watch.advance()
            scores.append(Score(role=role, name=name, title=title, rank=rank, probes=accuracy, bits_per_byte=bits,
                                general=per_token(model, general) if general else None))
    watch.finish()
    return scores


def _by_questions(seeds: Sequence[Seed], models: Sequence[_Model], base: Base, settings: Settings,
                  watch: Watch) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Open questions through the serving engine: {model: {seed: share right}}, and how many were asked by seed."""
    asked = {seed.id: probes.questions(seed, settings.probes.chat_nodes) for seed in seeds}
    shares: dict[str, dict[str, float]] = {}
    watch.start("ask the splice", len(models) * sum(map(len, asked.values())), "questions")
    with open_engine(base, settings.models) as engine:
        for _, name, _, _, folder in models:
            if folder is not None:
                engine.add_adapter(name, folder)
            shares[name] = {}
            for seed in seeds:
                answers = probes.ask(engine, asked[seed.id], adapter=name if folder is not None else None)
                hits = [probes.right(answer, seed, about, expected)
                        for answer, (_, about, expected) in zip(answers, asked[seed.id], strict=True)]
                shares[name][seed.id] = round(sum(hits) / len(hits), 4)
                watch.advance(len(hits))
    watch.finish()
    return shares, {seed: len(items) for seed, items in asked.items()}


@contextmanager
def _adapted(frozen: FrozenBase, folder: Path | None) -> Iterator[Any]:
    """The base under an adapter, and as it was before afterwards."""
    from peft import PeftModel

    if folder is None:
        yield frozen.model
        return
    model = PeftModel.from_pretrained(frozen.model, str(folder), local_files_only=True)
    try:
        yield model.eval()
    finally:
        frozen.model = model.unload()
        if hasattr(frozen.model, "peft_config"):
            del frozen.model.peft_config


def _hits(score: Score, comparison: Comparison) -> tuple[int, int]:
    """Right answers and questions, multiple-choice and open ones together."""
    hits = (sum(share * comparison.items[seed] for seed, share in score.probes.items())
            + sum(share * comparison.chat_items[seed] for seed, share in score.chat_probes.items()))
    return round(hits), sum(comparison.items.values()) + sum(comparison.chat_items.values())


def _origin(splice: Splice, settings: Settings) -> str:
    return digest(splice, settings.training, settings.probes, settings.random_seed, _COMPARISON)


def _settled(run: Run, splice: Splice, settings: Settings) -> Comparison | None:
    path = run.experts / splice.name / "measured.json"
    if not path.is_file():
        return None
    found = read_record(path, Comparison)
    return found if found.made_from == _origin(splice, settings) else None
