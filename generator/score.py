"""What a text is worth in figures that need no model: density, redundancy, and how many different pages it has."""

from __future__ import annotations

import lzma
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from rostok.generator import adpt
from rostok.generator.frozen import Frozen, frozen, tokenize
from rostok.generator.gates import words
from rostok.generator.neighbours import Neighbours, Place, sketch
from rostok.generator.texts import Text
from rostok.generator.window import read_page
from rostok.records import Record, stable_seed
from rostok.seeds.measures import vendi

if TYPE_CHECKING:
    from rich.table import Table


class Score(Record):
    """The figures of one text.

    Attributes:
        measured: pages that were measured, of all `pages`; fewer when texts of unequal length are compared.
        xz_ratio: bytes before and after xz (Shaib et al., 2403.00553); a text that repeats itself has a higher one.
        distinct_4: different runs of four words, of all.
        near_duplicates: share of pages that are nearly the same as an earlier one (Jaccard >= 0.8 on word 5-grams).
        vendi_pages: effective number of pages by their semantic fields.
        dropped: bytes of a last line that was cut off.
    """

    name: str
    pages: int
    measured: int
    characters: int
    density: adpt.Adpt
    xz_ratio: float
    distinct_4: float
    near_duplicates: float
    vendi_pages: float
    dropped: int = Field(0, ge=0)


def score(texts: Sequence[Text], *, whole: bool = False) -> list[Score]:
    """Figures of each text. Several are measured at the length of the shortest, since every figure but the first falls
    with length; `whole` measures each as long as it is."""
    reference = frozen()
    chosen = [list(text.pages) for text in texts] if whole or len(texts) < 2 else _equal(texts)
    size = 0 if whole else min(len(_bytes(pages)) for pages in chosen)
    return [_score(text, pages, size, reference) for text, pages in zip(texts, chosen, strict=True)]


def _equal(texts: Sequence[Text]) -> list[list[str]]:
    """Pages of each text, drawn at random, up to the number of tokens of the shortest; in their own order."""
    counts = [[len(tokenize(page)) for page in text.pages] for text in texts]
    shortest = min(map(sum, counts))
    chosen = []
    for text, lengths in zip(texts, counts, strict=True):
        order = random.Random(stable_seed("equal length", len(lengths))).sample(range(len(lengths)), len(lengths))
        kept, total = [], 0
        for place in order:
            if total >= shortest:
                break
            kept.append(place)
            total += lengths[place]
        chosen.append([text.pages[place] for place in sorted(kept)])
    return chosen


def _score(text: Text, pages: Sequence[str], size: int, reference: Frozen) -> Score:
    data = _bytes(pages)[: size or None]
    index, twins = Neighbours(), 0
    grams: set[int] = set()  # hashes: four words and their tuple take many times the memory
    total = 0
    for number, page in enumerate(pages):
        found = words(page)
        print_ = sketch(found)
        twins += index.nearest(print_) is not None
        index.add(Place(text.name, number), print_)
        runs = list(zip(found, found[1:], found[2:], found[3:], strict=False))
        grams.update(map(hash, runs))
        total += len(runs)
    profiles = np.stack([read_page(page, reference).profile for page in pages])
    profiles = profiles[profiles.any(axis=1)]
    return Score(
        name=text.name, pages=len(text.pages), measured=len(pages), characters=sum(map(len, pages)),
        density=adpt.measure(pages, reference), xz_ratio=round(len(data) / len(lzma.compress(data)), 3),
        distinct_4=round(len(grams) / max(1, total), 4), near_duplicates=round(twins / len(pages), 4),
        vendi_pages=round(vendi(profiles), 2) if len(profiles) else 0.0, dropped=text.dropped)


def _bytes(pages: Sequence[str]) -> bytes:
    return "\n\n".join(pages).encode()


def _range(parts: adpt.Adpt) -> str:
    return "–" if parts.low is None or parts.high is None else f"{parts.low:.1f}–{parts.high:.1f}"


def table(scores: Sequence[Score]) -> Table:
    """The figures for the terminal: one text a row."""
    from rich.table import Table
    from rich.text import Text as Plain

    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))  # fits 80 columns
    shown.add_column("text", overflow="fold")
    for name in ("pages", "ADPT (95%)", "fields", "gate", "new", "xz", "dist-4", "dup", "Vendi"):
        shown.add_column(name, justify="right", no_wrap=True)
    for found in scores:
        parts = found.density
        pages = f"{found.measured:,}" if found.measured == found.pages else f"{found.measured:,}/{found.pages:,}"
        shown.add_row(
            Plain(found.name), pages, f"{parts.adpt:.1f} ({_range(parts)})", f"{parts.number:.1f}",
            f"{parts.gate:.2f}", f"{parts.novelty:.2f}", f"{found.xz_ratio:.2f}", f"{found.distinct_4:.0%}",
            f"{found.near_duplicates:.1%}", f"{found.vendi_pages:.1f}")
    return shown
