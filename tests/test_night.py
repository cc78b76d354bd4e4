"""A whole small night through the command line with the embedded models: killed twice, gone on, asked, reported."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

SMALL = ["--theme", "a harbour town", "--count", "2", "--pages", "24", "--set", "author.nodes=8", "--set", "author.candidates=2",
         "--set", "author.attempts=8", "--set", "probes.general=3", "--set", "probes.chat_nodes=2", "--set", "training.rank=4",
         "--set", "corpus.shares={written: 0.1, composed: 0.5, dialogue: 0.3, replay: 0.1}", "--set", "probes.matrix_pages=1",
         "--set", "models.sequences=16", "--set", "school={drills: 1, pages: 20}"]
KEYS = {"seeds", "pages", "stages", "matrix", "probes", "structure_probes", "chat_probes", "chance", "general", "router",
        "retrieval", "versions", "models"}


def rostok(*arguments: str, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    return subprocess.run([sys.executable, "-m", "rostok.cli", *arguments], capture_output=True, text=True, timeout=timeout,
                          check=False)


def killed_when(run: Path, ready: Callable[[], bool]) -> None:
    """Start the night and `kill -9` it as soon as `ready`."""
    child = subprocess.Popen([sys.executable, "-m", "rostok.cli", "night", str(run), *SMALL], stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, env=dict(os.environ))
    deadline = time.monotonic() + 200
    while not ready() and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert child.poll() is None, "the night ended before it could be killed"
    child.send_signal(signal.SIGKILL)
    child.wait()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("night") / "run"


def test_a_night_survives_kill_9_in_its_stages(run: Path) -> None:
    """Prevents: work done twice, lost or doubled after a kill in the corpus stage and in training."""
    killed_when(run, lambda: any(path.read_bytes().count(b"\n") >= 5 for path in run.glob("corpora/*/pages.jsonl")))
    library = (run / "seeds" / "library.jsonl").read_bytes()
    first = {path: path.read_bytes() for path in run.glob("corpora/*/pages.jsonl")}
    killed_when(run, lambda: bool(list(run.glob("experts/*/figures.json"))))
    grown = {path: path.stat().st_mtime_ns for path in run.glob("experts/*/figures.json")}
    assert grown
    finished = rostok("night", str(run), *SMALL)
    assert finished.returncode == 0, finished.stderr
    assert "Try next:" in finished.stdout
    assert (run / "seeds" / "library.jsonl").read_bytes() == library
    for path, before in first.items():
        assert path.read_bytes().startswith(before[: before.rfind(b"\n") + 1])
        numbers = [json.loads(line)["spec"] for line in path.read_text().splitlines()]
        assert len(numbers) == len(set(numbers)) == 24
    assert all(path.stat().st_mtime_ns == when for path, when in grown.items())
    assert len((run / "experts.jsonl").read_text().splitlines()) == 2
    assert not list(run.glob("experts/*.part"))
    taught = json.loads((run / "school" / "adapter" / "school.json").read_text())
    begun = {json.loads(path.read_text())["school_sha256"] for path in run.glob("experts/*/figures.json")}
    assert begun == {taught["adapter_sha256"]}


def test_the_report_has_its_keys_and_its_page(run: Path) -> None:
    """Prevents: figures under other names than DESIGN gives them, and parts that the night has not reached."""
    said = rostok("report", str(run), "--json")
    assert said.returncode == 0, said.stderr
    facts = json.loads(said.stdout)
    assert set(facts) == KEYS
    assert all(facts[key] is not None for key in KEYS)
    seeds = {json.loads(line)["id"] for line in (run / "seeds" / "library.jsonl").read_text().splitlines()}
    assert set(facts["matrix"]) == seeds | {"base"}
    assert set(facts["probes"]) == seeds | {"base", "base_with_seed"}
    assert set(facts["general"]) == seeds | {"base"}
    assert {"top1", "abstain"} <= set(facts["router"])
    assert facts["chance"] == pytest.approx(1 / 7, abs=1e-3)
    assert [stage["name"] for stage in facts["stages"]] == ["author", "corpus", "swarm", "memory"]
    assert rostok("report", str(run)).returncode == 0
    assert "<html" in (run / "report.html").read_text()


def test_one_question_is_answered_and_says_who_spoke(run: Path) -> None:
    """Prevents: a chat that cannot load what the night has made."""
    seed = json.loads((run / "seeds" / "library.jsonl").read_text().splitlines()[0])
    name = seed["nodes"][0]["name"]
    said = rostok("chat", str(run), f"What comes after the {name}?")
    assert said.returncode == 0, said.stderr
    assert said.stdout.strip()


def test_other_settings_and_broken_corpora_are_refused_in_one_sentence(run: Path) -> None:
    """Prevents: artefacts of two configurations mixed in one run, and tracebacks about damaged files."""
    other = rostok("swarm", "train", str(run), "--set", "training.rank=8")
    assert other.returncode == 2
    assert "setting 'training.rank' is 8 now" in other.stderr
    assert "Traceback" not in other.stderr
    pages = next(run.glob("corpora/*/pages.jsonl"))
    whole = pages.read_bytes()
    pages.write_bytes(whole.replace(b'"spec"', b'"spce"', 1))
    broken = rostok("swarm", "train", str(run))
    pages.write_bytes(whole)
    assert broken.returncode == 2
    assert "pages.jsonl, line 1" in broken.stderr
    assert len(broken.stderr.strip().splitlines()) == 1
