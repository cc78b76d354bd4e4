"""`rostok estimate`: time, disk and memory of a run before it is begun."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rostok.cli_run import Assignments, ConfigFile, Count, Profile, prepare_process
from rostok.errors import ConfigError

if TYPE_CHECKING:
    from rostok.config import Settings
    from rostok.estimate.pace import Pace

OptionalRun = Annotated[Path | None, typer.Argument(
    metavar="[RUN]", help="Take the settings of this run; without it those of the profile.")]


def estimate(ctx: typer.Context, run: OptionalRun = None, profile: Profile = None, config: ConfigFile = None,
             count: Count = None, pages: Annotated[int | None, typer.Option(help="Pages of one corpus.")] = None,
             machine: Annotated[str | None, typer.Option(
                 help="Reckon for another machine, such as 'RTX 4090, 24 GB', instead of measuring this one.")] = None,
             flops: Annotated[float | None, typer.Option(help="FLOP/s in bf16 of a machine that has no figures here.")] = None,
             memory: Annotated[float | None, typer.Option(help="Its memory in GB.")] = None,
             parameters: Annotated[float | None, typer.Option(
                 help="Parameters of the base there, such as 1.3e9; without it those of models.base.")] = None,
             json_: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
             assignments: Assignments = None) -> None:
    """Tell how long a run will take, and how much disk and memory. Measures this machine for under a minute."""
    from rostok.config import resolve
    from rostok.runs import Run

    ctx.obj.folder = run
    opened = Run(run) if run is not None else None
    saved = opened.read().settings.model_dump(mode="json") if opened is not None else None
    settings = resolve(profile=profile, file=config, saved=saved, assignments=assignments or (),
                       options={"author": {"count": count}, "corpus": {"pages": pages}})
    prepare_process(settings)
    pace = _pace(settings, run, machine, flops, memory, parameters)
    from rich.console import Console

    from rostok.estimate.found import found_sizes, lying
    from rostok.estimate.predict import books, predict
    from rostok.estimate.show import as_json, show

    if opened is not None:
        pace = pace.model_copy(update={"sizes": found_sizes(opened, pace.sizes), "lying": lying(opened)})
    told, libraries = predict(settings, pace), books(settings, pace)
    if json_:
        import json

        typer.echo(json.dumps(as_json(told, libraries, pace), ensure_ascii=False, indent=1))
    else:
        show(told, libraries, pace, Console(highlight=False))


def _pace(settings: Settings, run: Path | None, machine: str | None, flops: float | None, memory: float | None,
          parameters: float | None) -> Pace:
    """Measured here, or reckoned when a machine that is not at hand was named."""
    if machine is None and flops is None:
        given = [name for name, value in (("--memory", memory), ("--parameters", parameters)) if value is not None]
        if given:
            raise ConfigError(f"{given[0]} is about a machine that is not at hand; name that machine with --machine, or give its "
                              "speed with --flops.")
        from rich.console import Console

        from rostok.estimate.measure import measure
        from rostok.progress import Watch

        with Watch(Console(highlight=False, stderr=True)) as watch:
            return measure(settings, watch, run)
    from rostok.estimate.reckon import any_machine, find_machine, reckon, shape_of
    from rostok.estimate.shape import shape_of_base

    if machine is not None:
        found = find_machine(machine, flops=flops, memory_gb=memory)
    elif flops is not None and memory is not None:
        found = any_machine(flops, memory)
    else:
        raise ConfigError("--flops needs --memory, the machine's memory in GB, for example: --flops 165e12 --memory 24.")
    if parameters is not None and not 1e6 <= parameters <= 1e13:
        raise ConfigError(f"--parameters must lie between 1e6 and 1e13, not {parameters:g}.")
    return reckon(settings, found, shape_of(parameters) if parameters is not None else shape_of_base(settings.models.base))
