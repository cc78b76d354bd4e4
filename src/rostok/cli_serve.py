"""`rostok serve`: the ensemble as a page and as an API."""

from __future__ import annotations

from typing import Annotated

import typer

from rostok.cli_run import Manners, RunFolder, open_console, prepare_process, settings_of

Host = Annotated[str, typer.Option(help="Address to listen at; any but this machine's own needs a key.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")]
Key = Annotated[str | None, typer.Option(envvar="ROSTOK_KEY", show_envvar=True, show_default=False, help=(
    "What everybody must bring as a bearer token. The variable is better: others on this machine see command lines."))]
Names = Annotated[list[str] | None, typer.Option("--name", metavar="NAME", help=(
    "Another host name under which people come, such as that of a proxy. Needs a key."))]
Open = Annotated[bool, typer.Option("--open", help="Show the page in your browser.")]


def serve(ctx: typer.Context, run: RunFolder, host: Host = "127.0.0.1", port: Port = 8321, key: Key = None, name: Names = None,
          open_: Open = False, set_: Manners = None) -> None:
    """Talk with the swarm in a browser, or from any OpenAI client. Prints the address; Ctrl-C ends it."""
    from rostok.runs import Run

    ctx.obj.folder, ctx.obj.unsaid = run, (key,) if key else ()
    opened = Run(run)
    settings = settings_of(opened, set_)
    with opened.held(f"rostok serve {run}"):  # not the command line, which may hold the key
        prepare_process(settings)
        from rostok.ensemble.serve.server import Address
        from rostok.ensemble.serve.server import serve as until_told

        console = open_console()
        address = Address(host, port, key, tuple(name or ()))
        until_told(opened, settings, address, lambda line: console.out(line, highlight=False), opens=open_)
