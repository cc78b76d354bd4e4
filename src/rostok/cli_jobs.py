"""The commands that look at training jobs and steer them: `rostok swarm status`, `stop` and `resume`."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from rostok.cli_run import Assignments, Executor, RunFolder, open_console, writing_run
from rostok.errors import RunError

_PATIENCE = 180.0  # seconds for checkpoints to be written


def register(app: typer.Typer) -> None:
    """Add the commands to `rostok swarm`."""
    app.command("status", epilog="Example: rostok swarm status runs/demo --once")(status)
    app.command("stop", epilog="Example: rostok swarm stop runs/demo")(stop)
    app.command("resume", epilog="Example: rostok swarm resume runs/demo --retry")(resume)


def status(ctx: typer.Context, run: RunFolder,
           once: Annotated[bool, typer.Option("--once", help="Print the table once, also on a terminal.")] = False,
           json_: Annotated[bool, typer.Option("--json", help="Print the rows as JSON instead.")] = False) -> None:
    """How far each expert's training is. On a terminal the table follows the work until it ends."""
    from rostok.runs import Run
    from rostok.swarm.status import read, show

    ctx.obj.folder = run
    opened = Run(run)
    if json_:
        found = read(opened)
        typer.echo(json.dumps({"at_work": found.holder, "tokens_per_second": round(found.rate, 1), "seconds_left": found.left(),
                               "jobs": [row.model_dump() for row in found.rows],
                               "workers": [row.model_dump() for row in found.workers]}, ensure_ascii=False, indent=1))
        return
    console = open_console()
    show(opened, console, live=console.is_terminal and not once)


def stop(ctx: typer.Context, run: RunFolder) -> None:
    """Let whoever works on the run write checkpoints and end; `rostok swarm resume` goes on from there."""
    from rostok.runs import Run
    from rostok.swarm.jobs import JobTable

    ctx.obj.folder = run
    opened = Run(run)
    opened.read()
    holder = opened.holder()
    if holder is None:
        raise RunError(f"nobody is at work on {run}, so there is nothing to stop.")
    training = False
    if opened.jobs.exists():
        with JobTable(opened.jobs) as table:
            table.ask_to_stop()
            training = bool(table.workers())
    if not training:
        opened.interrupt()  # the other stages may be broken off at any moment
    deadline = time.monotonic() + _PATIENCE
    while opened.holder() == holder:
        if time.monotonic() > deadline:
            raise RunError(f"{holder} has been asked to stop and is still at work after {_PATIENCE / 60:.0f} minutes. It stops "
                           f"at its next step; look with: rostok swarm status {run}")
        time.sleep(0.1)
    typer.echo(f"stopped: {holder}. Go on with: rostok {'swarm resume' if training else 'night'} {run}")


def resume(ctx: typer.Context, run: RunFolder, executor: Executor = None,
           retry: Annotated[bool, typer.Option("--retry", help="Let experts out of quarantine and try them again.")] = False,
           assignments: Assignments = None) -> None:
    """Go on with training from the checkpoints, then measure."""
    from rostok.runs import Run
    from rostok.swarm.jobs import JobTable

    if not Run(run).jobs.exists():
        Run(run).read()
        raise RunError(f"{run} has no training jobs yet. Run: rostok swarm train {run}")
    with writing_run(ctx, run, None, None, {"swarm": {"executor": executor}}, assignments) as (opened, settings, _, watch):
        if retry:
            with JobTable(opened.jobs) as table:
                for name in table.release():
                    watch.note(f"{name} is let out of quarantine")
        from rostok.night import swarm_stage

        swarm_stage(opened, settings, watch)


