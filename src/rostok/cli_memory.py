"""`rostok memory`: what a run remembers of people. A run that is being served is asked over the server."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rostok.cli_chat import Language
from rostok.cli_run import RunFolder, open_console, prepare_process

if TYPE_CHECKING:
    from rostok.ensemble.shell.wording import Wording
    from rostok.ensemble.talker import Keeper

memory_app = typer.Typer(no_args_is_help=True, help="What a run remembers of people: notes and earlier words.",
                         epilog='Begin with: rostok memory remember runs/demo "My daughter is called Anna."')


@memory_app.command("list", epilog="Example: rostok memory list runs/demo")
def list_(ctx: typer.Context, run: RunFolder, language: Language = None) -> None:
    """The notes, with their ids, and how much was said."""
    with _keeping(ctx, run, "list", language) as (keeper, say):
        for note in keeper.notes():
            _line(f"{note.id}  {time.strftime('%Y-%m-%d', time.localtime(note.time))}  {note.text}")
        talks = keeper.conversations.list()
        _line(say("memory_summary", notes=len(keeper.notes()), turns=sum(talk.turns for talk in talks), talks=len(talks)))


@memory_app.command(epilog='Example: rostok memory remember runs/demo "My daughter is called Anna."')
def remember(ctx: typer.Context, run: RunFolder,
             text: Annotated[str, typer.Argument(help="What to keep for every conversation.")],
             language: Language = None) -> None:
    """Keep a note. It is recalled, as quoted data, where it bears on a question."""
    ctx.obj.unsaid = (text,)
    with _keeping(ctx, run, "remember", language) as (keeper, say):
        _line(say("noted", id=keeper.remember(text)))


@memory_app.command(epilog="Example: rostok memory forget runs/demo Anna --yes")
def forget(ctx: typer.Context, run: RunFolder,
           what: Annotated[list[str], typer.Argument(help="Ids of notes, turns or conversations; or one text: then every note, "
                                                          "and every turn whose question or answer holds it.")],
           yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")] = False,
           language: Language = None) -> None:
    """Erase for good: no byte of the run holds it afterwards."""
    ctx.obj.unsaid = tuple(what)
    with _keeping(ctx, run, "forget", language) as (keeper, say):
        wanted = what[0] if len(what) == 1 else what
        found = keeper.found(wanted)
        for note in found.notes:
            _line(f"{note.id}  {note.text}")
        for thread, turn in found.turns:
            _line(f"{turn.id}  {thread}  {' '.join(turn.question.split())}")
        if not found.ids and not isinstance(wanted, str):
            _line(say("forget_nothing"))
        elif found.ids and not (yes or _agreed(say, len(found.notes), len(found.turns))):
            _line(say("kept_on"))
        else:  # a text that is in no note or turn may still be in a title or a log
            _line(say("forgotten", count=keeper.forget(wanted)))


@memory_app.command(epilog='Example: rostok memory search runs/demo "What is my daughter called?"')
def search(ctx: typer.Context, run: RunFolder, question: Annotated[str, typer.Argument(help="A question, or a word.")],
           count: Annotated[int, typer.Option(min=1, max=100, help="How many.")] = 10, language: Language = None) -> None:
    """What bears on a question: notes, earlier words and pages, with score, trust and provenance."""
    ctx.obj.unsaid = (question,)
    with _keeping(ctx, run, "search", language, embed=True) as (keeper, say):
        for one in keeper.recall(question, count):
            _line(f"{one.score:.2f}  {say(f'trust_{one.trust}')}  {one.id}  {one.source}")
            _line(f"      {' '.join(one.text.split())[:100]}")


@contextmanager
def _keeping(ctx: typer.Context, run: Path, name: str, language: str | None, *,
             embed: bool = False) -> Iterator[tuple[Keeper, Wording]]:
    from rostok.runs import Run

    ctx.obj.folder = run
    settings = Run(run).read().settings
    prepare_process(settings)
    from rostok.ensemble.shell.wording import Wording
    from rostok.ensemble.talker import open_keeper

    say = Wording(language or settings.ensemble.language)
    with open_keeper(Run(run), f"rostok memory {name} {run}", settings if embed else None) as keeper:
        yield keeper, say


def _agreed(say: Wording, notes: int, turns: int) -> bool:
    if not sys.stdin.isatty():
        _line(say("nobody_asks"))
        return False
    _line(say("erase_which", notes=notes, turns=turns))
    return input(say("forget_ask")).strip().casefold() in say("forget_yes").split()


def _line(text: str) -> None:
    from rostok.ensemble.prompt import visible

    open_console().out(visible(text), highlight=False)
