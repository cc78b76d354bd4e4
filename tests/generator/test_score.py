"""Scoring texts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rostok.cli import run_command
from rostok.generator.score import score
from rostok.generator.texts import Text, cut_pages

PROSE = Path(__file__).parent / "prose"


def text(name: str, *, times: int = 1) -> Text:
    return Text(name, tuple(cut_pages((PROSE / f"{name}.txt").read_text(encoding="utf-8"))) * times)


def test_repetition_shows_in_every_figure() -> None:
    """Prevents: a figure that stands in the table and cannot see what it is there for."""
    (once,) = score([text("persuasion")])
    (twice,) = score([text("persuasion", times=2)])
    assert once.near_duplicates == 0 and twice.near_duplicates == pytest.approx(0.5, abs=0.02)
    assert twice.distinct_4 == pytest.approx(once.distinct_4 / 2, rel=0.02)
    assert twice.xz_ratio > 1.3 * once.xz_ratio
    assert twice.density.adpt < once.density.adpt
    assert twice.vendi_pages == pytest.approx(once.vendi_pages, rel=0.01)


def test_texts_are_compared_at_equal_length() -> None:
    """Prevents: the shorter text that wins because every figure falls with length."""
    short = Text("short", text("moby_dick").pages[:15])
    first, second = score([text("persuasion"), short])
    assert abs(first.density.tokens - second.density.tokens) < 150
    assert first.measured < first.pages and second.measured == second.pages
    first, second = score([text("persuasion"), short], whole=True)
    assert first.measured == first.pages


def test_a_single_page_is_printed_without_an_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a table that promises 95% about one page."""
    page = text("persuasion").pages[0]
    (tmp_path / "one.txt").write_text(page)
    assert run_command(["corpus", "score", str(tmp_path / "one.txt")]) == 0
    density = score([Text("one", (page,))])[0].density
    assert f"{density.adpt:.1f} (–)" in capsys.readouterr().out
    assert run_command(["corpus", "score", "--json", str(tmp_path / "one.txt")]) == 0
    assert json.loads(capsys.readouterr().out)[0]["density"]["high"] is None


def test_a_name_is_printed_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: brackets or colons of a file's name that the table takes for its own, bytes in it that no terminal has."""
    names = ["books[old].txt", ":bug:.txt", os.fsdecode(b"caf\xe9.txt")]
    for name in names:
        (tmp_path / name).write_text("Zzqx vvkw. " * 20)  # not English: told in a sentence with the name, too
    assert run_command(["corpus", "score", *(str(tmp_path / name) for name in names)]) == 0
    shown = capsys.readouterr().out
    for name in ("books[old].txt", ":bug:.txt", "caf\ufffd.txt"):
        assert f"{name}: only 0%" in shown and shown.count(name) == 2
    assert run_command(["corpus", "score", "--json", str(tmp_path / names[-1])]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "caf\ufffd.txt"


def test_the_command_prints_a_table_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a command that no test has run."""
    assert run_command(["corpus", "score", str(PROSE / "persuasion.txt"), str(PROSE / "addresses.txt")]) == 0
    assert "ADPT" in capsys.readouterr().out
    assert run_command(["corpus", "score", "--json", str(PROSE / "persuasion.txt")]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["density"]["low"] < found["density"]["adpt"] < found["density"]["high"]
    assert run_command(["corpus", "score", str(tmp_path / "nothing.txt")]) == 2
    assert "there is no file or folder" in capsys.readouterr().err
