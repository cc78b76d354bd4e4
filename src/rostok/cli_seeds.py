"""The commands of `rostok seeds`: write seeds, evolve them, look at the library, mend it, carry it elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rostok.cli_run import (
    Assignments,
    ConfigFile,
    Count,
    Profile,
    RunFolder,
    Theme,
    command_line,
    open_console,
    prepare_process,
    writing_run,
)
from rostok.errors import DataError, RunError

if TYPE_CHECKING:
    from rostok.config import Settings
    from rostok.runs import Run
    from rostok.seeds.library import Library
    from rostok.seeds.record import Seed

_MANY = 300  # seeds from which it is told first how long they will take

seeds_app = typer.Typer(no_args_is_help=True, help="Write thought seeds, evolve them, look at them, carry them elsewhere.")


class _Goal(StrEnum):
    novelty = "novelty"
    tension = "tension"


class _Format(StrEnum):
    jsonl = "jsonl"
    hf = "hf"


SeedName = Annotated[str, typer.Argument(metavar="SEED", help="A seed's id, or its beginning.")]
First = Annotated[str, typer.Argument(metavar="SEED", help="The first parent's id, or its beginning.")]
Second = Annotated[str, typer.Argument(metavar="SEED", help="The second parent's id, or its beginning.")]
GoalOption = Annotated[_Goal | None, typer.Option("--goal", help="Keep the best of the candidates by this measure.")]
Candidates = Annotated[int, typer.Option(min=1, max=1000, help="Children tried.")]
Times = Annotated[int, typer.Option("--count", min=1, max=1000, help="How often, each time with other dice.")]
RandomSeed = Annotated[int | None, typer.Option(help="Of the dice; the same number gives the same children.")]
ByCode = Annotated[bool, typer.Option("--by-code", help="Ask no model; new sentences stay as code composes them.")]


# ── writing seeds ───────────────────────────────────────────────────────────────────────────────────────────────


@seeds_app.command("author", epilog='Example: rostok seeds author runs/demo --count 4 --theme "a harbour town"')
def author(ctx: typer.Context, run: RunFolder, count: Count = None, theme: Theme = None,
           deepen: Annotated[int | None, typer.Option(help="Questions that every seed is asked, to raise its tension.")] = None,
           language: Annotated[str | None, typer.Option(help="Of the seeds: en, or ru with a model that writes it.")] = None,
           yes: Annotated[bool, typer.Option("--yes", help="Do not ask, however long it will take.")] = False,
           profile: Profile = None, config: ConfigFile = None, assignments: Assignments = None) -> None:
    """Let the agents write seeds until the library holds as many as asked for."""
    options = {"theme": theme, "author": {"count": count, "deepen": deepen, "language": language}}
    with writing_run(ctx, run, profile, config, options, assignments) as (opened, settings, _, watch):
        from rostok.night import author_stage

        if not yes:
            _ask_if_long(opened, settings)
        author_stage(opened, settings, watch)
        watch.close()
        _show_measures(opened, settings)


def _ask_if_long(run: Run, settings: Settings) -> None:
    """Tell how long very many seeds will take, and ask; where nobody can be asked, refuse."""
    from rostok.seeds.library import Library

    missing = settings.author.count - len(Library(run.seeds).seeds())
    if missing <= _MANY:
        return
    from rostok.estimate.seeds import seconds_of_seeds

    seconds = seconds_of_seeds(missing, settings)
    time = "a time that was not measured" if seconds is None else f"about {seconds / 3600:,.1f} hours"
    told = f"{missing:,} seeds will take {time} on this machine"
    if not sys.stdin.isatty():
        raise RunError(f"{told}. Ask for fewer with --count, or add --yes.")
    if not typer.confirm(f"{told}. Go on?"):
        raise RunError("nothing was written. Ask for fewer with --count.")


@seeds_app.command("graph", epilog="Example: rostok seeds graph > author.mmd")
def graph() -> None:
    """Print the agents' graph as a Mermaid diagram."""
    prepare_process()
    from rostok.agents.graph import mermaid

    typer.echo(mermaid().rstrip())


@seeds_app.command("mutate", epilog="Example: rostok seeds mutate runs/demo s-d69b --goal novelty")
def mutate(ctx: typer.Context, run: RunFolder, seed: SeedName, goal: GoalOption = None, candidates: Candidates = 8,
           count: Times = 1, random_seed: RandomSeed = None, by_code: ByCode = False) -> None:
    """Draw about half of a seed's transitions anew, and leave out a node or two."""
    _evolve(ctx, run, "mutate", [seed], goal, candidates, count, random_seed, by_code)


@seeds_app.command("cross", epilog="Example: rostok seeds cross runs/demo s-d69b s-71f0")
def cross(ctx: typer.Context, run: RunFolder, first: First, second: Second, goal: GoalOption = None,
          candidates: Candidates = 8, count: Times = 1, random_seed: RandomSeed = None, by_code: ByCode = False) -> None:
    """Bring half of one seed and half of another together."""
    _evolve(ctx, run, "cross", [first, second], goal, candidates, count, random_seed, by_code)


@seeds_app.command("split", epilog="Example: rostok seeds split runs/demo s-d69b")
def split(ctx: typer.Context, run: RunFolder, seed: SeedName, goal: GoalOption = None, candidates: Candidates = 8,
          count: Times = 1, random_seed: RandomSeed = None, by_code: ByCode = False) -> None:
    """Cut a seed of eleven nodes or more into two."""
    _evolve(ctx, run, "split", [seed], goal, candidates, count, random_seed, by_code)


@seeds_app.command("splice", epilog="Example: rostok seeds splice runs/demo s-d69b s-71f0 --goal tension")
def splice(ctx: typer.Context, run: RunFolder, first: First, second: Second, goal: GoalOption = None,
           candidates: Candidates = 8, count: Times = 1, random_seed: RandomSeed = None, by_code: ByCode = False) -> None:
    """Set a run of the second seed into the first."""
    _evolve(ctx, run, "splice", [first, second], goal, candidates, count, random_seed, by_code)


def _evolve(ctx: typer.Context, folder: Path, operator: str, names: Sequence[str], goal: _Goal | None, candidates: int,
            count: int, random_seed: int | None, by_code: bool) -> None:
    from rostok.records import stable_seed
    from rostok.seeds import evolve
    from rostok.seeds.measures import write_manifest

    run, library = _opened(ctx, folder)
    settings = _settings(run)
    with run.held(command_line()), ExitStack() as stack:
        library.recover()
        parents = [library.find(name) for name in names]
        prepare_process(settings)
        embedder = _embedder(settings)
        reword: evolve.Reword | None = None
        dice = random_seed if random_seed is not None else stable_seed(settings.random_seed, len(library.seeds()))
        if not by_code:
            from rostok.engines.open import open_engine
            from rostok.models import find_base
            from rostok.seeds.reword import EngineReword

            base = find_base(settings.models.base)
            reword = EngineReword(stack.enter_context(open_engine(base, settings.models)), base.sha256, dice)
        for number in range(count):
            conditions = evolve.Conditions(
                embedder, tuple(library.seeds()), random_seed=dice if number == 0 else stable_seed(dice, number),
                place=library.next_place(), goal=goal.value if goal else None, candidates=candidates, reword=reword)
            born = getattr(evolve, operator)(*parents, conditions)
            for child in born if isinstance(born, tuple) else (born,):
                library.admit(child)
                typer.echo(f"{child.id}  {child.title}\n{child.glyphs}\n{child.formula}")
        write_manifest(library, embedder)


# ── looking at the library ──────────────────────────────────────────────────────────────────────────────────────


@seeds_app.command("list", epilog="Example: rostok seeds list runs/demo")
def list_(ctx: typer.Context, run: RunFolder) -> None:
    """One line for every seed: id, nodes, transitions, mean tension, language, title, parents."""
    for seed in _opened(ctx, run)[1].seeds():
        tension = sum(step.tension for step in seed.transitions) / len(seed.transitions)
        parents = f"  ({seed.lineage.operator} of {', '.join(seed.lineage.parents)})" if seed.lineage.operator else ""
        typer.echo(f"{seed.id}  {len(seed.nodes):>2} nodes  {len(seed.transitions):>2} steps  tension {tension:.2f}  "
                   f"{seed.language}  {seed.title}{parents}")


@seeds_app.command("show", epilog="Example: rostok seeds show runs/demo s-d69b")
def show(ctx: typer.Context, run: RunFolder, seed: SeedName,
         json_: Annotated[bool, typer.Option("--json", help="Print the whole record as JSON instead.")] = False) -> None:
    """A seed to read: scene, things, the path in its order, clashes, formula, where it comes from."""
    found = _opened(ctx, run)[1].find(seed)
    if json_:
        typer.echo(found.model_dump_json(indent=1))
    else:
        _print_seed(found)


@seeds_app.command("map", epilog="Example: rostok seeds map runs/demo --svg map.svg")
def map_(ctx: typer.Context, run: RunFolder,
         svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the picture to this file.")] = None) -> None:
    """A picture of the library: seeds that say alike things lie close together."""
    from rostok.records import write_atomic
    from rostok.seeds import map as picture

    opened, library = _opened(ctx, run)
    seeds, settings = library.seeds(), _settings(opened)
    prepare_process(settings)
    where = picture.positions(seeds, _embedder(settings))
    if svg is None:
        typer.echo(picture.terminal(seeds, where, width=max(40, min(110, open_console().width - 2))))
    else:
        write_atomic(svg, picture.svg(seeds, where))
        typer.echo(svg)


@seeds_app.command("measure", epilog="Example: rostok seeds measure runs/demo")
def measure(ctx: typer.Context, run: RunFolder) -> None:
    """How many different thoughts the library holds, and what it cost to write them; kept in seeds/manifest.json."""
    opened, _ = _opened(ctx, run)
    settings = _settings(opened)
    with opened.held(command_line()):
        prepare_process(settings)
        _show_measures(opened, settings)


@seeds_app.command("lint", epilog="Example: rostok seeds lint runs/demo --fix")
def lint(ctx: typer.Context, run: RunFolder,
         fix: Annotated[bool, typer.Option("--fix", help="Rewrite id, formula, delta and glyphs where the content was edited.")]
         = False) -> None:
    """Every problem of the library, with its line; exit code 2 when there is any."""
    from rostok.seeds import lint as linter

    opened, library = _opened(ctx, run)
    if fix:
        with opened.held(command_line()):
            for line, before, after in linter.fix(library.path):
                typer.echo(f"{library.path}, line {line}: rewritten; {before or 'the seed'} is {after} now")
    problems = linter.lint(library.path)
    for problem in problems:
        typer.echo(f"{library.path}, line {problem.line}: {problem.text}")
    if problems:
        fixable = sum(problem.fixable for problem in problems)
        advice = (f"{fixable} of them go away with: rostok seeds lint {run} --fix" if fixable
                  else "mend or remove those lines by hand, then lint again")
        many = "problems" if len(problems) > 1 else "problem"
        raise DataError(f"{len(problems)} {many} in {library.path}, named above; {advice}.")


@seeds_app.command("diff", epilog="Example: rostok seeds diff runs/demo s-d69b s-71f0")
def diff(ctx: typer.Context, run: RunFolder,
         first: Annotated[str, typer.Argument(metavar="OTHER", help="Another run to compare with, or a seed of this run.")],
         second: Annotated[str | None, typer.Argument(metavar="SEED", help="A second seed of this run.")] = None) -> None:
    """What differs between two seeds of a run, or between the libraries of two runs."""
    from rostok.seeds.difference import between_libraries, between_seeds

    library = _opened(ctx, run)[1]
    if second is not None:
        found = between_seeds(library.find(first), library.find(second))
    else:
        found = between_libraries(library.seeds(), _opened(ctx, Path(first))[1].seeds())
    for line in found:
        typer.echo(line)
    if not found:
        typer.echo("no difference")


# ── carrying seeds elsewhere ────────────────────────────────────────────────────────────────────────────────────


@seeds_app.command("export", epilog="Example: rostok seeds export runs/demo my-seeds --format hf")
def export(ctx: typer.Context, run: RunFolder,
           to: Annotated[Path, typer.Argument(metavar="TO", help="The file to write; with --format hf the folder.")],
           format_: Annotated[_Format, typer.Option("--format", help="Lines of JSON, or a Hugging Face dataset with a card.")]
           = _Format.jsonl) -> None:
    """Write the library to a JSONL file, or to a dataset folder."""
    from rostok.seeds.exchange import export_hf, export_jsonl

    seeds = _opened(ctx, run)[1].seeds()
    if format_ is _Format.hf:
        export_hf(seeds, to)
    else:
        export_jsonl(seeds, to)
    typer.echo(f"{len(seeds)} seeds in {to}")


@seeds_app.command("import", epilog="Example: rostok seeds import runs/mine my-seeds.jsonl")
def import_(ctx: typer.Context, run: RunFolder,
            source: Annotated[Path, typer.Argument(metavar="FROM",
                                                   help="A JSONL file, a dataset folder, or another run.")]) -> None:
    """Add seeds to the library. What is no valid seed is named by file and line; the others are kept."""
    from rostok.runs import Run
    from rostok.seeds.exchange import import_seeds
    from rostok.seeds.library import Library

    ctx.obj.folder = run
    if not source.exists():
        raise DataError(f"there is no {source} to import from. Check the path.")
    opened = Run(run)
    with opened.held(command_line()):
        done = import_seeds(Library(opened.seeds), source)
    for reason in done.refused:
        typer.echo(reason)
    known = f", {done.known} were there already" if done.known else ""
    typer.echo(f"{len(done.kept)} seeds added to {opened.seeds / 'library.jsonl'}{known}")
    if done.refused:
        many = "lines" if len(done.refused) > 1 else "line"
        raise DataError(f"{len(done.refused)} {many} of {source} could not be imported, named above; mend them and import "
                        "again, what was added stays.")


# ── what they share ─────────────────────────────────────────────────────────────────────────────────────────────


def _opened(ctx: typer.Context, folder: Path) -> tuple[Run, Library]:
    from rostok.runs import Run
    from rostok.seeds.library import Library

    ctx.obj.folder = folder
    run = Run(folder)
    library = Library(run.seeds)
    if not library.path.exists():
        raise RunError(f'{folder} has no seeds yet. Run: rostok seeds author {folder} --theme "…"')
    return run, library


def _settings(run: Run) -> Settings:
    """Those of the run; a folder that only holds imported seeds has none, and takes the defaults."""
    from rostok.config import resolve

    return run.read().settings if run.exists() else resolve()


def _embedder(settings: Settings) -> Any:
    from rostok.embedder import Embedder
    from rostok.models import find_embedder

    return Embedder(find_embedder(settings.models.embedder))


def _show_measures(run: Run, settings: Settings) -> None:
    """The table of the measures, measured anew where the library has changed since. Call with the lock held."""
    from rostok.seeds.library import Library
    from rostok.seeds.measures import read_manifest, table, write_manifest

    library = Library(run.seeds)
    open_console().print(table(read_manifest(library) or write_manifest(library, _embedder(settings))))


def _print_seed(seed: Seed) -> None:
    import textwrap

    def block(text: str, indent: str = "") -> str:
        return textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=" " * len(indent))

    typer.echo(f"{seed.title}\n{seed.glyphs}\n\n{block(seed.scene)}\n")
    for node in seed.nodes:
        mark = "!" if node.key == seed.release else " "
        typer.echo(block(f"{node.name}: {node.gloss}", f"  {node.key}{mark} "))
    typer.echo("")
    for change, step in zip(seed.delta, seed.walk(), strict=True):
        typer.echo(f"  {change}\n{block(step.sentence, '      ')}")
    typer.echo("")
    for clash in seed.contradictions:
        typer.echo(block(clash.sentence, f"  {clash.a} # {clash.b}  "))
    typer.echo(f"\n{block(seed.formula)}\n\n{seed.id}  {seed.language}  {', '.join(seed.registers)}")
    lineage = seed.lineage
    typer.echo(f"theme: {lineage.theme}; place {lineage.place}, Rostok {lineage.rostok}, model {lineage.model[:12]}")
    if lineage.operator:
        composed = ", ".join(lineage.composed) or "nothing"
        typer.echo(f"{lineage.operator} of {', '.join(lineage.parents)}; composed by code: {composed}")
