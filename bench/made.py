"""Corpora made by code alone, for benches that measure something else: no model, and the same every time."""

from __future__ import annotations

from rostok.config import CorpusSettings
from rostok.generator.bank import Bank
from rostok.generator.compose import compose, converse
from rostok.generator.plan import plan
from rostok.generator.records import Page
from rostok.seeds.record import Seed


def composed(thought: Seed, settings: CorpusSettings, random_seed: int) -> list[Page]:
    """All pages of a corpus, as `rostok corpus build` composes its own part; `settings` plan no page for a model."""
    made = []
    for spec in plan(thought, settings, random_seed):
        size = settings.page_characters
        turns = converse(spec, thought, Bank(), size, 0, random_seed) if spec.kind == "dialogue" else ()
        text = "\n\n".join(turn.content for turn in turns) or compose(spec, thought, Bank(), size, 0, random_seed)
        made.append(Page(spec=spec.number, kind=spec.kind, author="code", text=text, turns=turns, held_out=spec.held_out))
    return made
