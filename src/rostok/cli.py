"""The command line. Heavy libraries are imported inside the commands, so that help comes at once.

Errors that a person can put right end in one sentence and exit code 2; Ctrl-C in 130; anything else is a bug of
Rostok: one sentence, exit code 1, and the traceback in a file that the sentence names.
"""

from __future__ import annotations

import errno
import io
import os
import sqlite3
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from rostok import __version__, cli_jobs
from rostok.cli_chat import chat, chats
from rostok.cli_corpus import Pages, corpus_app
from rostok.cli_corpus_score import score as _score
from rostok.cli_estimate import estimate
from rostok.cli_memory import memory_app
from rostok.cli_route import route
from rostok.cli_run import (
    Assignments,
    ConfigFile,
    Count,
    Executor,
    Profile,
    RunFolder,
    Session,
    Theme,
    Track,
    open_console,
    prepare_process,
    writing_run,
)
from rostok.cli_seeds import seeds_app
from rostok.cli_serve import serve
from rostok.cli_swarm import swarm_app
from rostok.errors import RostokError

_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_STOPPED = 130  # what a shell expects of a program that Ctrl-C ended

_app = typer.Typer(
    name="rostok", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Grows small minds from thoughts: seeds, corpora, a swarm of experts, an ensemble, on one workstation.",
    epilog="Begin with: rostok night runs/demo --profile demo")
_app.add_typer(seeds_app, name="seeds")
_app.add_typer(corpus_app, name="corpus")
corpus_app.command("score", epilog="Example: rostok corpus score runs/demo my-book.txt")(_score)
_app.add_typer(swarm_app, name="swarm")
cli_jobs.register(swarm_app)
_app.command("route", epilog='Example: rostok route runs/demo "What does the lamp lead to?"')(route)
_app.command("estimate", epilog="Example: rostok estimate --profile night --pages 500")(estimate)
_app.command("chat", epilog='Example: rostok chat runs/demo "What does the lamp lead to?"')(chat)
_app.command("chats", epilog="Example: rostok chats runs/demo lamp")(chats)
_app.add_typer(memory_app, name="memory")
_app.command("serve", epilog="Example: rostok serve runs/demo")(serve)

Until = Annotated[str | None, typer.Option(metavar="TIME", help="Grow what fits, and have stopped by then, such as 07:00.")]
OptionalRun = Annotated[Path | None, typer.Argument(
    metavar="RUN", help="Look for the models that this run uses; without it for the embedded ones.")]


# ── commands ────────────────────────────────────────────────────────────────────────────────────────────────────


@_app.command(epilog='Example: rostok night runs/lights --theme "lighthouses and keepers"')
def night(ctx: typer.Context, run: RunFolder, profile: Profile = None, config: ConfigFile = None,
          theme: Theme = None, count: Count = None, pages: Pages = None, until: Until = None, executor: Executor = None,
          track: Track = None, assignments: Assignments = None) -> None:
    """All stages, from the theme to the report. The same command goes on where it was stopped."""
    import datetime

    from rostok.swarm.deadline import parse_until

    moment = None if until is None else parse_until(until, datetime.datetime.now())
    options = {"theme": theme, "author": {"count": count}, "corpus": {"pages": pages}, "tracking": track,
               "swarm": {"executor": executor}}
    with writing_run(ctx, run, profile, config, options, assignments) as (opened, settings, console, watch):
        from rostok.night import night as all_stages

        all_stages(opened, settings, watch, console, None if moment is None else moment.timestamp())


@_app.command(epilog="Example: rostok report runs/demo --json")
def report(ctx: typer.Context, run: RunFolder,
           json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON instead.")] = False,
           language: Annotated[str, typer.Option(help="Of the page: en or ru.")] = "en") -> None:
    """Write report.html, or print its figures. Works at every stage of a run, also while it is at work."""
    from rostok.runs import Run

    ctx.obj.folder = run
    prepare_process()
    if json_:
        import json

        from rostok.report.facts import facts

        typer.echo(json.dumps(facts(Run(run)), ensure_ascii=False, indent=1))
    else:
        from rostok.report.page import write_report

        typer.echo(write_report(Run(run), language=language))


@_app.command(epilog="Example: rostok doctor runs/demo")
def doctor(ctx: typer.Context, run: OptionalRun = None,
           measure: Annotated[bool, typer.Option("--measure", help="Measure anew in which number format the base runs "
                                                 "fastest here (some seconds).")] = False) -> None:
    """What this machine has, and what would not work here and why."""
    from rich.table import Table
    from rich.text import Text

    from rostok.runs import Run

    ctx.obj.folder = run
    models = Run(run).read().settings.models if run is not None else None
    prepare_process()
    from rostok.doctor import examine

    marks = {True: Text("ok", "green"), None: Text("note", "yellow"), False: Text("missing", "bold red")}
    table = Table("", "what", "found", box=None, pad_edge=False)
    checks = examine(models, run, measure=measure)
    for check in checks:
        detail = Text(check.detail, overflow="fold")
        if check.advice:
            detail.append(f"\n→ {check.advice}", "italic")
        table.add_row(marks[check.ok], Text(check.name), detail)
    console = open_console()
    console.print(table)
    missing = [check.name for check in checks if check.ok is False]
    if missing:
        raise RostokError(f"Rostok cannot work here yet; see above: {', '.join(missing)}.")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rostok {__version__}")
        raise typer.Exit


@_app.callback()
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.",
                                                callback=_print_version, is_eager=True)] = False) -> None:
    pass


# ── the way out ─────────────────────────────────────────────────────────────────────────────────────────────────


def main(argv: Sequence[str] | None = None) -> None:
    """The console script `rostok`."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal without Unicode must not end a night
    code = run_command(sys.argv[1:] if argv is None else argv)
    sys.stdout.flush()
    if code == _STOPPED and any(not thread.daemon for thread in threading.enumerate()[1:]):
        sys.stderr.flush()
        os._exit(code)  # a library's thread would keep the shell waiting; what is on disk is whole
    sys.exit(code)


def run_command(argv: Sequence[str]) -> int:
    """Run one command line and return its exit code; every error has been told on stderr."""
    session = Session()
    try:
        code = _app(list(argv), prog_name="rostok", standalone_mode=False, obj=session)
    except BaseException as error:  # noqa: BLE001  # the last place: whatever came becomes a sentence and a code
        return _tell(error, session, argv)
    if code == _STOPPED:  # Typer turns Ctrl-C into this code
        return _tell(KeyboardInterrupt(), session, argv)
    return code if isinstance(code, int) else 0


def _tell(error: BaseException, session: Session, argv: Sequence[str]) -> int:
    if isinstance(error, SystemExit):  # Typer's answer to a closed pipe
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, KeyboardInterrupt):
        _say("stopped; the same command goes on where it was")
        return _STOPPED
    sentence = _sentence(error)
    if sentence is not None:
        if sentence:
            _say(sentence)
        return 2
    log = _crash_log(error, session, argv)
    text = " ".join(str(error).split())[:200]
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    _say(f"this is a bug of Rostok ({what}). The traceback is in {log}; "
         "what was finished is kept, and the same command goes on where it was.")
    return 1


def _sentence(error: BaseException) -> str | None:
    """What a person can do about the error, None when it is a bug, "" when help was shown already."""
    if isinstance(error, RostokError):
        return str(error)
    if isinstance(error.__cause__, RostokError):  # a library has wrapped it
        return str(error.__cause__)
    usage: Callable[[], str] | None = getattr(error, "format_message", None)
    if usage is not None:  # Typer's errors of usage share this method, and no public class
        context, text = getattr(error, "ctx", None), usage()
        path = context.command_path if context is not None else "rostok"
        return f"{text if text[-1:] in '.?!' else text + '.'} See: {path} --help" if text else ""
    if isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error):
        return ("the memory was not enough. Close other programs, or lower models.sequences, models.context or "
                "training.pages_per_step with --set; the same command goes on where it was.")
    full = isinstance(error, OSError) and error.errno in _FULL_DISK
    if full or (isinstance(error, sqlite3.OperationalError) and "disk" in str(error)):
        return f"the disk refused a write ({error}). Free some space; the same command goes on where it was."
    return None


def _crash_log(error: BaseException, session: Session, argv: Sequence[str]) -> str:
    """Keep the traceback: in the run where there is one, else in a temporary file. Returns where it is."""
    head = f"{time.strftime('%Y-%m-%d %H:%M:%S')} rostok {__version__} {' '.join(argv)}\n"
    text = head + "".join(traceback.format_exception(error)) + "\n"
    for words in session.unsaid:
        text = text.replace(words, "…")
    try:
        if session.folder is not None and (session.folder / "run.json").is_file():
            path = session.folder / "crash.log"
            with open(path, "a", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(text)
            return str(path)
        with tempfile.NamedTemporaryFile("w", prefix="rostok-crash-", suffix=".log", delete=False) as file:
            file.write(text)
            return file.name
    except OSError as refused:
        return f"no file, because that could not be written either ({refused})"


def _say(sentence: str) -> None:
    print(f"rostok: {' '.join(sentence.split())}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
