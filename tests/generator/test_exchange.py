"""Corpora on their way out."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from rostok.config import CorpusSettings, Shares
from rostok.errors import DataError
from rostok.generator import corpus, exchange
from rostok.generator.records import Page
from rostok.records import read_jsonl
from rostok.seeds.record import Seed


class NoEngine:
    """No page of these corpora needs a model."""

    def submit_all(self, requests: list[object]) -> list[object]:
        assert not requests
        return []


@pytest.fixture(scope="module")
def folder(keeper: Seed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("corpora") / keeper.id
    shares = Shares(written=0, composed=0.6, dialogue=0.4, rewritten=0, replay=0)
    corpus.build(keeper, made, CorpusSettings(pages=40, bank=0, shares=shares), 7, NoEngine(), "0" * 64)  # type: ignore[arg-type]
    return made


def test_parquet_holds_every_page_and_column(folder: Path, tmp_path: Path) -> None:
    """Prevents: rows or fields that are lost on the way out, and columns whose type depends on the rows."""
    assert exchange.export_parquet([folder], tmp_path / "pages.parquet") == 40
    rows = pq.read_table(tmp_path / "pages.parquet").to_pylist()
    pages = sorted(read_jsonl(folder / "pages.jsonl", Page), key=lambda page: page.spec)
    for row, page in zip(rows, pages, strict=True):
        values = json.loads(page.line())
        text = {name: json.dumps(values[name]) for name in ("sampled", "figures")}
        assert {**row, **{name: json.loads(row[name]) for name in text}} == values


def test_a_dataset_folder_is_read_by_the_library_that_it_is_for(folder: Path, tmp_path: Path) -> None:
    """Prevents: a card or files that load_dataset refuses, and held-out pages among those to train on."""
    from datasets import load_dataset

    assert exchange.export_hf([folder], {}, tmp_path / "set") == 40
    loaded = load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "test"} and len(loaded["train"]) + len(loaded["test"]) == 40
    assert all(loaded["test"]["held_out"]) and not any(loaded["train"]["held_out"])
    card = (tmp_path / "set" / "README.md").read_text()
    assert "| composed | 24 |" in card and folder.name in card
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(DataError, match="is not empty and holds no dataset"):
        exchange.export_hf([folder], {}, tmp_path / "other")


def test_only_whole_corpora_leave(folder: Path, tmp_path: Path) -> None:
    """Prevents: a dataset made of a corpus that is still being written, or that was edited."""
    assert exchange.export_jsonl([folder], tmp_path / "pages.jsonl") == 40
    assert len(read_jsonl(tmp_path / "pages.jsonl", Page)) == 40
    half = tmp_path / "half"
    half.mkdir()
    (half / "pages.jsonl").write_bytes((folder / "pages.jsonl").read_bytes())
    with pytest.raises(DataError, match=r"manifest.json is missing"):
        exchange.export_jsonl([half], tmp_path / "more.jsonl")
    assert not (tmp_path / "more.jsonl").exists()
