"""What the commands share: their options, what the way out wants to know of them, and the run that a command writes to."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from rostok.config import Settings
    from rostok.progress import Watch
    from rostok.runs import Run

RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder, such as runs/demo.")]
Profile = Annotated[str | None, typer.Option(
    help="demo (4 seeds × 200 pages) or night (100 × 1000); without it as the run was started.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="YAML file with settings.")]
Theme = Annotated[str | None, typer.Option(help="What the seeds are about.")]
Count = Annotated[int | None, typer.Option(help="How many seeds.")]
Track = Annotated[str | None, typer.Option(help="mlflow keeps settings, curves and adapters of every expert in RUN/mlflow; none "
                                           "does not.")]
Executor = Annotated[str | None, typer.Option(help="Who trains: local (the default) or ray, a cluster at swarm.address.")]
Assignments = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE",
                                                       help="Any setting, such as models.base=./model.gguf.")]


Manners = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help=(
    "A setting of ensemble or router, for this once, such as ensemble.retrieval=false."))]


@dataclass
class Session:
    """What the wrapper wants to know of the command that failed. `unsaid` is what the crash log must not hold."""

    folder: Path | None = None
    unsaid: tuple[str, ...] = ()


@contextmanager
def writing_run(ctx: typer.Context, folder: Path, profile: str | None, config: Path | None, options: dict[str, Any],
                assignments: Sequence[str] | None) -> Iterator[tuple[Run, Settings, Console, Watch]]:
    """Settle the settings, hold the run, and give the terminal back whatever happens."""
    from rostok.config import resolve
    from rostok.progress import Watch
    from rostok.runs import Run

    ctx.obj.folder = folder
    run = Run(folder)

    def settled() -> Settings:
        saved = run.read().settings.model_dump(mode="json") if run.exists() else None
        return resolve(profile=profile, file=config, saved=saved, options=options, assignments=assignments or ())

    settings = settled()  # a mistake is told before anything is written
    if settings.tracking != "none":
        from rostok.swarm.track import check

        check()
    with run.held(command_line()):
        settings = settled()  # another process may have changed the run before it let go
        run.start(settings)
        prepare_process(settings)
        console = open_console()
        with Watch(console) as watch:
            yield run, settings, console, watch


def settings_of(run: Run, assignments: Sequence[str] | None) -> Settings:
    """The settings of a grown run, with others of `ensemble` and `router` for this once; nothing is written.

    Raises:
        ConfigError: another section, which the run was grown with, or a mistake in a setting.
    """
    from rostok.config import resolve
    from rostok.errors import ConfigError

    saved = run.read().settings
    for assignment in assignments or ():
        if not assignment.startswith(("ensemble.", "router.")):
            raise ConfigError(f"--set takes settings of ensemble and router here, not '{assignment}': with the others the run "
                              f"was grown. To change those, give them to rostok night {run.folder}.")
    return resolve(saved=saved.model_dump(mode="json"), assignments=assignments) if assignments else saved


def prepare_process(settings: Settings | None = None) -> None:
    """Set the process's environment; the network is allowed only for a model that the user named by its hub id."""
    from rostok.environment import prepare

    if settings is None:
        prepare()
        return
    from rostok.models import names_a_hub_model

    prepare(allow_network=any(map(names_a_hub_model, (settings.models.base, settings.models.embedder))))


def open_console(*, stderr: bool = False) -> Console:
    """The terminal, without guesses at what in a text might be a number or a path."""
    from rich.console import Console

    return Console(highlight=False, stderr=stderr)


def command_line() -> str:
    """The command as it was typed, for the lock."""
    return " ".join(["rostok", *sys.argv[1:]])
