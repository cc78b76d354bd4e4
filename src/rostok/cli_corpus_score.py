"""`rostok corpus score`: what any text is worth, in figures that need no model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rostok.cli_run import open_console

Texts = Annotated[list[Path], typer.Argument(
    metavar="FILE...", help="Text files, JSONL with one page a line, corpus folders, or runs.")]
_KNOWN = 0.7  # share of words below which the reference cannot say much


def score(files: Texts,
          whole: Annotated[bool, typer.Option("--whole", help="Measure each text as long as it is. Without it several are "
                                              "measured at the length of the shortest.")] = False,
          json_: Annotated[bool, typer.Option("--json", help="Print the figures as JSON instead.")] = False) -> None:
    """Score texts: associative density (ADPT) with its parts, redundancy, near-duplicates, effective pages."""
    from rostok.generator import score as scoring
    from rostok.generator.texts import read_texts

    texts = read_texts(files)
    found = scoring.score(texts, whole=whole)
    if json_:
        import json

        typer.echo(json.dumps([item.model_dump(mode="json") for item in found], ensure_ascii=False, indent=1))
        return
    from rich.text import Text

    console = open_console()
    for item in found:
        if item.dropped:
            console.print(Text(f"{item.name}: the last line was cut off; {item.dropped} bytes of it were left out."))
        if item.density.known < _KNOWN:
            console.print(Text(f"{item.name}: only {item.density.known:.0%} of its words are known to the reference, which is "
                               "English; ADPT says little about it."))
    console.print(scoring.table(found))
    console.print("ADPT: independent semantic fields active at once, per 1,000 tokens = fields × gate × new / 128 × 1,000. "
                  "docs/adpt.md explains every column.", style="dim")

