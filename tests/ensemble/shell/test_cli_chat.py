"""`rostok chat`, `chats` and `memory` as commands, in a pipe and in a real terminal."""

from __future__ import annotations

import io
import os
import pty
import re
import select
import stat
import subprocess
import sys
import termios
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from rich.console import Console

from rostok.cli import run_command
from rostok.config import Settings
from rostok.ensemble.history import threads
from rostok.ensemble.shell.chat import Wish, chat
from rostok.ensemble.talk import Manner
from rostok.errors import RunError
from rostok.runs import Run
from tests.ensemble.talks import say


def test_chats_and_memory_need_no_model(ready: Run, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
                                        tmp_path: Path) -> None:
    """Prevents: ten seconds of loading before a list, and an erasure in a script that nobody agreed to."""
    monkeypatch.setattr("rostok.embedder.Embedder.__init__", None)
    run = str(ready.folder)

    def told(*argv: str) -> str:
        assert run_command(argv) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    assert "no conversations yet" in told("chats", run)
    with threads.open_conversations(ready.conversations) as talks:
        say(talks, "a", "Where does the heron fish?")
        say(talks, "b", "Куда ушёл пекарь?")
    assert "Where does the heron fish?" in told("chats", run) and "⟦heron⟧" in told("chats", run, "her")
    assert "No turn" in told("chats", run, "nobody") and "Реплик" in told("chats", run, "nobody", "--language", "ru")
    assert told("chats", run, "--export", "-").count("\n") == 2
    told("chats", run, "--export", f"{tmp_path}/all.md", "--id", "b")
    assert "пекарь" in (tmp_path / "all.md").read_text() and "heron" not in (tmp_path / "all.md").read_text()
    told("chats", run, "--rename", "a", "Birds")
    assert "Birds" in told("chats", run)
    note = told("memory", "remember", run, "The heron is called Mira.").split()[2].rstrip(",")
    assert f"{note}  " in told("memory", "list", run) and "1 notes; 2 turns of 2" in told("memory", "list", run)
    assert "--yes" in told("memory", "forget", run, "HERON")
    assert "Erased for good: 2." in told("memory", "forget", run, "HERON", "--yes")
    assert "Nothing of that" in told("memory", "forget", run, "a", "b-1", "--yes")
    told("chats", run, "--delete", "b")
    assert "0 notes; 0 turns of 0" in told("memory", "list", run)


def test_a_server_that_was_killed_is_in_nobodys_way(ready: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a run that can be talked to by no command because its server left its file behind."""
    (ready.folder / "serve.json").write_text('{"address": "http://127.0.0.1:9", "token": "x", "pid": 1}')
    assert run_command(["memory", "remember", str(ready.folder), "The heron is called Mira."]) == 0
    assert run_command(["memory", "list", str(ready.folder)]) == 0
    assert "Mira" in capsys.readouterr().out


def test_memory_search_shows_where_things_are_from(ready: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a page of a model that looks like a note of the user."""
    assert run_command(["memory", "remember", str(ready.folder), "The pendulum clock in the hall was my mother's."]) == 0
    capsys.readouterr()
    assert run_command(["memory", "search", str(ready.folder), "Whose is the pendulum clock?", "--count", "4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"0\.\d\d  note  n-\w+  noted by the user on ", lines[0]) and "mother's" in lines[1]
    assert re.match(r"0\.\d\d  corpus  s-\w+:\d+  page \d+ of “The Clock Without a Maker”", lines[2])


def test_run_that_is_held_is_told_in_one_sentence(ready: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: two owners of one Chroma folder, which corrupt it."""
    script = (f"import time; from pathlib import Path; from rostok.runs import Run\n"
              f"with Run(Path({str(ready.folder)!r})).held('rostok night'): print('held', flush=True); time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        for argv in (["chat", str(ready.folder), "Why?"], ["chats", str(ready.folder)], ["memory", "list", str(ready.folder)]):
            assert run_command(argv) == 2
            assert "is held by 'rostok night'" in capsys.readouterr().err
        holder.kill()


def test_options_that_contradict_each_other(ready: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: `-n -c` that keeps something after all, and a way of mixing that nobody knows."""
    for argv, reason in ((["-n", "-c"], "-n keeps nothing"), (["--mixing", "stew"], "takes one, adapters"),
                         (["--language", "de"], "does not speak 'de'")):
        assert run_command(["chat", str(ready.folder), "Why?", *argv]) == 2
        assert reason in capsys.readouterr().err


@pytest.mark.parametrize(("argv", "piped", "asked"), [
    ([], "Why is\nthe sky blue?\n", "Why is\nthe sky blue?\n"),
    (["-"], "Почему?", "Почему?"),
    (["Why?"], "not read", "Why?"),
])
def test_question_from_a_pipe(ready: Run, monkeypatch: pytest.MonkeyPatch, argv: list[str], piped: str, asked: str) -> None:
    """Prevents: `git diff | rostok chat RUN` that waits for a terminal, and a script that hangs on an input it never gave."""
    wishes: list[Wish] = []
    monkeypatch.setattr("rostok.ensemble.shell.chat.chat", lambda run, settings, wish, out, side: wishes.append(wish))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(piped.encode())))
    assert run_command(["chat", str(ready.folder), *argv]) == 0
    assert [wish.question for wish in wishes] == [asked]


@pytest.mark.parametrize(("argv", "wanted"), [
    ([], Wish(question="Why?")),
    (["-c"], Wish(question="Why?", thread="")),
    (["--continue", "t-1"], Wish(question="Why?", thread="t-1")),
    (["-n"], Wish(question="Why?", kept=False)),
    (["--expert", "s-1"], Wish(question="Why?", manner=Manner(pin="s-1"))),
    (["--mixing", "judge"], Wish(question="Why?", manner=Manner(mixing="judge"))),
    (["--no-memory"], Wish(question="Why?", manner=Manner(retrieval=False))),
    (["--language", "ru"], Wish(question="Why?", language="ru")),
])
def test_every_option_reaches_the_conversation(ready: Run, monkeypatch: pytest.MonkeyPatch, argv: list[str],
                                               wanted: Wish) -> None:
    """Prevents: an option that is taken and forgotten."""
    wishes: list[Wish] = []
    monkeypatch.setattr("rostok.ensemble.shell.chat.chat", lambda run, settings, wish, out, side: wishes.append(wish))
    assert run_command(["chat", str(ready.folder), "Why?", *argv]) == 0
    assert wishes == [wanted]


def test_settings_for_this_once(ready: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a grown run that cannot be asked in another manner, and a setting of its growth that is changed in passing."""
    used: list[Settings] = []
    monkeypatch.setattr("rostok.ensemble.shell.chat.chat", lambda run, settings, wish, out, side: used.append(settings))
    before = (ready.folder / "run.json").read_bytes()
    asked = ["chat", str(ready.folder), "Why?", "--set"]
    assert run_command([*asked, "ensemble.retrieval=false", "--set", "router.strategy=tfidf"]) == 0
    assert (used[0].ensemble.retrieval, used[0].router.strategy) == (False, "tfidf")
    assert (ready.folder / "run.json").read_bytes() == before
    for wrong, says in (("corpus.pages=20", "was grown"), ("ensemble.retreival=false", "did you mean 'retrieval'")):
        assert run_command([*asked, wrong]) == 2
        assert says in capsys.readouterr().err
    (ready.folder / "serve.json").write_text("{}")
    assert run_command([*asked, "ensemble.retrieval=false"]) == 2
    assert "a server holds" in capsys.readouterr().err


def test_an_empty_pipe_is_told(ready: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Prevents: a conversation with nobody, from cron."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\n")))
    monkeypatch.setattr("rostok.ensemble.shell.chat.open_talker", None)
    assert run_command(["chat", str(ready.folder), "  "]) == 2
    assert "the message is empty" in capsys.readouterr().err


def test_the_lock_does_not_keep_the_question(ready: Run, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: words that were forgotten, or meant to be kept nowhere, in run.lock."""
    (ready.folder / "experts.jsonl").unlink()
    monkeypatch.setattr(sys, "argv", ["rostok", "chat", str(ready.folder), "Xylophagus?"])
    with pytest.raises(RunError, match="no experts"):
        chat(ready, settings, Wish(question="Xylophagus?"), Console(file=io.StringIO()), Console(file=io.StringIO()))
    assert b"Xylophagus" not in (ready.folder / "run.lock").read_bytes()


def test_the_crash_log_does_not_keep_the_question(ready: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: the question of a chat with -n in crash.log, because the command line is told there."""
    def fail(*_: object) -> None:
        raise ValueError("in Xylophagus?")

    monkeypatch.setattr("rostok.ensemble.shell.chat.chat", fail)
    assert run_command(["chat", str(ready.folder), "-n", "Xylophagus?"]) == 1
    log = (ready.folder / "crash.log").read_text()
    assert "Xylophagus" not in log and "chat" in log and "ValueError" in log
    assert stat.S_IMODE((ready.folder / "crash.log").stat().st_mode) == 0o600


@pytest.mark.parametrize("argv", [["chats", "RUN", "Xylophagus"], ["chats", "RUN", "--rename", "a", "Xylophagus"],
                                  ["memory", "search", "RUN", "Xylophagus"]], ids=lambda argv: " ".join(argv[:3]))
def test_the_crash_log_does_not_keep_what_was_looked_for(ready: Run, monkeypatch: pytest.MonkeyPatch, argv: list[str]) -> None:
    """Prevents: the same for words that somebody looks for, or calls a conversation."""
    monkeypatch.setattr("rostok.ensemble.talker.open_keeper", Mock(side_effect=ValueError("Xylophagus?")))
    assert run_command([str(ready.folder) if one == "RUN" else one for one in argv]) == 1
    log = (ready.folder / "crash.log").read_text()
    assert "Xylophagus" not in log and argv[0] in log and "ValueError" in log


# ── a real terminal ─────────────────────────────────────────────────────────────────────────────────────────


class _Terminal:
    """`rostok chat` behind a pseudo-terminal."""

    def __init__(self, run: Run) -> None:
        self.shown = ""
        self._mine, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100", "LINES": "40", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "rostok.cli", "chat", str(run.folder)], stdin=theirs, stdout=theirs, stderr=theirs,
            env=environment, start_new_session=True, preexec_fn=_take_the_terminal)
        os.close(theirs)

    def type(self, keys: str) -> None:
        os.write(self._mine, keys.encode())

    def wait_for(self, text: str, seconds: float = 90) -> str:
        """All that was shown until this text came; it is then used up."""
        until = time.monotonic() + seconds
        while text not in self.shown:
            assert time.monotonic() < until, f"{text!r} did not come: {self.shown[-2000:]!r}"
            if select.select([self._mine], [], [], 0.2)[0]:
                try:
                    got = os.read(self._mine, 65536).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"the terminal was closed: {self.shown[-2000:]!r}") from None
                self.shown += re.sub(r"\x1b(\[[0-9;?]*[a-zA-Z]|[>=])", "", got)
        before, _, self.shown = self.shown.partition(text)
        return before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._mine)


def _take_the_terminal() -> None:
    import fcntl

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_a_real_terminal(ready: Run) -> None:
    """Prevents: Ctrl-C that loses the talk, Alt-Enter that sends, a Tab that does nothing, and answers that are not kept."""
    terminal = _Terminal(ready)
    try:
        terminal.wait_for("3 experts and the base listen")
        terminal.wait_for(">")
        terminal.type("/exp\t")
        terminal.wait_for("/experts")
        terminal.type("\r")
        terminal.wait_for("base  (answers")
        terminal.type("Tell me a very\x1b\rlong story about\\\rthe sea.\r")  # ahead of the prompt, as people do
        terminal.wait_for("[base  0.")
        terminal.type("\x03")
        terminal.wait_for("(stopped; what was said is kept)")
        terminal.wait_for("tokens read, ")
        terminal.wait_for(">")
        terminal.type("What does the escapement do?\r")
        terminal.wait_for("[The Clock Without a Maker  ")
        terminal.wait_for("read 0.")
        terminal.wait_for("tokens read, ")
        terminal.wait_for(">")
        terminal.type("\x1b[A")
        terminal.wait_for("escapement")
        terminal.type("\x03")
        terminal.wait_for("/quit leaves.")
        terminal.wait_for(">")
        terminal.type("/quit\r")
        assert terminal.process.wait(30) == 0
    finally:
        terminal.close()
    with threads.open_conversations(ready.conversations) as talks:
        last = talks.last()
        assert last is not None
        turns = talks.turns(last.id)
        assert [turn.question for turn in turns] == ["Tell me a very\nlong story about\nthe sea.", "What does the escapement do?"]
        assert turns[0].answer is not None and turns[0].answer.finish == "stopped"
        assert turns[0].answer.tokens < 120
