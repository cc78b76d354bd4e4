"""The command line: help that shows how, and errors in one sentence without a traceback."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rostok.cli import run_command
from rostok.config import resolve
from rostok.runs import Run

ROOT = Path(__file__).parents[1]
SEEDS = ("author", "graph", "mutate", "cross", "split", "splice", "list", "show", "map", "measure", "lint", "diff", "export",
         "import")
SWARM = ("train", "status", "stop", "resume", "merge", "split", "bake", "export")
MEMORY = ("list", "remember", "forget", "search")
COMMANDS = ("night", *(f"seeds {command}" for command in SEEDS), "corpus build",
            *(f"swarm {command}" for command in SWARM), "estimate", "chat", "chats",
            *(f"memory {command}" for command in MEMORY), "report", "doctor")
WRITERS = ("night", "seeds author", "corpus build", "swarm train", "swarm resume")


def told(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """Run a command that must fail with exit code 2 and one sentence on stderr; returns the sentence."""
    assert run_command(argv) == 2
    sentence = capsys.readouterr().err
    assert sentence.count("\n") == 1
    assert sentence.startswith("rostok: ")
    assert "Traceback" not in sentence
    return sentence


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example_that_parses(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a command without an example, or one whose example the command itself refuses."""
    assert run_command([*command.split(), "--help"]) == 0
    example = re.search(r"Example: rostok (.+)", capsys.readouterr().out)
    assert example is not None
    words = [word for word in shlex.split(example[1].strip().split(" >")[0]) if word != ">"]
    assert words[: len(command.split())] == command.split()
    assert run_command([*words, "--help"]) == 0


@pytest.mark.parametrize("command", [*WRITERS, "swarm status", "swarm stop", "chat", "report"])
def test_a_command_without_a_run_says_what_is_missing(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a night in the current folder because the run was forgotten."""
    sentence = told(capsys, *command.split())
    assert "Missing argument 'RUN'" in sentence
    assert f"rostok {command} --help" in sentence


@pytest.mark.parametrize(
    ("argv", "reason"),
    [
        (["nigth", "RUN"], "No such command 'nigth'. Did you mean 'night'?"),
        (["night", "RUN", "--pagse", "3"], "No such option: --pagse"),
        (["night", "RUN", "--count", "few"], "Invalid value for '--count'"),
        (["night", "RUN", "--count", "0"], "author.count"),
        (["seeds", "author", "RUN", "--count", "0"], "author.count"),
        (["seeds", "author", "RUN", "--theme", "  "], "the theme is empty"),
        (["night", "RUN", "--profile", "demi"], "did you mean 'demo'"),
        (["night", "RUN", "--set", "corpus.page=3"], "did you mean 'pages'"),
        (["night", "RUN", "--config", "absent.yaml"], "no configuration file absent.yaml"),
        (["swarm", "train", "RUN", "--trainer", "tlr"], "setting 'training.trainer': Input should be 'fused' or 'trl'"),
        (["swarm", "train", "RUN", "--set", "training.layers=0"], "give all, or how many of the last layers"),
        (["swarm", "train", "RUN", "--executor", "slurm"], "setting 'swarm.executor': Input should be 'local' or 'ray'"),
        (["night", "RUN", "--until", "7 o'clock"], "--until takes a time such as 07:00"),
        (["swarm", "status", "RUN"], "holds no run"),
        (["swarm", "stop", "RUN"], "holds no run"),
        (["swarm", "resume", "RUN"], "holds no run"),
        (["chat", "RUN", "Who?"], "holds no run. Start one with: rostok night"),
        (["report", "RUN"], "holds no run"),
        (["report", "RUN", "--json"], "holds no run"),
        (["doctor", "RUN"], "holds no run"),
    ],
)
def test_a_mistake_is_told_in_one_sentence(
    argv: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents: a traceback for a mistake, or a folder left behind by a command that did nothing."""
    run = tmp_path / "run"
    assert reason in told(capsys, *[str(run) if word == "RUN" else word for word in argv])
    assert not run.exists()


def test_a_yaml_typo_is_told_with_its_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a parser's traceback for a forgotten bracket."""
    file = tmp_path / "night.yaml"
    file.write_text("theme: lights\ncorpus: {pages: 300\n")
    assert "line 3" in told(capsys, "night", str(tmp_path / "run"), "--config", str(file))


@pytest.mark.parametrize("command", [*WRITERS, "swarm status", "swarm stop", "chat", "report"])
def test_a_run_of_another_version_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents: a run of a newer Rostok that is read with an older meaning, or written to."""
    text = '{"format": 99, "rostok": "9.0.0"}'
    (tmp_path / "run.json").write_text(text)
    sentence = told(capsys, *command.split(), str(tmp_path))
    assert "format 99" in sentence
    assert "9.0.0" in sentence
    assert [path.read_text() for path in tmp_path.iterdir()] == [text]


def test_a_broken_journal_does_not_tell_to_delete_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Prevents: advice that costs a person the whole night."""
    run = Run(tmp_path)
    run.start(resolve())
    run.journal_path.write_text("nonsense\n")
    sentence = told(capsys, "report", str(tmp_path), "--json")
    assert "journal.jsonl, line 1" in sentence
    assert "delete" not in sentence.lower()


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: bug reports that cannot say which version it was."""
    assert run_command(["--version"]) == 0
    assert re.fullmatch(r"rostok \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_help_needs_no_heavy_library() -> None:
    """Prevents: help that takes five seconds because torch is imported first."""
    code = (
        "import sys; from rostok.cli import run_command; run_command(['--help']); "
        "print([name for name in ('torch', 'llama_cpp', 'chromadb', 'transformers', 'langgraph', 'numpy') "
        "if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_agents_graph_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a diagram in the documentation that no longer fits the agents."""
    assert run_command(["seeds", "graph"]) == 0
    drawn = capsys.readouterr().out
    assert "graph TD" in drawn
    for role in ("proposer", "writer", "antagonist", "logician", "critic", "librarian"):
        assert role in drawn


# ── what the command does when a stage fails: a stage of our own, in a process of its own ───────────────────────


def failing_night(folder: Path, body: str) -> subprocess.Popen[str]:
    """`rostok night` in which the stages are replaced by `body`."""
    code = textwrap.dedent("""
        import signal, sys, types
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite begun in the background hands on that it is ignored
        stages = types.ModuleType("rostok.night")
        def night(run, settings, watch, console, until):
            watch.start("corpora", 10, "pages")
            print("begun", flush=True)
            BODY
        stages.night = night
        sys.modules["rostok.night"] = stages
        from rostok.cli import main
        main()
    """).replace("BODY", body)
    return subprocess.Popen(
        [sys.executable, "-c", code, "night", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder.parent)},
    )


@pytest.mark.parametrize(
    ("body", "code", "sentence"),
    [
        ("raise MemoryError", 2, "the memory was not enough"),
        ("import torch; torch.empty(1 << 60, dtype=torch.uint8)", 2, "the memory was not enough"),
        ("import errno; raise OSError(errno.ENOSPC, 'No space left on device')", 2, "the disk refused a write"),
        (
            "import sqlite3; raise sqlite3.OperationalError('database or disk is full')",
            2,
            "the disk refused a write",
        ),
        ("from rostok.errors import DataError; raise DataError('line 1\\nis broken.')", 2, "line 1 is broken."),
        ("from rostok.errors import DataError; raise ValueError from DataError('inside')", 2, "inside"),
        ("raise KeyError('n07')", 1, "this is a bug of Rostok (KeyError: 'n07'). The traceback is in"),
    ],
)
def test_a_failing_stage_ends_in_one_sentence(body: str, code: int, sentence: str, tmp_path: Path) -> None:
    """Prevents: a traceback on the screen in the morning, or an exit code 0 after a night that failed."""
    _, errors = (process := failing_night(tmp_path / "run", body)).communicate(timeout=60)
    assert process.returncode == code
    assert errors.startswith("rostok: ")
    assert sentence in errors
    assert errors.count("\n") == 1
    log = tmp_path / "run" / "crash.log"
    assert log.exists() == (code == 1)
    if code == 1:
        assert str(log) in errors
        assert "KeyError: 'n07'" in log.read_text()
        assert "Traceback" in log.read_text()


@pytest.mark.parametrize(
    "body",
    [
        "import time; time.sleep(60)",
        "import threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); time.sleep(60)",
    ],
)
def test_ctrl_c_says_that_the_run_can_go_on(body: str, tmp_path: Path) -> None:
    """Prevents: a traceback after Ctrl-C, or a shell that waits for a library's thread."""
    process = failing_night(tmp_path / "run", body)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (130, "rostok: stopped; the same command goes on where it was\n")
    with Run(tmp_path / "run").held("rostok night"):
        pass


# ── the documentation ───────────────────────────────────────────────────────────────────────────────────────────


def documented() -> list[str]:
    """Every `rostok …` line in the code blocks of the documentation."""
    lines = []
    for path in (
        ROOT / "README.md",
        ROOT / "README.ru.md",
        ROOT / "CONTRIBUTING.md",
        *(ROOT / "docs").glob("*.md"),
    ):
        for block in re.findall(r"```(?:sh|console|bash)\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL):
            lines += [line.split(" #")[0].strip() for line in block.splitlines() if line.startswith("rostok ")]
    return lines


def test_the_documented_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a README whose commands or options were renamed since."""
    lines = documented()
    assert {command for command in COMMANDS if any(line.startswith(f"rostok {command}") for line in lines)} == set(
        COMMANDS
    )
    for line in lines:
        words = shlex.split(line)[1:]
        cut = words.index(">") if ">" in words else len(words)
        assert run_command([*words[:cut], "--help"]) == 0, line
        capsys.readouterr()


@pytest.mark.parametrize(
    "name",
    ["README.md", "README.ru.md", "CONTRIBUTING.md", "MODELS.md",
     *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))],
)
def test_links_in_the_documentation_lead_somewhere(name: str) -> None:
    """Prevents: links to files that were moved."""
    path = ROOT / name
    waiting = {"docs/report.png", "docs/experiments.md"}  # made from a run
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8")):
        file = (path.parent / target).resolve()
        assert file.exists() or str(file.relative_to(ROOT)) in waiting, f"{name}: {target}"
