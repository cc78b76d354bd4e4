"""Freeze a reference: public-domain prose -> reference.npz, which ADPT and the surprisal gate measure with.

    python -m rostok.generator.freeze TEXTS [--out reference.npz]

TEXTS holds one folder per register with .txt files in it; `bench/adpt_texts.py` unpacks those that the shipped file was
made from. Takes about three minutes on two cores. The same texts, embedder and library versions give the same file.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rostok.errors import DataError
from rostok.generator import adpt
from rostok.generator.frozen import FORMAT, SHAPES, STEP, STRONGEST, Frozen, frozen, shape, tokenize
from rostok.generator.texts import cut_pages
from rostok.generator.window import read_page
from rostok.records import file_digest, write_atomic
from rostok.seeds.measures import Embeds

FIELDS = 512
_TIES = 3           # fields of one word at most
_ACTIVE = 0.006     # share of all pairs of word and field that count as tied: this sets the threshold on the cosine
_DIMENSIONS = 32    # of the fields' centroids as they are kept
_FREQUENT = 500     # words that are classes of their own in the bigram model
_PHRASES = 20_000
_PAGES = 4_000      # of each register at most
_APART = 5          # every fifth page
_SEED = 7
_CLAUSE = re.compile(r"[,;:.!?—()\"“”]+|--+")


def freeze(registers: dict[str, list[str]], embedder: Embeds, vocabulary: Sequence[str], sources: dict[str, str], *,
           fields: int = FIELDS) -> bytes:
    """The bytes of a reference.

    Args:
        registers: {register: pages of about 550 characters}.
        embedder: gives fields and words their places.
        vocabulary: known words, the most frequent first.
        sources: {name: SHA-256} of the texts, kept for the record.
        fields: clusters of phrases; those that are not reusable are dropped.

    Raises:
        DataError: fewer than two registers, or too little text.
    """
    pages = {name: random.Random(_SEED).sample(texts, min(_PAGES, len(texts))) for name, texts in sorted(registers.items())}
    if len(pages) < 2 or sum(map(len, pages.values())) < 2 * fields:
        raise DataError("a reference needs two registers (folders) or more, and two pages of 550 characters for each of its "
                        f"{fields} fields.")
    every = [page for texts in pages.values() for page in texts]
    words = _words(vocabulary, every)
    centroids, ties, strength, threshold = _fields(every, words, embedder, fields)
    # The bands come from pages that the bigram model has not counted, as every text is that will be measured with them.
    frequent, costs = _bigrams([page for number, page in enumerate(every) if number % _APART])
    draft = Frozen(tuple(words), ties, strength, centroids, tuple(frequent), costs, {}, "")
    ties, strength, centroids, dropped = _reusable(pages, draft)
    facts = {"format": FORMAT, "fields": len(centroids), "dropped": dropped, "threshold": round(threshold, 4),
             "embedder": embedder.sha256, "sources": sources,
             "registers": {name: len(texts) for name, texts in pages.items()}}
    draft = Frozen(tuple(words), ties, strength, centroids, tuple(frequent), costs, facts, "")
    read = [window for window in (read_page(page, draft) for page in every[::_APART]) if window.tokens >= adpt.WINDOW // 2]
    facts["surprisal"] = _percentiles([window.surprisal for window in read])
    facts["number"] = _percentiles([window.number(draft) for window in read])
    return _pack(draft)


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return {f"p{share}": round(float(np.percentile(values, share)), 4) for share in (1, 5, 50, 95, 99)}


def _words(vocabulary: Sequence[str], pages: Sequence[str]) -> list[str]:
    """The vocabulary, and behind it what the reference uses often and the vocabulary lacks."""
    known = dict.fromkeys(vocabulary)
    counts = Counter(token.lower() for page in pages for token in tokenize(page) if token.isalpha() and len(token) > 2)
    more = [word for word, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
            if count >= 8 and word not in known]
    return [*known, *more]


def _fields(pages: Sequence[str], words: Sequence[str], embedder: Embeds, fields: int,
            ) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.float32], float]:
    """Centroids of the reference's phrases, and what ties every word to them: max(0, cosine - threshold), scaled to 1."""
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    phrases = sorted({clause for page in pages for part in _CLAUSE.split(page)
                      for clause in [" ".join(part.split())] if 3 <= len(clause.split()) <= 12})
    vectors = embedder.embed(random.Random(_SEED).sample(phrases, min(_PHRASES, len(phrases))))
    spoken = np.array([word not in ENGLISH_STOP_WORDS and len(word) > 2 for word in words])
    tokens = embedder.embed(words)
    # A direction that all phrases share says nothing, and makes every cosine high (Mu & Viswanath, 1702.01417).
    mean, own = vectors.mean(axis=0), tokens[spoken].mean(axis=0)
    vectors, tokens = _unit(vectors - mean), _unit(tokens - own)
    centres = _unit(KMeans(fields, n_init=1, max_iter=50, random_state=_SEED).fit(vectors).cluster_centers_)
    cosines = tokens @ centres.T
    cosines[~spoken] = -1
    threshold = float(np.quantile(cosines[spoken], 1 - _ACTIVE))
    ties = np.argsort(-cosines, axis=1, kind="stable")[:, :_TIES]
    strength = np.maximum(np.take_along_axis(cosines, ties, 1) - threshold, 0)
    strength /= strength.max()
    _, _, axes = np.linalg.svd(centres, full_matrices=False)
    return _unit(centres @ axes[:_DIMENSIONS].T), ties.astype(np.int32), strength.astype(np.float32), threshold


def _bigrams(pages: Sequence[str]) -> tuple[list[str], NDArray[np.float32]]:
    """Frequent words and the bits of every class after every other: absolute discounting, backing off to the class alone."""
    counts = Counter(token.lower() for page in pages for token in tokenize(page) if token[0].isalpha())
    frequent = [word for word, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_FREQUENT]]
    place = {name: number for number, name in enumerate((*SHAPES, *frequent))}
    size = len(place)
    pairs = np.zeros((size, size))
    for page in pages:
        classes = [0]
        for token in tokenize(page):
            own = place.get(token.lower(), -1)
            classes.append(own if own >= len(SHAPES) else place[shape(token)])
        for before, after in pairwise(classes):
            pairs[before, after] += 1
    alone = (pairs.sum(axis=0) + 0.5) / (pairs.sum() + 0.5 * size)
    pairs[pairs < 2] = 0  # a pair seen once is mostly chance, and costs room
    held = pairs.sum(axis=1, keepdims=True)
    left = np.where(held > 0, 0.75 * (pairs > 0).sum(axis=1, keepdims=True) / np.maximum(held, 1), 1.0)
    chance = np.maximum(pairs - 0.75, 0) / np.maximum(held, 1) + left * alone
    return frequent, -np.log2(chance).astype(np.float32)


def _reusable(pages: dict[str, list[str]], draft: Frozen,
              ) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32], int]:
    """Drop fields that do not recur: reusable is what is active on three pages, in two registers, beside different others."""
    fields = len(draft.centroids)
    on_pages, in_registers = np.zeros(fields, int), np.zeros(fields, int)
    beside = np.zeros((fields, fields), bool)
    for texts in pages.values():
        cut = adpt.windows(texts, draft)
        here = np.zeros((len(texts), fields), bool)
        for page, active in zip(cut.page, cut.active, strict=True):
            own = active[active >= 0]
            here[page, own] = True
            beside[np.ix_(own, own)] = True
        on_pages += here.sum(axis=0)
        in_registers += here.sum(axis=0) >= 3
    kept = (on_pages >= 3) & (in_registers >= 2) & (beside.sum(axis=1) >= 9)
    renamed = np.cumsum(kept) - 1
    strength = np.where(kept[draft.ties], draft.strength, 0)
    ties = np.where(kept[draft.ties], renamed[draft.ties], 0)
    return ties.astype(np.int32), strength.astype(np.float32), draft.centroids[kept], int((~kept).sum())


def _pack(reference: Frozen) -> bytes:
    """An .npz of bytes and small integers."""
    strength = np.rint(reference.strength * STRONGEST).astype(np.uint8)
    arrays = {
        "words": np.frombuffer("\n".join(reference.words).encode(), np.uint8),
        "frequent": np.frombuffer("\n".join(reference.frequent).encode(), np.uint8),
        "ties": np.where(strength > 0, reference.ties, 0).astype(np.uint16), "strength": strength,
        "centroids": np.rint(127 * reference.centroids / np.abs(reference.centroids).max()).astype(np.int8),
        "costs": np.minimum(np.rint(reference.costs / STEP), 255).astype(np.uint8),
        "facts": np.frombuffer(json.dumps(reference.facts, sort_keys=True).encode(), np.uint8),
    }
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def main() -> None:
    """Read a folder of texts, freeze, write."""
    from rostok.config import EMBEDDED
    from rostok.embedder import Embedder
    from rostok.environment import prepare
    from rostok.models import find_embedder

    parser = argparse.ArgumentParser(description="Freeze a reference from public-domain prose.")
    parser.add_argument("texts", type=Path, help="a folder with one folder of .txt files per register")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("reference.npz"))
    options = parser.parse_args()
    prepare()
    model = find_embedder(EMBEDDED)
    registers, sources = read_registers(options.texts)
    data = freeze(registers, Embedder(model), vocabulary(model.source), sources)
    write_atomic(options.out, data)
    print(f"{options.out}: {len(data):,} bytes\n{json.dumps(frozen(options.out).facts, indent=1)}")


def read_registers(folder: Path) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Pages, and the SHA-256 of all files, of every register. Raises `DataError` for a folder without any."""
    pages, sources = {}, {}
    for register in sorted(path for path in folder.glob("*") if path.is_dir()):
        files = sorted(register.glob("*.txt"))
        if files:
            pages[register.name] = [page for path in files for page in cut_pages(path.read_text(encoding="utf-8"))]
            sources[register.name] = file_digest(*files)
    if not pages:
        raise DataError(f"{folder} holds no folder with .txt files in it. Give a folder with one folder per register.")
    return pages, sources


def vocabulary(folder: Path) -> list[str]:
    """Whole words of the embedder's word pieces, in their order, which is that of their frequency in its training text."""
    pieces = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return [piece for piece, _ in sorted(pieces.items(), key=lambda item: item[1]) if piece.isascii() and piece.isalpha() and
            (len(piece) > 1 or piece in "ai")]


if __name__ == "__main__":
    main()
