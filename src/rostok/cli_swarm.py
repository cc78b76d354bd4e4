"""The commands of `rostok swarm`: train the experts, splice and split them, carry them elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rostok.cli_run import (
    Assignments,
    ConfigFile,
    Executor,
    Profile,
    RunFolder,
    Track,
    command_line,
    open_console,
    prepare_process,
    writing_run,
)
from rostok.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from rostok.config import Settings
    from rostok.models import Base
    from rostok.progress import Watch
    from rostok.runs import Run
    from rostok.swarm.records import Comparison, Splice

swarm_app = typer.Typer(no_args_is_help=True, help="Train the experts, measure them, splice them, carry them elsewhere.")


class _Method(StrEnum):
    sum = "sum"
    ties = "ties"
    dare = "dare"


ExpertName = Annotated[str, typer.Argument(metavar="EXPERT", help="An expert: its seed's id, its own, or the beginning of one.")]
Other = Annotated[str, typer.Argument(metavar="EXPERT", help="The other expert.")]
Rank = Annotated[int | None, typer.Option(min=1, help="Of the result; without it nothing is cut off.")]
Leading = Annotated[int | None, typer.Option("--rank", min=1, help="Of the first of the two; without it half.")]
Trainer = Annotated[str | None, typer.Option(help="fused (the default) or trl, the reference: one expert after the other.")]
NoMeasure = Annotated[bool, typer.Option("--no-measure", help="Do not measure the result beside its parents and a freshly "
                                         "trained adapter (minutes).")]


@swarm_app.command("train", epilog="Example: rostok swarm train runs/demo --set training.rank=8")
def train(ctx: typer.Context, run: RunFolder, trainer: Trainer = None, executor: Executor = None,
          track: Track = None, profile: Profile = None, config: ConfigFile = None, assignments: Assignments = None) -> None:
    """Train one expert per corpus, many in the same step and from the same school, then measure all; what was trained stays."""
    options = {"tracking": track, "training": {"trainer": trainer}, "swarm": {"executor": executor}}
    with writing_run(ctx, run, profile, config, options, assignments) as (opened, settings, _, watch):
        from rostok.night import swarm_stage

        swarm_stage(opened, settings, watch)


# ── splicing ────────────────────────────────────────────────────────────────────────────────────────────────────


@swarm_app.command("merge", epilog="Example: rostok swarm merge runs/demo s-d69b s-71f0 --rank 16")
def merge(ctx: typer.Context, run: RunFolder, first: ExpertName, second: Other, rank: Rank = None,
          method: Annotated[_Method, typer.Option(help="sum is exact; ties and dare thin both experts first.")] = _Method.sum,
          density: Annotated[float | None, typer.Option(help="Share of the numbers that ties or dare keeps (0.5).")] = None,
          weights: Annotated[tuple[float, float], typer.Option(help="By which the two are multiplied.")] = (1.0, 1.0),
          random_seed: Annotated[int, typer.Option(help="Of dare's dice.")] = 7, no_measure: NoMeasure = False) -> None:
    """One expert out of two: the exact sum of what they learned, or less of it in a lower rank."""
    if density is not None and method is _Method.sum:
        raise ConfigError("the exact sum keeps every number, so --density means nothing to it. Leave it out, or add "
                          "--method ties.")
    with _opened(ctx, run, "merge") as (opened, settings, base, console, watch):
        from rostok.swarm.splice import Merge
        from rostok.swarm.splice import merge as splice

        how = Merge(method.value, rank, weights, 0.5 if density is None else density, random_seed)
        if method is _Method.sum:
            made = splice(opened, (first, second), base, how)
        else:
            made = splice(opened, (first, second), base, how, _Layers(watch, f"merge by {method.value}"))
            watch.finish()
        _tell(opened, settings, base, console, watch, [made], no_measure)


@swarm_app.command("split", epilog="Example: rostok swarm split runs/demo s-d69b --rank 4")
def split(ctx: typer.Context, run: RunFolder, expert: ExpertName, rank: Leading = None, no_measure: NoMeasure = False) -> None:
    """An expert's strongest directions and the others, as two experts whose sum it is."""
    with _opened(ctx, run, "split") as (opened, settings, base, console, watch):
        from rostok.swarm.splice import split as cut

        _tell(opened, settings, base, console, watch, cut(opened, expert, base, rank), no_measure)


# ── carrying elsewhere ──────────────────────────────────────────────────────────────────────────────────────────


@swarm_app.command("bake", epilog="Example: rostok swarm bake runs/demo s-d69b")
def bake(ctx: typer.Context, run: RunFolder, expert: ExpertName) -> None:
    """Merge an expert into the 4-bit base, as a new base for another run."""
    with _opened(ctx, run, "bake") as (opened, _, base, console, watch):
        from rostok.swarm.bake import bake as merged

        folder, provenance = merged(opened, expert, base, on_layer=_Layers(watch, "merge into the base"))
        watch.finish()
        after = opened.folder.parent / "next"
        console.print(f"{folder}  (sha256 {provenance.sha256[:12]})\n"
                      f"A run on it: rostok night {after} --set models.base={folder}", markup=False, soft_wrap=True)


@swarm_app.command("export", epilog="Example: rostok swarm export runs/demo s-d69b --gguf lamp.gguf")
def export(ctx: typer.Context, run: RunFolder, expert: ExpertName,
           gguf: Annotated[Path | None, typer.Option(metavar="FILE", help="As an adapter for llama.cpp, to be used with the "
                                                     "base.")] = None,
           merged: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Merged into the base, as a model folder.")]
           = None) -> None:
    """Write an expert to where other programs can use it; the run stays as it is."""
    if gguf is None and merged is None:
        raise ConfigError("nothing was asked for. Add --gguf FILE, --merged FOLDER, or both.")
    with _opened(ctx, run, "") as (opened, _, base, console, watch):
        if gguf is not None:
            from rostok.models import base_config
            from rostok.swarm import registry
            from rostok.swarm.adapter_gguf import export_adapter

            export_adapter(registry.checked_folder(opened, registry.find(opened, expert), base), gguf, base_config(base))
            console.print(str(gguf), markup=False, soft_wrap=True)
        if merged is not None:
            from rostok.swarm.bake import bake as into

            folder, _ = into(opened, expert, base, merged, on_layer=_Layers(watch, "merge into the base"))
            watch.finish()
            console.print(str(folder), markup=False, soft_wrap=True)


# ── what they share ─────────────────────────────────────────────────────────────────────────────────────────────


class _Layers:
    """Progress over modules, whose number is known with the first."""

    def __init__(self, watch: Watch, stage: str) -> None:
        self._watch, self._stage, self._begun = watch, stage, False

    def __call__(self, total: int) -> None:
        if not self._begun:
            self._begun = True
            self._watch.start(self._stage, total, "modules")
        self._watch.advance()


@contextmanager
def _opened(ctx: typer.Context, folder: Path, stage: str) -> Iterator[tuple[Run, Settings, Base, Console, Watch]]:
    """A run that exists, held, with its own settings and base; with a stage's name its cost goes into the journal."""
    from rostok.progress import Watch
    from rostok.runs import Run

    ctx.obj.folder = folder
    run = Run(folder)
    run.read()
    with run.held(command_line()):
        settings = run.read().settings
        prepare_process(settings)
        from rostok.models import find_base

        base = find_base(settings.models.base)
        run.note_model("base", base.name, base.sha256)
        console = open_console()
        with Watch(console) as watch:
            if not stage:
                yield run, settings, base, console, watch
                return
            with run.stage(stage) as cost:
                yield run, settings, base, console, watch
                cost.add()


def _tell(run: Run, settings: Settings, base: Base, console: Console, watch: Watch, splices: Sequence[Splice],
          no_measure: bool) -> None:
    for splice in splices:
        kept = "" if splice.operator == "merge" and splice.kept == 1 else f", {splice.kept:.1%} of the squared singular values"
        console.print(f"{splice.name}  {splice.expert().id}  {splice.title}: rank {splice.rank}{kept}", markup=False,
                      soft_wrap=True)
    if not no_measure:
        from rostok.swarm.compare import compare, verdict

        for splice, comparison in zip(splices, compare(run, splices, base, settings, watch), strict=True):
            watch.close()
            _show(console, comparison)
            console.print(verdict(splice, comparison), markup=False, soft_wrap=True)
    console.print(f'Talk to it: rostok chat {run.folder} --expert {splices[0].name} "…"', markup=False, soft_wrap=True)


def _show(console: Console, comparison: Comparison) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"Share of probes right (chance {comparison.chance:.2f}) / of open questions / bits per byte"),
                  box=None, pad_edge=False)
    table.add_column("", overflow="fold")
    table.add_column("rank", justify="right")
    for title in comparison.seeds.values():
        table.add_column(Text(title), justify="right")
    table.add_column("general", justify="right")
    for score in comparison.scores:
        cells = [f"{score.probes[seed]:.2f} / {score.chat_probes[seed]:.2f} / {score.bits_per_byte[seed]:.2f}"
                 for seed in comparison.seeds]
        named = {"base": "base", "parent": score.title, "splice": score.name, "fresh": "trained freshly"}[score.role]
        table.add_row(Text(named), str(score.rank or ""), *cells, "" if score.general is None else f"{score.general:.2f}")
    console.print(table)
