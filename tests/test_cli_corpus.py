"""`rostok corpus …`: plans and corpora from the command line, and what it says when it must refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from rostok.cli import run_command
from rostok.config import Settings, resolve
from rostok.generator import corpus
from rostok.runs import Run
from rostok.seeds.library import Library

BY_CODE = {"pages": 40, "bank": 0, "shares": {"written": 0, "composed": 0.6, "dialogue": 0.4, "rewritten": 0, "replay": 0}}


class NoEngine:
    """No page of these corpora needs a model."""

    def submit_all(self, requests: list[object]) -> list[object]:
        assert not requests
        return []


def build(folder: Path, settings: Settings) -> None:
    run = Run(folder)
    for seed in Library(run.seeds).seeds():
        corpus.build(seed, run.corpora / seed.id, settings.corpus, settings.random_seed, NoEngine(), "0" * 64)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path, make_seed) -> Path:
    """A run of two seeds whose corpora hold pages by code only."""
    folder = tmp_path / "run"
    settings = resolve(options={"corpus": BY_CODE})
    Run(folder).start(settings)
    for place in range(2):
        Library(Run(folder).seeds).admit(make_seed(place, 12))
    build(folder, settings)
    return folder


def said(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """What a command prints that must succeed."""
    assert run_command([str(word) for word in argv]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one sentence with which a command ends in exit code 2."""
    assert run_command([str(word) for word in argv]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and shown.err.startswith("rostok: ") and "Traceback" not in shown.err
    return shown.err


def ids(run: Path) -> list[str]:
    return [seed.id for seed in Library(run / "seeds").seeds()]


def test_a_plan_is_shown_as_a_tree_and_nothing_is_written(run: Path, capsys) -> None:
    """Prevents: a plan that differs from what is built, and a look that changes the run."""
    before = sorted(run.rglob("*"))
    one, two = ids(run)
    shown = said(capsys, "corpus", "plan", run)
    assert one in shown and two in shown and "40 pages" in shown and "paths along" not in shown
    shown = said(capsys, "corpus", "plan", run, one[:7], "--pages", 1000)
    assert "1000 pages" in shown and two not in shown and "pairs: 66" in shown and "triples: " in shown and "├" in shown
    assert sorted(run.rglob("*")) == before


def test_plan_lines_name_their_seed(run: Path, capsys) -> None:
    """Prevents: the plans of several seeds in one stream, in which nobody can tell whose line is whose."""
    seeds = ids(run)
    every = [json.loads(line) for line in said(capsys, "corpus", "plan", run, "--json").splitlines()]
    assert [line["seed"] for line in every] == [seeds[0]] * 40 + [seeds[1]] * 40
    one = [json.loads(line) for line in said(capsys, "corpus", "plan", run, seeds[1], "--json").splitlines()]
    assert one == every[40:]
    planned = [json.loads(line) for line in (run / "corpora" / seeds[1] / "plan.jsonl").read_text().splitlines()]
    assert [{"seed": seeds[1], **line} for line in planned[:40]] == one
    assert "the id of its seed" in " ".join(said(capsys, "corpus", "plan", "--help").replace("│", " ").split())


def test_pages_are_shown_with_where_they_come_from(run: Path, capsys) -> None:
    """Prevents: a page that is shown under another number or kind, or without its refused forerunners."""
    one = ids(run)[0]
    shown = said(capsys, "corpus", "show", run, one, "--kind", "dialogue", "--count", 2)
    assert shown.count("── page ") == shown.count(", dialogue, ") == 2 and "by code" in shown
    page = json.loads(said(capsys, "corpus", "show", run, one, 7, "--json"))
    assert page["spec"] == 7 and page["text"] in said(capsys, "corpus", "show", run, one, 7)
    assert "there is no accepted page 400" in told(capsys, "corpus", "show", run, one, 400)
    assert "there is no kind 'poem' of pages" in told(capsys, "corpus", "show", run, one, "--kind", "poem")
    assert "no corpus 's-zzz'" in told(capsys, "corpus", "show", run, "s-zzz")


def test_figures_are_those_of_the_files(run: Path, capsys) -> None:
    """Prevents: figures of a corpus that is not finished shown as if it were, and counts that do not add up."""
    one, two = ids(run)
    rows = [json.loads(line) for line in said(capsys, "corpus", "stats", run, "--json").splitlines()]
    assert [row["seed"] for row in rows] == [one, two] and all(row["finished"] for row in rows)
    assert rows[0]["accepted"] == {"composed": 24, "dialogue": 16} and rows[0]["steps"][0] > 10
    (run / "corpora" / two / "manifest.json").unlink()
    pages = run / "corpora" / two / "pages.jsonl"
    pages.write_text("".join(pages.read_text().splitlines(keepends=True)[:30]))
    shown = said(capsys, "corpus", "stats", run)
    assert "30 of 40" in " ".join(shown.split()) and one in shown


def test_damaged_corpora_are_looked_at_and_left_alone(run: Path, tmp_path: Path, capsys) -> None:
    """Prevents: one cut line or flipped bit that hides the figures of all corpora, is passed over in silence, or is told with
    advice that loses every page."""
    other = tmp_path / "other"
    shutil.copytree(run, other)
    one, two = ids(run)
    cut, flipped = run / "corpora" / one / "pages.jsonl", run / "corpora" / two / "pages.jsonl"
    cut.write_bytes(cut.read_bytes()[:-30])
    lines = flipped.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4].replace(b'"text":"', b'"text":"\xff', 1)
    flipped.write_bytes(b"".join(lines))
    before = cut.read_bytes(), flipped.read_bytes()
    rows = [json.loads(line) for line in said(capsys, "corpus", "stats", run, "--json").splitlines()]
    assert [sum(row["accepted"].values()) for row in rows] == [39, 39]
    assert [row["broken"] for row in rows] == [{"pages.jsonl": 1}] * 2
    shown = said(capsys, "corpus", "stats", run)
    for seed in (one, two):
        assert f"{seed}: lines that are not whole were left out, 1 of pages.jsonl." in shown
    assert shown.count("39 of 40") == 2 and shown.count(f"run: rostok corpus build {run}") == 2
    shown = said(capsys, "corpus", "diff", run, other)
    assert f"{one}: lines of pages.jsonl that are not whole, left out: 1 | 0" in shown and "1 only in the second" in shown
    assert run_command(["corpus", "show", str(run), one]) == 0
    assert "1 of pages.jsonl" in capsys.readouterr().err
    for seed in (one, two):
        refused = told(capsys, "corpus", "export", run, tmp_path / "pages.jsonl", seed)
        assert f"Run: rostok corpus build {run}, which keeps all whole lines" in refused and "away" not in refused
    assert before == (cut.read_bytes(), flipped.read_bytes())
    build(run, resolve(options={"corpus": BY_CODE}))
    rows = [json.loads(line) for line in said(capsys, "corpus", "stats", run, "--json").splitlines()]
    assert [(sum(row["accepted"].values()), row["broken"]) for row in rows] == [(40, {})] * 2


def test_what_a_build_does_not_mend_is_told_without_it(run: Path, capsys) -> None:
    """Prevents: advice to build a finished corpus again for a refused page, which the build never looks at."""
    one, two = ids(run)
    for seed in (one, two):
        with (run / "corpora" / seed / "rejects.jsonl").open("ab") as file:
            file.write(b'{"spec":3,"kin')
    (run / "corpora" / two / "manifest.json").unlink()
    shown = said(capsys, "corpus", "stats", run)
    assert f"{one}: lines that are not whole were left out, 1 of rejects.jsonl.\n" in shown
    assert f"1 of rejects.jsonl. Unless they are being written, run: rostok corpus build {run}\n" in shown


def test_runs_are_compared(run: Path, tmp_path: Path, capsys) -> None:
    """Prevents: a difference that is not told, or one that is told of equal corpora."""
    other = tmp_path / "other"
    shutil.copytree(run, other)
    assert said(capsys, "corpus", "diff", run, other) == "no difference\n"
    one, two = ids(run)
    shutil.rmtree(other / "corpora" / two)
    path = other / "corpora" / one / "pages.jsonl"
    lines = path.read_text().splitlines()
    page = json.loads(lines[2])
    path.write_text("\n".join([*lines[:2], json.dumps({**page, "text": "Other words."}), *lines[3:]]) + "\n")
    shown = said(capsys, "corpus", "diff", run, other)
    alike = {"composed": 23, "dialogue": 15}[page["kind"]]
    assert f"{one}: {page['kind']} pages: {alike} alike, 1 differ" in shown and f"{two}: only in {run}" in shown


def test_corpora_are_carried_elsewhere(run: Path, tmp_path: Path, capsys) -> None:
    """Prevents: an export that leaves out a corpus, or takes all when one was named."""
    one = ids(run)[0]
    assert said(capsys, "corpus", "export", run, tmp_path / "all.jsonl").startswith("80 pages of 2 corpora in ")
    one_file = tmp_path / "one.parquet"
    assert said(capsys, "corpus", "export", run, one_file, one, "--format", "parquet").startswith("40 pages of 1 corpora in ")
    assert said(capsys, "corpus", "export", run, tmp_path / "set", "--format", "hf").startswith("80 pages of 2 corpora")
    assert (tmp_path / "set" / "data" / "test.parquet").exists() and one in (tmp_path / "set" / "README.md").read_text()


def test_what_cannot_be_built_is_refused_before_anything_is_written(run: Path, tmp_path: Path, make_seed, capsys) -> None:
    """Prevents: a traceback, or an hour of work, for a mistake that shows at once."""
    assert "setting 'corpus.pages'" in told(capsys, "corpus", "build", run, "--pages", 0)
    assert "the five shares must add up to 1" in told(capsys, "corpus", "plan", run, "--set", "corpus.shares.written=0.9")
    assert "has no seeds yet" in told(capsys, "corpus", "plan", tmp_path / "nothing")
    assert "'corpus.depth'" in told(capsys, "corpus", "plan", run, "--set", "corpus.depth=4")
    empty = tmp_path / "empty"
    Library(Run(empty).seeds).admit(make_seed(0, 12, title="TODO: a title"))
    for command in ("plan", "build"):
        assert "title is empty or a placeholder" in told(capsys, "corpus", command, empty)
    path = run / "seeds" / "library.jsonl"
    path.write_text(path.read_text().replace('"operation":"feeds"', '"operation":"eats"', 1))
    assert "does not follow from the content" in told(capsys, "corpus", "plan", run)
    assert "does not follow from the content" in told(capsys, "corpus", "build", run)


def test_a_folder_without_corpora_says_how_to_make_them(run: Path, capsys) -> None:
    """Prevents: an empty table, or a traceback, where nothing was built yet."""
    shutil.rmtree(run / "corpora")
    for command in (["show", run, "s-"], ["stats", run], ["export", run, run / "pages.jsonl"], ["diff", run, run]):
        assert "has no corpora yet. Run: rostok corpus build" in told(capsys, "corpus", *command)
