"""`rostok seeds …`: the library from the command line, and what it says when it must refuse."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from rostok import cli_seeds
from rostok.cli import run_command
from rostok.config import resolve
from rostok.runs import Run
from rostok.seeds.library import Library
from rostok.seeds.measures import Manifest


class Letters:
    """An embedder without a model: texts are as near as the triples of letters that they share."""

    sha256 = "e" * 64

    def embed(self, texts):
        vectors = np.zeros((len(texts), 4096), np.float32)
        for row, text in enumerate(texts):
            for triple in {text[i : i + 3] for i in range(len(text) - 2)}:
                vectors[row, zlib.crc32(triple.encode()) % 4096] = 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """No model is loaded: these tests are about commands and files."""
    monkeypatch.setattr(cli_seeds, "_embedder", lambda settings: Letters())


@pytest.fixture
def run(tmp_path: Path, make_seed) -> Path:
    """A run with three seeds of twelve nodes."""
    folder = tmp_path / "run"
    opened = Run(folder)
    opened.start(resolve())
    for place in range(3):
        nodes = make_seed(size=12).nodes
        Library(opened.seeds).admit(make_seed(place, 12, nodes=tuple(
            node.model_copy(update={"gloss": f"{node.gloss} {'qzjvk'[place] * 9} and more."}) for node in nodes)))
    return folder


def said(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """What a command prints that must succeed."""
    assert run_command([str(word) for word in argv]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def told(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[str, str]:
    """What a command prints, and the one sentence with which it ends in exit code 2."""
    assert run_command([str(word) for word in argv]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and shown.err.startswith("rostok: ") and "Traceback" not in shown.err
    return shown.out, shown.err


def ids(run: Path) -> list[str]:
    return [seed.id for seed in Library(run / "seeds").seeds()]


def edit(run: Path, line: int, **fields: object) -> None:
    path = run / "seeds" / "library.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[line] = json.dumps({**json.loads(lines[line]), **fields}, ensure_ascii=False)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_the_library_can_be_looked_at(run: Path, tmp_path: Path, capsys) -> None:
    """Prevents: a command that shows no seed, or another one than was asked for."""
    one, two, _ = ids(run)
    listed = said(capsys, "seeds", "list", run)
    assert all(name in listed for name in ids(run)) and listed.count("\n") == 3
    shown = said(capsys, "seeds", "show", run, one[:8])
    assert one in shown and "Δ12 " in shown and "n01 # n04" in shown and two not in shown
    assert json.loads(said(capsys, "seeds", "show", run, one, "--json"))["id"] == one
    assert two in said(capsys, "seeds", "map", run)
    picture = tmp_path / "map.svg"
    assert said(capsys, "seeds", "map", run, "--svg", picture).strip() == str(picture)
    assert ElementTree.fromstring(picture.read_text(encoding="utf-8")).tag.endswith("svg")
    assert "no seed 's-zzz'" in told(capsys, "seeds", "show", run, "s-zzz")[1]


@pytest.mark.parametrize("operator", ["mutate", "cross", "split", "splice"])
def test_children_are_appended(operator: str, run: Path, capsys, make_seed, make_other) -> None:
    """Prevents: an operator that rewrites the library, forgets the parents, or leaves the figures behind."""
    library = Library(run / "seeds")
    library.admit(make_other)
    before = library.path.read_bytes()
    parents = [ids(run)[0]] if operator in ("mutate", "split") else [ids(run)[0], make_other.id]
    shown = said(capsys, "seeds", operator, run, *parents, "--by-code", "--random-seed", 3, "--candidates", 60)
    assert library.path.read_bytes().startswith(before)
    born = library.seeds()[4:]
    assert len(born) == (2 if operator == "split" else 1)
    assert [seed.lineage.parents for seed in born] == [tuple(parents)] * len(born)
    assert all(seed.id in shown and seed.glyphs in shown and seed.lineage.operator == operator for seed in born)
    manifest = Manifest.model_validate_json(library.manifest_path.read_text(encoding="utf-8"))
    assert manifest.measures.evolved == len(born)
    assert said(capsys, "seeds", "lint", run) == ""


@pytest.fixture
def make_other(make_seed):
    """A seed of other nodes, so that two can be crossed."""
    names = ("bread", "oven", "flour", "salt", "miller", "yeast", "crust", "basket", "river", "stone", "wheel", "sack")
    seed = make_seed(7, 12, title="Bread Before Morning",
                     scene="The oven is warm before anybody is awake, and the miller has not been paid since the flood.")
    return seed.model_copy(update={
        "nodes": tuple(node.model_copy(update={"name": name, "gloss": f"A {name} is what the baker trusts before morning."})
                       for node, name in zip(seed.nodes, names, strict=True)),
        "transitions": tuple(step.model_copy(update={"operation": "warms", "sentence": f"Something warms in {place} ways here."})
                             for place, step in enumerate(seed.transitions))})


def test_a_refused_child_leaves_the_library_alone(run: Path, capsys, monkeypatch) -> None:
    """Prevents: near-copies that fill the library, or a refusal without a reason."""
    class Same(Letters):
        def embed(self, texts):
            return np.ones((len(texts), 4), np.float32) / 2

    monkeypatch.setattr(cli_seeds, "_embedder", lambda settings: Same())
    before = (run / "seeds" / "library.jsonl").read_bytes()
    sentence = told(capsys, "seeds", "mutate", run, ids(run)[0], "--by-code", "--candidates", 5)[1]
    assert "none of 5 children" in sentence and "nearly the text of" in sentence and "5×" in sentence
    assert (run / "seeds" / "library.jsonl").read_bytes() == before
    assert "two different seeds" in told(capsys, "seeds", "cross", run, ids(run)[0], ids(run)[0], "--by-code")[1]


def test_hand_edits_are_told_and_mended(run: Path, capsys) -> None:
    """Prevents: a person's correction that makes the run unusable, or is thrown away."""
    edit(run, 1, title="A title changed by hand")
    assert "line 2: id: does not follow from the content" in told(capsys, "seeds", "list", run)[1]
    shown, sentence = told(capsys, "seeds", "lint", run)
    assert "library.jsonl, line 2: id: does not follow" in shown and "--fix" in sentence
    assert "line 2: rewritten" in said(capsys, "seeds", "lint", run, "--fix")
    assert "A title changed by hand" in said(capsys, "seeds", "list", run)


def test_a_dangling_transition_is_named_with_its_line(run: Path, capsys) -> None:
    """Prevents: a slip in a hand-edited seed that is found only when the corpus is built."""
    steps = [step.model_dump() for step in Library(run / "seeds").seeds()[2].transitions]
    steps[5]["target"] = "n77"
    edit(run, 2, transitions=steps)
    shown, sentence = told(capsys, "seeds", "lint", run, "--fix")
    assert "line 3: " in shown and "n06 -> n77: 'n77' is no node of this seed" in shown
    assert "1 problem in" in sentence and "--fix" not in sentence
    for argv in (["seeds", "list"], ["seeds", "map"], ["corpus", "build"]):
        assert "line 3: " in told(capsys, *argv, run)[1]


def test_a_library_of_a_newer_version_is_refused(run: Path, capsys) -> None:
    """Prevents: a newer library read with an older meaning, or changed by an older version."""
    edit(run, 0, format=9)
    before = (run / "seeds" / "library.jsonl").read_bytes()
    for argv in (["list", run], ["lint", run, "--fix"], ["mutate", run, "s-", "--by-code"], ["export", run, run / "out"]):
        shown, sentence = told(capsys, "seeds", *argv)
        assert "line 1: was written by a newer version of Rostok (seed format 9" in shown + sentence
    assert (run / "seeds" / "library.jsonl").read_bytes() == before and not (run / "out").exists()


@pytest.mark.parametrize("argv", [
    ("author", "--count", "9"), ("mutate", "s-"), ("lint", "--fix"), ("import", "other.jsonl"), ("measure",)])
def test_two_writers_are_kept_apart(argv: tuple[str, ...], run: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    """Prevents: two authors on one library, each cutting off the other's last line."""
    monkeypatch.chdir(tmp_path)
    Path("other.jsonl").write_text("")
    before = (run / "seeds" / "library.jsonl").read_bytes()
    with Run(run).held("rostok seeds author first"):
        sentence = told(capsys, "seeds", argv[0], run, *argv[1:])[1]
    assert "is held by 'rostok seeds author first'" in sentence
    assert (run / "seeds" / "library.jsonl").read_bytes() == before
    assert said(capsys, "seeds", "list", run).count("\n") == 3


def test_seeds_travel(run: Path, tmp_path: Path, capsys) -> None:
    """Prevents: a library that cannot leave its run, or comes in with holes and no word of them."""
    assert "3 seeds in" in said(capsys, "seeds", "export", run, tmp_path / "out.jsonl")
    assert "3 seeds in" in said(capsys, "seeds", "export", run, tmp_path / "dataset", "--format", "hf")
    assert "3 seeds added" in said(capsys, "seeds", "import", tmp_path / "new", tmp_path / "dataset")
    assert ids(tmp_path / "new") == ids(run)
    assert said(capsys, "seeds", "diff", run, tmp_path / "new") == "no difference\n"
    (tmp_path / "out.jsonl").write_text((tmp_path / "out.jsonl").read_text() + "broken\n")
    shown, sentence = told(capsys, "seeds", "import", tmp_path / "newer", tmp_path / "out.jsonl")
    assert "out.jsonl, line 4: is no JSON" in shown and "3 seeds added" in shown and "1 line of" in sentence
    assert ids(tmp_path / "newer") == ids(run)
    assert "there is no" in told(capsys, "seeds", "import", tmp_path / "none", tmp_path / "absent")[1]
    assert not (tmp_path / "none").exists()


def test_differences_are_shown(run: Path, capsys) -> None:
    """Prevents: a comparison of the wrong two."""
    shown = said(capsys, "seeds", "diff", run, *ids(run)[:2])
    assert "- title: The Lamp That Fears the Dawn, part 0" in shown and "+ title: The Lamp That Fears the Dawn, part 1" in shown


def test_the_measures_are_shown_and_kept(run: Path, capsys) -> None:
    """Prevents: figures that are shown once and then lost."""
    assert "Vendi score" in said(capsys, "seeds", "measure", run)
    manifest = json.loads((run / "seeds" / "manifest.json").read_text())
    assert manifest["measures"]["seeds"] == 3


@pytest.mark.parametrize("argv", [
    ("list",), ("show", "s-"), ("map",), ("measure",), ("lint",), ("diff", "s-", "s-"), ("export", "out"), ("mutate", "s-"),
    ("cross", "s-", "s-"), ("split", "s-"), ("splice", "s-", "s-")])
def test_a_run_without_seeds_is_told(argv: tuple[str, ...], tmp_path: Path, capsys) -> None:
    """Prevents: a traceback, or a folder left behind, where there is nothing to look at."""
    sentence = told(capsys, "seeds", argv[0], tmp_path / "none", *argv[1:])[1]
    assert "has no seeds yet. Run: rostok seeds author" in sentence
    assert list(tmp_path.iterdir()) == []


def test_very_many_seeds_are_told_beforehand(tmp_path: Path, capsys: pytest.CaptureFixture[str], base_gguf: Path) -> None:
    """Prevents: a million seeds begun by one digit too many."""
    run = tmp_path / "run"
    assert run_command(["seeds", "author", str(run), "--count", "1000000", "--theme", "lights"]) == 2
    assert re.search(r"1,000,000 seeds will take about [\d,.]{3,} hours.*--yes", capsys.readouterr().err)
    assert not (run / "seeds" / "library.jsonl").exists()
