"""`rostok chat` and `rostok chats`: talk with a run, and find again what was said."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rostok.cli_run import Manners, RunFolder, open_console, prepare_process, settings_of

if TYPE_CHECKING:
    from rostok.config import Settings
    from rostok.ensemble.history.answer import Conversation, Hit
    from rostok.ensemble.shell.wording import Wording

Question = Annotated[str | None, typer.Argument(help="One question; - reads it from the standard input, and so does a pipe "
                                                     "without a question. Without either, a conversation.")]
Language = Annotated[str | None, typer.Option(help="Of the interface: en or ru; without it ensemble.language.")]
Mixing = Annotated[str | None, typer.Option(help="one, adapters, tokens or judge; without it ensemble.mixing.")]
Thread = Annotated[list[str] | None, typer.Option("--id", metavar="ID", help="Export this conversation only; may be repeated.")]


def chat(ctx: typer.Context, run: RunFolder, question: Question = None,
         expert: Annotated[str | None, typer.Option(help="Who answers, whatever the router says: a seed's id or title, an "
                                                    "expert's id or its beginning, or base.")] = None,
         last: Annotated[bool, typer.Option("-c", "--last", help="Go on with the last conversation.")] = False,
         thread: Annotated[str | None, typer.Option("--continue", metavar="ID", help="Go on with this conversation.")] = None,
         nothing: Annotated[bool, typer.Option("-n", "--keep-nothing", help="Keep nothing of the conversation.")] = False,
         no_memory: Annotated[bool, typer.Option("--no-memory", help="Answer without reading pages, notes and earlier "
                                                 "words.")] = False,
         mixing: Mixing = None, language: Language = None, set_: Manners = None) -> None:
    """Ask the swarm. The answer says which expert spoke, why, and what it read."""
    from rostok.errors import ConfigError

    if nothing and (last or thread is not None):
        raise ConfigError("-n keeps nothing, so it cannot go on with a conversation that is kept. Leave out one of the two.")
    settings = _settings(ctx, run, set_)
    if set_ and (run / "serve.json").is_file():
        raise ConfigError(f"a server holds {run}, and answers as it was started. Give --set to rostok serve, or end the server.")
    known = ("one", "adapters", "tokens", "judge")
    if mixing is not None and mixing not in known:
        raise ConfigError(f"--mixing takes {', '.join(known)}, not '{mixing}'.")
    if question == "-" or (question is None and not sys.stdin.isatty()):
        question = _piped()
    ctx.obj.unsaid = (question,) if question else ()  # people's words belong where they can be forgotten
    prepare_process(settings)
    from rostok.ensemble.shell.chat import Wish
    from rostok.ensemble.shell.chat import chat as talk
    from rostok.ensemble.talk import Manner
    from rostok.runs import Run

    out = open_console()
    side = out if question is None else open_console(stderr=True)
    wish = Wish(question, "" if last and thread is None else thread, not nothing,
                Manner(expert, mixing, False if no_memory else None),  # type: ignore[arg-type]  # checked above
                language or settings.ensemble.language)
    talk(Run(run), settings, wish, out, side)


def chats(ctx: typer.Context, run: RunFolder,
          words: Annotated[str | None, typer.Argument(help="Find turns that hold words beginning so.")] = None,
          export: Annotated[Path | None, typer.Option("--export", metavar="FILE", help="Write all of them to a new file, as "
                                                      "Markdown, or as JSONL where its name ends so; - prints JSONL.")] = None,
          ids: Thread = None,
          delete: Annotated[str | None, typer.Option(metavar="ID", help="Delete a conversation for good.")] = None,
          rename: Annotated[tuple[str, str] | None, typer.Option(metavar="ID TITLE", help="Give a conversation a title.")] = None,
          language: Language = None) -> None:
    """List the conversations of a run, the last first; find, export, rename or delete them."""
    ctx.obj.unsaid = tuple(one for one in (words, rename[1] if rename is not None else None) if one)
    settings = _settings(ctx, run)
    prepare_process(settings)
    from rostok.ensemble.shell.export import jsonl, save
    from rostok.ensemble.shell.wording import Wording
    from rostok.ensemble.talker import open_keeper
    from rostok.runs import Run

    say = Wording(language or settings.ensemble.language)
    with open_keeper(Run(run), f"rostok chats {run}") as keeper:
        shelf = keeper.conversations
        if delete is not None:
            shelf.delete(delete)
            typer.echo(say("deleted", count=1))
        elif rename is not None:
            shelf.rename(*rename)
            typer.echo(say("renamed"))
        elif export is not None and str(export) == "-":
            typer.echo(jsonl(shelf.export(ids)), nl=False)
        elif export is not None:
            typer.echo(say("exported", count=save(export, shelf.export(ids), say), path=export))
        elif words is not None:
            _hits(list(shelf.search(words)), say)
        else:
            _table(list(shelf.list()), say, run)


def _table(talks: Sequence[Conversation], say: Wording, run: Path) -> None:
    from rich.table import Table
    from rich.text import Text

    from rostok.ensemble.prompt import visible

    if not talks:
        typer.echo(say("no_chats", run=run))
        return
    table = Table(*(say(f"column_{name}") for name in ("id", "title", "turns", "last")), box=None, pad_edge=False)
    for one in talks:
        spoken = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.updated))
        table.add_row(Text(visible(one.id), no_wrap=True), Text(visible(one.title)), str(one.turns), Text(spoken, no_wrap=True))
    open_console().print(table)


def _hits(hits: Sequence[Hit], say: Wording) -> None:
    from rostok.ensemble.prompt import visible

    console = open_console()
    for hit in hits:
        console.out(visible(f"{hit.thread}  {say('turn_of', number=hit.number + 1, title=hit.title)}"), highlight=False)
        console.out(visible(f"  {hit.snippet}"), highlight=False)
    if not hits:
        console.out(say("no_hits"), highlight=False)


def _settings(ctx: typer.Context, run: Path, assignments: Sequence[str] | None = None) -> Settings:
    from rostok.runs import Run

    ctx.obj.folder = run
    return settings_of(Run(run), assignments)


def _piped() -> str:
    """All of the standard input; whatever its bytes are, they are read."""
    return sys.stdin.buffer.read().decode("utf-8", errors="replace")
