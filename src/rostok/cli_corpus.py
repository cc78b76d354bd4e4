"""The commands of `rostok corpus`: plan and build corpora, look at them, compare them, carry them elsewhere."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rostok.cli_run import Assignments, ConfigFile, Profile, RunFolder, open_console, prepare_process, writing_run
from rostok.errors import DataError, RunError

if TYPE_CHECKING:
    from rostok.generator.records import Page
    from rostok.runs import Run
    from rostok.seeds.record import Seed

corpus_app = typer.Typer(no_args_is_help=True, help="Grow corpora from the seeds, look at them, carry them elsewhere.")


class _Format(StrEnum):
    jsonl = "jsonl"
    parquet = "parquet"
    hf = "hf"


Pages = Annotated[int | None, typer.Option(help="Pages of one corpus.")]
AnySeed = Annotated[str | None, typer.Argument(metavar="[SEED]", help="A seed's id, or its beginning; without it all of them.")]
SeedName = Annotated[str, typer.Argument(metavar="SEED", help="A seed's id, or its beginning.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead.")]


# ── building ────────────────────────────────────────────────────────────────────────────────────────────────────


@corpus_app.command("plan", epilog="Example: rostok corpus plan runs/demo s-d69b --pages 1000")
def plan_(ctx: typer.Context, run: RunFolder, seed: AnySeed = None, pages: Pages = None, config: ConfigFile = None,
          examples: Annotated[int, typer.Option(min=0, help="Plan lines shown of every branch.")] = 3,
          json_: Annotated[bool, typer.Option("--json", help="Print the plan's lines as JSON instead, each with the id of its "
                                              "seed.")] = False,
          assignments: Assignments = None) -> None:
    """Show as a tree which pages a corpus would have. Nothing is written."""
    import json

    from rostok.config import resolve
    from rostok.generator.plan import plan
    from rostok.generator.tree import tree

    opened = _opened(ctx, run)
    saved = opened.read().settings.model_dump(mode="json") if opened.exists() else None
    settings = resolve(file=config, saved=saved, options={"corpus": {"pages": pages}}, assignments=assignments or ())
    for found in _seeds(opened, seed):
        specs = plan(found, settings.corpus, settings.random_seed)
        if json_:
            named = found.id
            lines = ({"seed": named, **spec.model_dump(mode="json")} for spec in specs)
            typer.echo("\n".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")) for line in lines))
        else:
            open_console().print(tree(found, specs, examples=examples, whole=seed is not None))


@corpus_app.command("build", epilog="Example: rostok corpus build runs/demo --pages 300")
def build(ctx: typer.Context, run: RunFolder, pages: Pages = None, profile: Profile = None,
          config: ConfigFile = None, assignments: Assignments = None) -> None:
    """Plan, write and check the pages of every seed in the library."""
    options = {"corpus": {"pages": pages}}
    with writing_run(ctx, run, profile, config, options, assignments) as (opened, settings, _, watch):
        from rostok.night import corpus_stage

        corpus_stage(opened, settings, watch)


# ── looking at corpora ──────────────────────────────────────────────────────────────────────────────────────────


@corpus_app.command("show", epilog="Example: rostok corpus show runs/demo s-d69b --kind dialogue")
def show(ctx: typer.Context, run: RunFolder, seed: SeedName,
         page: Annotated[int | None, typer.Argument(metavar="[PAGE]", help="Number of a page's line in the plan.")] = None,
         kind: Annotated[str | None, typer.Option(help="Only pages of this kind.")] = None,
         count: Annotated[int, typer.Option(min=1, help="So many pages.")] = 3,
         rejected: Annotated[bool, typer.Option("--rejected", help="Refused pages, with the reason.")] = False,
         json_: Json = False) -> None:
    """Pages to read, with where they come from; also of a corpus that is still being written."""
    from rostok.generator.folder import kept_lines, left_out
    from rostok.generator.records import KINDS, Page, Reject

    if kind is not None and kind not in KINDS:
        raise DataError(f"there is no kind '{kind}' of pages. Known: {', '.join(KINDS)}.")
    folder = _folder(_opened(ctx, run), seed)
    name = "rejects.jsonl" if rejected else "pages.jsonl"
    lines: list[Page | Reject] = []
    if rejected:
        rejects, broken = kept_lines(folder / name, Reject)
        lines.extend(rejects)
    else:
        pages, broken = kept_lines(folder / name, Page)
        lines.extend(pages)
    if broken:
        typer.echo(left_out(folder, {name: broken}), err=True)
    found = [line for line in lines if kind in (None, line.kind) and page in (None, line.spec)]
    if not found:
        what = f"page {page}" if page is not None else f"{kind or ''} page".strip()
        raise DataError(f"there is no {'refused' if rejected else 'accepted'} {what} in {folder}. "
                        f"What lies there is told by: rostok corpus stats {run}")
    for line in found[:count]:
        if json_:
            typer.echo(line.line())
        elif isinstance(line, Page):
            typer.echo(f"── {_told(line)}\n{line.text}\n")
        else:
            why = f"{line.reason} ({line.detail})" if line.detail else line.reason
            typer.echo(f"── page {line.spec}, {line.kind}, attempt {line.attempt + 1}: {why}\n{line.text}\n")


@corpus_app.command("stats", epilog="Example: rostok corpus stats runs/demo")
def stats(ctx: typer.Context, run: RunFolder, seed: AnySeed = None, json_: Json = False) -> None:
    """How many pages of which kind, what was refused and why, and how evenly the seed's steps are told."""
    from rich.text import Text

    from rostok.generator.folder import left_out
    from rostok.generator.stats import stats as figures
    from rostok.generator.stats import table

    opened = _opened(ctx, run)
    known = {found.id: found for found in _seeds(opened, None)}
    folders = _folders(opened, seed)
    rows = [figures(folder, known.get(folder.name)) for folder in folders]
    if json_:
        for row in rows:
            typer.echo(row.line())
    else:
        console = open_console()
        console.print(table(rows))
        for folder, row in zip(folders, rows, strict=True):
            if row.broken:
                console.print(Text(left_out(folder, row.broken)), soft_wrap=True)  # so that its command can be copied


@corpus_app.command("diff", epilog="Example: rostok corpus diff runs/demo runs/again")
def diff(ctx: typer.Context, run: RunFolder,
         other: Annotated[Path, typer.Argument(metavar="OTHER", help="The run to compare with.")], seed: AnySeed = None) -> None:
    """In what the corpora of two runs differ: settings, plan, bank, pages."""
    from rostok.generator.stats import differences

    one, two = _opened(ctx, run), _opened(ctx, other)
    ours = {folder.name: folder for folder in _folders(one, seed)}
    theirs = {folder.name: folder for folder in _folders(two, seed)}
    lines = [f"{name}: only in {run}" for name in ours if name not in theirs]
    lines += [f"{name}: only in {other}" for name in theirs if name not in ours]
    for name in ours:
        if name in theirs:
            lines += [f"{name}: {line}" for line in differences(ours[name], theirs[name])]
    typer.echo("\n".join(lines) or "no difference")


# ── carrying corpora elsewhere ──────────────────────────────────────────────────────────────────────────────────


@corpus_app.command("export", epilog="Example: rostok corpus export runs/demo my-pages --format hf")
def export(ctx: typer.Context, run: RunFolder,
           to: Annotated[Path, typer.Argument(metavar="TO", help="The file to write; with --format hf the folder.")],
           seed: AnySeed = None,
           format_: Annotated[_Format, typer.Option("--format", help="Lines of JSON, Parquet, or a Hugging Face dataset.")]
           = _Format.jsonl) -> None:
    """Write the pages of finished corpora to a file, or to a dataset folder."""
    from rostok.generator import exchange

    opened = _opened(ctx, run)
    folders = _folders(opened, seed)
    if format_ is _Format.hf:
        titles = {found.id: found.title for found in _seeds(opened, None)}
        pages = exchange.export_hf(folders, titles, to)
    else:
        pages = (exchange.export_parquet if format_ is _Format.parquet else exchange.export_jsonl)(folders, to)
    typer.echo(f"{pages} pages of {len(folders)} corpora in {to}")


# ── what they share ─────────────────────────────────────────────────────────────────────────────────────────────


def _opened(ctx: typer.Context, folder: Path) -> Run:
    from rostok.runs import Run

    if ctx.obj.folder is None:
        ctx.obj.folder = folder
    prepare_process()
    return Run(folder)


def _seeds(run: Run, name: str | None) -> list[Seed]:
    from rostok.seeds.library import Library

    library = Library(run.seeds)
    seeds = library.seeds()
    if not seeds:
        raise RunError(f'{run.folder} has no seeds yet. Run: rostok seeds author {run.folder} --theme "…"')
    return seeds if name is None else [library.find(name)]


def _folders(run: Run, name: str | None) -> list[Path]:
    """The corpus folders of a run in the order of the library, or the one that is named; those of edited seeds come last."""
    if name is not None:
        return [_folder(run, name)]
    order = {seed.id: place for place, seed in enumerate(_seeds(run, None))}
    found = [path.parent for path in run.corpora.glob("*/origin.json")]
    if not found:
        raise RunError(f"{run.folder} has no corpora yet. Run: rostok corpus build {run.folder}")
    return sorted(found, key=lambda path: (order.get(path.name, len(order)), path.name))


def _folder(run: Run, name: str) -> Path:
    found = [path for path in _folders(run, None) if path.name.startswith(name)]
    if len(found) != 1:
        raise DataError(f"{'no corpus' if not found else 'more than one corpus'} '{name}' in {run.corpora}. There are: "
                        f"{', '.join(path.name for path in _folders(run, None))}.")
    return found[0]


def _told(page: Page) -> str:
    parts = [f"page {page.spec}", page.kind, *(part for part in (page.register_, page.form) if part), f"by {page.author}"]
    if page.source is not None:
        parts.append(f"rewritten from page {page.source}")
    if page.attempt:
        parts.append(f"attempt {page.attempt + 1}")
    if page.sampled is not None:
        parts.append(f"{page.sampled.engine}, model {page.sampled.model[:12]}, prompt {page.sampled.prompt_sha256[:12]}")
    return ", ".join([*parts, "held out"] if page.held_out else parts)
