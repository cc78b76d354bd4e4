"""Freezing a reference, with vectors that need no model."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rostok.errors import DataError
from rostok.generator.adpt import measure
from rostok.generator.freeze import freeze, read_registers
from rostok.generator.frozen import frozen

PROSE = Path(__file__).parent / "prose"


class Hashed:
    """A vector per word, from its hash; a text is the sum of its words."""

    sha256 = "0" * 64

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = []
        for text in texts:
            seeds = [int(hashlib.sha256(word.encode()).hexdigest()[:8], 16) for word in text.lower().split()]
            rows.append(np.sum([np.random.default_rng(number).normal(size=48) for number in seeds], axis=0))
        vectors = np.array(rows, np.float32)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


@pytest.fixture(scope="module")
def registers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The samples of prose, each a register."""
    folder = tmp_path_factory.mktemp("texts")
    for path in PROSE.glob("*.txt"):
        (folder / path.stem).mkdir()
        (folder / path.stem / path.name).write_bytes(path.read_bytes())
    return folder


def test_the_same_texts_freeze_to_the_same_bytes(registers: Path, tmp_path: Path) -> None:
    """Prevents: a reference that nobody can build again, or that cannot be read back."""
    pages, sources = read_registers(registers)
    words = sorted({word for texts in pages.values() for page in texts for word in page.lower().split() if word.isalpha()})
    first = freeze(pages, Hashed(), words, sources, fields=24)
    assert first == freeze(pages, Hashed(), words, sources, fields=24)
    (tmp_path / "reference.npz").write_bytes(first)
    held = frozen(tmp_path / "reference.npz")
    assert held.facts["sources"] == sources
    assert held.facts["fields"] + held.facts["dropped"] == 24
    band = held.facts["surprisal"]
    assert 0 < band["p1"] < band["p5"] < band["p50"] < band["p95"] < band["p99"]
    assert measure(pages["persuasion"], held).adpt > 0


def test_too_little_text_is_refused(registers: Path, tmp_path: Path) -> None:
    """Prevents: a reference frozen from a folder that was not the one meant."""
    pages, sources = read_registers(registers)
    with pytest.raises(DataError, match="two registers"):
        freeze({"persuasion": pages["persuasion"]}, Hashed(), ["word"], sources, fields=4)
    with pytest.raises(DataError, match="no folder with"):
        read_registers(tmp_path)
