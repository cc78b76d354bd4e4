"""What a conversation looks like in a terminal: who speaks, words as they come, Markdown once they are whole.

Where the output is no terminal, there are only words. Nothing that a model or a page says can move the cursor, and nothing
in it is taken for rich's markup.
"""

from __future__ import annotations

import colorsys
import time
from collections.abc import Callable, Sequence

from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from rostok.ensemble.history.answer import Answer, hue
from rostok.ensemble.prompt import visible
from rostok.ensemble.shell.wording import Wording

_SECONDS = 0.04  # between two drawings of an answer in the making
_BEGINNING = 70  # characters of a remembered text that are shown


class Screen:
    """Two streams: `out` for answers, `side` for all else; in a conversation both are the same terminal."""

    def __init__(self, out: Console, side: Console, say: Wording) -> None:
        self.out, self.side, self.say = out, side, say

    def line(self, text: str = "", style: str | None = None) -> None:
        """A line beside the conversation, as it is."""
        self.side.out(visible(text), style=style, highlight=False)

    def speaker(self, title: str, seed: str | None, score: float) -> None:
        """Who is about to speak, in their colour."""
        self.line(f"[{title}  {score:.2f}]", style=f"bold {colour(seed)}" if seed else "bold")

    def after(self, answer: Answer, kept: bool, title: Callable[[str], str]) -> None:
        """What is to be known of an answer once it is whole; `title` is what people call a seed."""
        if answer.finish != "stop":
            self.line(self.say("cut" if answer.finish == "length" else "stopped" if kept else "stopped_unkept"), style="dim")
        if answer.note:
            self.line(self.say("note", text=f"{answer.note}."), style="yellow")
        for one in answer.memories:
            beginning = " ".join(one.text.split())
            shown = beginning if len(beginning) <= _BEGINNING else beginning[: _BEGINNING - 1] + "…"
            self.line(self.say("remembered", score=one.similarity, source=one.source, text=shown), style="dim")
        self.line(self.cost(answer, title), style="dim")

    def cost(self, answer: Answer, title: Callable[[str], str]) -> str:
        """What an answer has cost, and who spoke where that were several."""
        told = self.say("cost", prompt=answer.prompt_tokens, tokens=answer.tokens, seconds=answer.seconds)
        if len(answer.experts) > 1:
            told += self.say("spoke", titles=", ".join(title(seed) for seed in answer.experts))
        return told

    def columns(self, heads: Sequence[str], cells: Sequence[str]) -> None:
        """Texts side by side; one below the other where the terminal is narrow."""
        if self.side.width < 24 * len(heads):
            for head, cell in zip(heads, cells, strict=True):
                self.line(head, style="bold")
                self.line(cell)
            return
        table = Table(expand=True)
        for head in heads:
            table.add_column(Text(visible(head)), ratio=1)
        table.add_row(*(Text(visible(cell)) for cell in cells))
        self.side.print(table)

    def answering(self) -> Answering:
        """A place for the next answer."""
        return Answering(self.out)


class Answering:
    """An answer as it comes. `open` is called when it is known who speaks, `close` when the answer is to stay as it is."""

    def __init__(self, console: Console) -> None:
        self._console, self._text, self._drawn, self._opened = console, "", 0.0, False
        self._live = Live(console=console, auto_refresh=False, vertical_overflow="crop") if console.is_terminal else None

    def open(self) -> None:
        """Make room for the words; a second call, when somebody else speaks after all, changes nothing."""
        if self._live is not None and not self._opened:
            self._live.start()
        self._opened = True

    def piece(self, text: str) -> None:
        """The next words."""
        shown = visible(text) if self._text else visible(text).lstrip()
        self._text += shown
        if self._live is None:
            self._console.out(shown, end="", highlight=False)
            self._console.file.flush()
        elif time.monotonic() - self._drawn > _SECONDS:
            lines = Text(self._text).wrap(self._console, self._console.width)
            self._live.update(Text("\n").join(lines[-max(1, self._console.height - 2) :]), refresh=True)
            self._drawn = time.monotonic()

    def close(self) -> None:
        """The whole answer, as Markdown where there is a terminal."""
        if not self._opened:
            return
        if self._live is None:
            self._console.out("" if self._text.endswith("\n") else "\n", end="", highlight=False)
            return
        self._live.vertical_overflow = "visible"
        self._live.update(Prose(self._text.rstrip()), refresh=True)
        self._live.stop()


class Prose(Markdown):
    """A model's words as Markdown. Its lines stay lines, and addresses are shown, not turned into links."""

    def __init__(self, text: str) -> None:
        super().__init__(text, hyperlinks=False)
        for token in self.parsed:
            for child in token.children or ():
                if child.type == "softbreak":
                    child.type = "hardbreak"


def colour(seed: str | None) -> str:
    """The expert's colour for rich, the same as on the page; light enough for dark terminals, dark enough for light ones."""
    degrees = hue(seed)
    if degrees is None:
        return "default"
    red, green, blue = colorsys.hls_to_rgb(degrees / 360, 0.5, 0.6)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"
