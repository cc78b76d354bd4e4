"""`rostok route RUN "…"`: where a question would go, by every strategy, and why."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from rostok.cli_run import RunFolder, open_console, prepare_process
from rostok.errors import ModelError, RunError

if TYPE_CHECKING:
    from rich.console import Console

    from rostok.config import Settings, StrategyName
    from rostok.ensemble.routing.router import Route
    from rostok.runs import Run

_SHOWN = 6  # seeds in the table, of those that the run's own strategy puts first


def route(ctx: typer.Context, run: RunFolder,
          question: Annotated[str, typer.Argument(help="What somebody might ask.")],
          strategy: Annotated[list[str] | None, typer.Option(help="Only this one; may be given again. Without it all.")] = None,
          json_: Annotated[bool, typer.Option("--json", help="Print scores, thresholds and neighbours.")] = False) -> None:
    """Which expert would answer a question, or the base, by every strategy: the scores, and how sure each must be."""
    from rostok.runs import Run

    ctx.obj.folder = run
    opened = Run(run)
    settings = opened.read().settings
    prepare_process(settings)
    if not question.strip():
        raise RunError('the question is empty. Ask something, for example: rostok route RUN "what is a tide?"')
    ctx.obj.unsaid = (question,)  # people's words belong where they can be forgotten, and not into lock or log
    console, command = open_console(), f"rostok route {run}"
    names = _names(strategy, settings)
    from rostok.ensemble.talker import server_of

    with server_of(opened) as server:
        if server is not None:  # which has loaded one strategy: its own
            started = time.perf_counter()
            decided = server.route(question.strip())
            found: Found = {settings.router.strategy: (decided, (time.perf_counter() - started) * 1000)}
            titles = {name: server.title(name) for name in decided.scores}
            notes = ["a server holds the run, so only its own strategy is asked"]
        else:
            with opened.held(command):
                found, titles, notes = _routed(opened, settings, question.strip(), names, console)
    if json_:
        typer.echo(json.dumps(_plain(question, found, titles, notes, settings), ensure_ascii=False, indent=1))
    else:
        _show(found, titles, notes, settings, console)


Found = dict["StrategyName", tuple["Route", float]]  # with the milliseconds that the scores took


def _names(wanted: list[str] | None, settings: Settings) -> list[StrategyName]:
    """The strategies asked for, the run's own one first."""
    from rostok.config import StrategyName

    known: tuple[StrategyName, ...] = get_args(StrategyName)
    for name in wanted or ():
        if name not in known:
            raise RunError(f"there is no strategy '{name}'. Known: {', '.join(known)}.")
    chosen = [name for name in known if not wanted or name in wanted]
    return sorted(chosen, key=lambda name: name != settings.router.strategy)


def _routed(run: Run, settings: Settings, question: str, names: list[StrategyName],
            console: Console) -> tuple[Found, dict[str, str], list[str]]:
    """The routes by strategy, the seeds' titles, and a sentence for every strategy that cannot be asked."""
    from contextlib import nullcontext

    from rostok.embedder import Embedder
    from rostok.ensemble.recall.index import index
    from rostok.ensemble.recall.memory import Memory
    from rostok.ensemble.routing.calibrate import calibrated
    from rostok.ensemble.routing.router import Router
    from rostok.ensemble.routing.strategies import Material, open_strategy
    from rostok.models import find_embedder
    from rostok.seeds.library import Library

    seeds = Library(run.seeds).seeds()
    if not seeds:
        raise RunError(f'{run.folder} has no seeds yet. Run: rostok seeds author {run.folder} --theme "…"')
    embedder = Embedder(find_embedder(settings.models.embedder))
    found: Found = {}
    notes: list[str] = []
    with console.status("reading the run") if console.is_terminal else nullcontext():
        index(run, seeds, embedder)
        with Memory(run.memory, embedder) as memory:
            material = Material(run, settings, memory, seeds)
            for name in names:
                try:
                    router = calibrated(Router(memory, settings.router, 0.0, open_strategy(name, material)), material)
                except (RunError, ModelError) as error:  # Arrow without experts, or whose base or adapters cannot be read
                    notes.append(f"{name} is not available: {error}")
                    continue
                asked = router.read([question])[0]
                started = time.perf_counter()
                decided = router.decide(asked)
                found[name] = (decided, (time.perf_counter() - started) * 1000)
    if not found:
        raise RunError(" ".join(notes))
    return found, {seed.id: seed.title for seed in seeds}, notes


def _plain(question: str, found: Found, titles: dict[str, str], notes: list[str], settings: Settings) -> dict[str, Any]:
    own = found.get(settings.router.strategy, next(iter(found.values())))[0]
    return {
        "question": question, "strategy": own.strategy, "seed": own.seed, "title": titles.get(own.seed or "", "base"),
        "strategies": {name: {"seed": one.seed, "score": one.score, "threshold": one.threshold, "milliseconds": round(took, 3),
                              "scores": one.scores} for name, (one, took) in found.items()},
        "neighbours": [one.model_dump(mode="json") for one in own.neighbours], "notes": notes}


def _show(found: Found, titles: dict[str, str], notes: list[str], settings: Settings, console: Console) -> None:
    from rich.table import Table
    from rich.text import Text

    from rostok.ensemble.prompt import visible

    titles = {seed: visible(title) for seed, title in titles.items()}
    own = found.get(settings.router.strategy, next(iter(found.values())))[0]
    best = list(dict.fromkeys([*list(own.scores)[:_SHOWN], *(next(iter(one.scores), "") for one, _ in found.values())]))
    table = Table("", *found, box=None, pad_edge=False)
    for seed in filter(None, best):
        table.add_row(Text(titles.get(seed, seed), overflow="ellipsis", no_wrap=True),
                      *(_weight(one, seed) for one, _ in found.values()))
    table.add_section()
    table.add_row("how sure", *(f"{one.score:.2f}" for one, _ in found.values()))
    table.add_row("must be", *(f"{one.threshold:.2f}" for one, _ in found.values()))
    table.add_row("milliseconds", *(f"{took:.1f}" for _, took in found.values()))
    table.add_row("answers", *("expert" if one.seed is not None else "base" for one, _ in found.values()))
    console.print(table)
    for one in own.neighbours[:3]:
        console.print(Text(f"  {one.similarity:.2f}  {titles.get(one.seed, one.seed)}, {one.kind}: {visible(one.label)}", "dim"))
    for note in notes:
        console.print(Text(f"Note: {visible(note)}", "yellow"))
    console.print(Text(f"→ {titles.get(own.seed, own.seed) if own.seed is not None else 'base'}", "bold"))


def _weight(route: Route, seed: str) -> str:
    """A seed's share of all the weights; `*` marks the seed that answers."""
    total = sum(route.scores.values())
    share = route.scores.get(seed, 0.0) / total if total else 0.0
    return f"{share:.0%}{'*' if route.seed == seed else ''}" if share >= 0.005 else "·"
