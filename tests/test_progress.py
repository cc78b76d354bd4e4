"""Progress: figures that are true, and text of models that stays text."""

from __future__ import annotations

import io
import threading

import pytest
from rich.console import Console

from rostok.progress import Watch, clock

HOSTILE = "[red]x[/red] [/] :smile: \x1b[2J\x07 [link=http://a]b"


def shown(*, terminal: bool, quiet: bool = False, text: str = "") -> str:
    """What a short stage writes."""
    out = io.StringIO()
    with Watch(Console(file=out, force_terminal=terminal, width=60), quiet=quiet) as watch:
        watch.start("corpora", 8, "pages", done=2)
        threads = [threading.Thread(target=lambda: [watch.advance(tokens=5) for _ in range(2)]) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if text:
            watch.note(text)
        watch.finish(text)
    return out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_a_model_s_text_is_shown_as_it_is(terminal: bool) -> None:
    """Prevents: a title with brackets that vanishes or raises, or one that clears the screen."""
    output = shown(terminal=terminal, text=HOSTILE)
    assert "[red]x[/red] [/] :smile:  [2J  [link=http://a]b" in output
    assert "\x1b[2J" not in output
    assert "\x07" not in output


def test_off_a_terminal_there_are_only_plain_lines() -> None:
    """Prevents: a log full of control sequences, or with a line for every page, or wrapped at 80 columns."""
    output = shown(terminal=False, text="a long remark " * 10)
    assert "\x1b" not in output
    assert len(output.splitlines()) == 2
    assert output.splitlines()[-1].startswith("corpora: 8/8 pages in 0:00")


def test_what_an_earlier_session_made_does_not_count_for_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a resumed stage that claims 100 pages a second and ten seconds left."""
    now = 0.0
    monkeypatch.setattr("rostok.progress.time.monotonic", lambda: now)
    out = io.StringIO()
    watch = Watch(Console(file=out, force_terminal=False))
    watch.start("corpora", 1000, "pages", done=900)
    for _ in range(10):
        now += 2.0
        watch.advance(tokens=100)
    last = out.getvalue().splitlines()[-1]
    assert "909/1,000 pages · 0.5 pages/s · 50 tokens/s · 0:18 · 3:02 left" in last
    watch.finish()
    assert "910/1,000 pages in 0:20 · 0.5 pages/s · 50 tokens/s" in out.getvalue().splitlines()[-1]


def test_a_quiet_watch_says_nothing() -> None:
    """Prevents: progress in the middle of JSON."""
    assert shown(terminal=True, quiet=True, text="note") == ""


def test_calls_without_a_stage_do_no_harm() -> None:
    """Prevents: a late report of a worker thread that breaks the end of a stage."""
    watch = Watch(Console(file=io.StringIO()))
    watch.advance()
    watch.finish()
    watch.close()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (754, "12:34"), (3723, "1:02:03")])
def test_times_read_as_times(seconds: float, text: str) -> None:
    """Prevents: 0:60."""
    assert clock(seconds) == text
