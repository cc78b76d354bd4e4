"""A whole small night through the command line with the embedded models: killed twice, gone on, asked, reported. Before it the
corpus stage alone, without a model, with a seed that the gates refuse."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rostok import night as stages
from rostok.cli import run_command
from rostok.config import Settings, resolve
from rostok.errors import DataError, StorageError
from rostok.generator import gates
from rostok.generator.records import Manifest
from rostok.models import Base
from rostok.progress import Watch
from rostok.records import read_record
from rostok.runs import Run
from rostok.seeds.library import Library
from rostok.seeds.record import Contradiction, Node, Seed, Transition

SMALL = ["--theme", "a harbour town", "--count", "2", "--pages", "24", "--set", "author.nodes=8", "--set", "author.candidates=2",
         "--set", "author.attempts=8", "--set", "probes.general=3", "--set", "probes.chat_nodes=2", "--set", "training.rank=4",
         "--set", "corpus.shares={written: 0.1, composed: 0.5, dialogue: 0.3, replay: 0.1}", "--set", "probes.matrix_pages=1",
         "--set", "models.sequences=16", "--set", "school={drills: 1, pages: 20}"]
KEYS = {"seeds", "pages", "stages", "matrix", "probes", "structure_probes", "chat_probes", "chance", "general", "router",
        "retrieval", "versions", "models"}


# ── a seed that the gates refuse ────────────────────────────────────────────────────────────────────────────────

BY_CODE = {"pages": 24, "bank": 0, "shares": {"written": 0, "composed": 0.6, "dialogue": 0.4, "rewritten": 0, "replay": 0}}
WORDS = (("red blue green brown pale dark bright dull warm cold high low",
          "wheel bell barrel ladder bucket hammer needle window bridge mirror basket candle"),
         ("bent long short thick thin round square hollow heavy light sharp blunt",
          "nail plank chisel shovel anchor kettle saddle pillow button drawer feather pebble"),
         ("iron wet salt old grey clay tin glass black loose stone paper",
          "gate rope jar lamp heron bowl roof eye oar thread step sail"))
VERBS = ("locks", "binds", "dries", "warms", "wakes", "fills", "covers", "finds", "parts", "mends", "lifts", "carries")


class NoEngine:
    """No page of these corpora needs a model."""

    def submit_all(self, requests: list[object]) -> list[object]:
        assert not requests
        return []


@dataclass
class Three:
    """A run of three seeds. The gates refuse every page of those whose ids are in `hopeless`, at first of the second."""

    run: Run
    settings: Settings
    seeds: list[Seed]
    hopeless: set[str]
    shown: StringIO = field(default_factory=StringIO)

    def build(self) -> None:
        """The corpus stage."""
        stages.corpus_stage(self.run, self.settings, Watch(Console(file=self.shown)))

    def built(self) -> list[bool]:
        """Which of the three have a finished corpus."""
        return [(self.run.corpora / seed.id / "manifest.json").exists() for seed in self.seeds]


@pytest.fixture
def three(make_seed: Callable[..., Seed], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Three:
    run, settings = Run(tmp_path / "run"), resolve(options={"author": {"count": 3}, "corpus": BY_CODE})
    run.start(settings)
    seeds = []
    for place, words in enumerate(WORDS):  # names of their own, or the pages of one would be near-duplicates of another's
        names = [" ".join(pair) for pair in zip(*(part.split() for part in words), strict=True)]
        keys = [f"n{number:02}" for number in range(1, 13)]
        follows = [(number + 5) % 12 for number in range(12)]
        seeds.append(make_seed(
            place, title=f"The tale of the {names[0]}",
            scene=f"The {names[0]} stood open at dusk, and nobody in the house had seen the {names[5]}.",
            nodes=tuple(Node(key=key, name=name, gloss=f"The {name} is what they count before they sleep.")
                        for key, name in zip(keys, names, strict=True)),
            transitions=tuple(Transition(source=keys[a], operation=VERBS[a], target=keys[b], tension=0.5,
                                         sentence=f"The {names[a]} {VERBS[a]} the {names[b]} because nobody else will.")
                              for a, b in enumerate(follows)),
            contradictions=(Contradiction(a="n01", b="n04", sentence=f"The {names[0]} and the {names[3]} cannot both stay."),)))
        assert Library(run.seeds).admit(seeds[-1])
    hopeless, judge, base = {seeds[1].id}, gates.judge, Base("tiny", tmp_path, "0" * 64)
    monkeypatch.setattr(gates, "judge", lambda text, context: (("garbage", "") if context.seed.id in hopeless
                                                               else judge(text, context)))
    monkeypatch.setattr(stages, "_models", lambda run, settings: (base, base))
    monkeypatch.setattr("rostok.engines.open.open_engine", lambda *given, **more: nullcontext(NoEngine()))
    return Three(run, settings, seeds, hopeless)


def test_one_hopeless_seed_holds_up_no_other(three: Three) -> None:
    """Prevents: seeds 4 to 100 without a corpus because the gates refused the third, now and whenever the command is repeated."""
    first, second, third = three.seeds
    with pytest.raises(DataError, match="no corpus could be built for 1 of 3 seeds; the others have theirs") as caught:
        three.build()
    assert three.built() == [True, False, True]
    said = str(caught.value)
    assert f"of {second.id} ({second.title}): composed: garbage" in said and "0 accepted pages are kept" in said
    assert first.id not in said and third.id not in said
    kept = {path: path.stat().st_mtime_ns for seed in (first, third) for path in (three.run.corpora / seed.id).iterdir()}
    assert all(read_record(path, Manifest).pages == 24 for path in kept if path.name == "manifest.json")
    refusals = three.run.corpora / second.id / "rejects.jsonl"
    tried = refusals.read_bytes().count(b"\n")
    with pytest.raises(DataError, match=f"of {second.id} .*: composed: garbage"):
        three.build()
    assert three.built() == [True, False, True]
    assert kept == {path: path.stat().st_mtime_ns for seed in (first, third) for path in (three.run.corpora / seed.id).iterdir()}
    assert tried < refusals.read_bytes().count(b"\n") < tried + 5  # begun from what is kept, and given up at once
    told = [line for line in three.shown.getvalue().splitlines() if "left out" in line]
    assert len(told) == 2 and all(second.id in line and "garbage" in line for line in told)
    events = [(event.kind, event.stage) for event in three.run.events()]
    assert events.count(("left out", "corpus")) == 2
    assert events.count(("end", "corpus")) == 1  # what the others cost is told


def test_corpus_build_names_the_seeds_that_have_no_corpus(three: Three, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: exit code 0 for a library that is not whole, a traceback, or two errors of which one is told."""
    three.hopeless.add(three.seeds[2].id)
    assert run_command(["corpus", "build", str(three.run.folder)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("rostok: no corpus could be built for 2 of 3 seeds") and said.count("\n") == 1
    assert all(f"{seed.id} ({seed.title}): composed: garbage" in said for seed in three.seeds[1:])
    assert f"delete their lines from {three.run.seeds / 'library.jsonl'} and give rostok night --count 1" in said


def test_what_is_advised_can_be_done(three: Three, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Prevents: advice that Rostok itself refuses, as `loosen corpus settings` was; a seed that is written again when it was
    taken out."""
    with pytest.raises(DataError, match="give rostok night --count 2; or take all seeds to a new run folder, with rostok seeds"):
        three.build()
    new = Run(tmp_path / "new")
    assert run_command(["seeds", "import", str(new.folder), str(three.run.folder)]) == 0
    assert [seed.id for seed in Library(new.seeds).seeds()] == [seed.id for seed in three.seeds]
    new.start(resolve(options={"corpus": {**BY_CODE, "tries": 9}}))
    path = three.run.seeds / "library.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if three.seeds[1].id not in line))
    fewer = resolve(saved=three.settings.model_dump(mode="json"), options={"author": {"count": 2}})
    three.run.start(fewer)

    def nobody(*given: object, **more: object) -> None:
        raise AssertionError("an engine was opened")

    monkeypatch.setattr("rostok.engines.open.open_engine", nobody)
    stages.author_stage(three.run, fewer, Watch(quiet=True))
    stages.corpus_stage(three.run, fewer, Watch(quiet=True))
    assert [seed.id for seed in Library(three.run.seeds).seeds()] == [three.seeds[0].id, three.seeds[2].id]


@pytest.mark.parametrize("error", [StorageError("the disk is full."), DataError("line 3 is broken.")])
def test_any_other_error_stops_the_stage(three: Three, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a full disk or a damaged file that is taken for one more hopeless seed, a hundred times over."""
    judge = gates.judge

    def broken(text: str, context: gates.Context) -> gates.Verdict:
        if context.seed.id in three.hopeless:
            raise error
        return judge(text, context)

    monkeypatch.setattr(gates, "judge", broken)
    with pytest.raises(type(error), match=str(error)):
        three.build()
    assert three.built() == [True, False, False]


def test_a_night_goes_on_without_the_hopeless_seed_and_says_so(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: no expert in the morning because of one seed, or a seed of which nobody hears that it has none."""
    from rostok.swarm.grow import Grown

    second, trained = three.seeds[1], []

    def grow(run: Run, settings: Settings, watch: Watch, until: float | None) -> Grown:
        trained.append(three.built())
        return Grown(left_out=("s-9 (The Ninth), failed: its loss is not finite",), unbuilt=(f"{second.id} ({second.title})",))

    monkeypatch.setattr(stages, "_grow", grow)
    console = Console(file=three.shown)
    reasons = f"for 1 of 3 seeds.* {second.id} .*garbage.* 1 expert could not be trained .*The Ninth"
    with pytest.raises(DataError, match=reasons) as caught:
        stages.night(three.run, three.settings, Watch(console), console)
    assert trained == [[True, False, True]]
    assert str(caught.value).count(second.id) == 2  # once in the reason, once in the path of the refused texts
    assert three.run.report.exists() and "Try next:" in three.shown.getvalue()
    with pytest.raises(DataError, match=rf"1 seed has no finished corpus, .*: {second.id} .* told by: rostok corpus build"):
        stages.swarm_stage(three.run, three.settings, Watch(quiet=True))


def test_a_night_without_any_corpus_stops(three: Three, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a swarm stage that has nothing to train, and its error in place of the gates' reasons."""
    three.hopeless.update(seed.id for seed in three.seeds)
    monkeypatch.setattr(stages, "_grow", lambda *given: pytest.fail("there is nothing to train"))
    console = Console(file=three.shown)
    with pytest.raises(DataError, match=r"no corpus could be built for 3 of 3 seeds\. The gates .* Take the seeds to a new run"):
        stages.night(three.run, three.settings, Watch(console), console)


# ── the whole night ─────────────────────────────────────────────────────────────────────────────────────────────


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
