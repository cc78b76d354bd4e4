"""`rostok chat RUN`: talk with the ensemble in a terminal, or ask one question from a pipe.

Before the first word stands who answers and how near the question lies to it; after the last, what was remembered.
"""

from __future__ import annotations

import secrets
import time
from contextlib import ExitStack, nullcontext

from rich.console import Console

from rostok.config import Settings
from rostok.ensemble.answer import Answer
from rostok.ensemble.conversation import Ensemble, open_ensemble
from rostok.ensemble.prompt import visible
from rostok.ensemble.router import Route
from rostok.errors import ModelError
from rostok.runs import Run

_HELP = """Ask anything. The expert whose thought is nearest answers; where none is near, the base does.
  /experts  who can answer
  /why      why the last answer came from whom it came
  /help     this text
  /quit     leave (or end of file); Ctrl-C stops an answer"""


def chat(run: Run, settings: Settings, question: str | None, console: Console, thread: str | None = None,
         pin: str | None = None) -> None:
    """Answer one question, or talk until the end of the input. Call with the run held.

    Args:
        thread: name of the conversation to go on with; None begins a new one.
        pin: who answers, whatever the router says; see `Ensemble.ask`.

    Raises:
        RostokError: as `open_ensemble` and `Ensemble.ask`.
    """
    if question is not None and not question.strip():
        _say(console, "The question is empty. Ask something, for example: rostok chat RUN \"what is a tide?\"")
        return
    with ExitStack() as stack:
        with console.status("waking the experts") if console.is_terminal else nullcontext():
            ensemble = stack.enter_context(open_ensemble(run, settings))
        for sentence in ensemble.skipped:
            _say(console, f"Note: {sentence}", style="yellow")
        ensemble.check_pin(pin)
        talk = _Talk(ensemble, console, thread or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}", pin)
        if question is not None:
            talk.answer(question)
        else:
            talk.loop()


class _Talk:
    """One conversation at one console."""

    def __init__(self, ensemble: Ensemble, console: Console, thread: str, pin: str | None = None) -> None:
        self.ensemble, self.console, self.thread, self.pin = ensemble, console, thread, pin
        self.route: Route | None = None

    def loop(self) -> None:
        """Read and answer until /quit or the end of the input."""
        count = len(self.ensemble.experts)
        who = f"{count} expert{'s' if count != 1 else ''}"
        _say(self.console, f"{who} and the base listen; /help says more.", style="dim")
        commands = {"/help": self.help, "/experts": self.experts, "/why": self.why}
        while True:
            try:
                line = visible(input("> ")).strip()
            except EOFError:
                _say(self.console, "")
                return
            except KeyboardInterrupt:
                _say(self.console, "\n/quit leaves.", style="dim")
                continue
            if line == "/quit":
                return
            if line in commands:
                commands[line]()
            elif line.startswith("/"):
                _say(self.console, f"There is no command {line.split()[0]}. /help names them all.")
            elif line:
                try:
                    self.answer(line)
                except KeyboardInterrupt:
                    _say(self.console, "\n(stopped; this turn is not remembered)", style="dim")
                except ModelError as error:  # such as a question longer than the context: the talk goes on
                    _say(self.console, f"{error}", style="red")
            else:
                _say(self.console, "Ask something, or /quit.", style="dim")

    def answer(self, question: str) -> None:
        """Stream one answer between the line of who speaks and the lines of what was read."""
        answer = self.ensemble.ask(question, self.thread, self._on_text, self._on_route, self.pin)
        _say(self.console, "")
        self._after(answer)

    def help(self) -> None:
        """What can be typed."""
        _say(self.console, _HELP)

    def experts(self) -> None:
        """Everybody who can answer, and who cannot."""
        for seed, expert in self.ensemble.experts.items():
            _say(self.console, f"  {self.ensemble.title(seed)}  ({expert.id}, seed {seed})")
        _say(self.console, "  base  (answers what is near to none of them)")
        for sentence in self.ensemble.skipped:
            _say(self.console, f"  {sentence}", style="yellow")

    def why(self) -> None:
        """The evidence of the last route."""
        if self.route is None:
            _say(self.console, "Nothing was asked yet.")
            return
        _say(self.console, f"{self.ensemble.title(self.route.seed)}: nearest text {self.route.score:.2f}, "
                           f"experts speak from {self.route.threshold:.2f} on.")
        for seed, weight in list(self.route.scores.items())[:5]:
            _say(self.console, f"  {weight:.0%} of the votes: {self.ensemble.title(seed)}")
        for one in self.route.neighbours[:5]:
            whose = self.ensemble.title(one.seed)
            _say(self.console, f"  {one.similarity:.2f}  {whose}, {one.kind}: {one.label}", style="dim")

    def _on_route(self, route: Route) -> None:
        self.route = route
        served = route.seed if route.seed in self.ensemble.experts else None
        _say(self.console, f"[{self.ensemble.title(served)}  {route.score:.2f}]", style="bold cyan")

    def _on_text(self, piece: str) -> None:
        self.console.out(visible(piece), end="", highlight=False)

    def _after(self, answer: Answer) -> None:
        if answer.finish == "length":
            _say(self.console, "(cut: an answer ends here at the latest)", style="dim")
        if answer.note:
            _say(self.console, f"Note: {answer.note}.", style="yellow")
        for memory in answer.memories:
            beginning = " ".join(memory.text.split())
            shown = beginning if len(beginning) <= 70 else beginning[:69] + "…"
            _say(self.console, f"remembered {memory.similarity:.2f}  {memory.source}: {shown}", style="dim")


def _say(console: Console, text: str, style: str | None = None) -> None:
    """A line as it is: nothing in it is markup, and nothing in it moves the cursor."""
    console.out(visible(text), style=style, highlight=False)
