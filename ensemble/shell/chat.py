"""`rostok chat RUN`: talk with the ensemble in a terminal, or ask one question from a pipe.

Before the first word stands who answers and how near the question lies to it; after the last, what was read. A question
from a pipe has its answer alone on the standard output, and everything else on the standard error.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field

from rich.console import Console

from rostok.config import Settings
from rostok.ensemble.history.answer import BASE
from rostok.ensemble.history.archive import check_message
from rostok.ensemble.prompt import visible
from rostok.ensemble.routing.router import Route
from rostok.ensemble.shell.commands import Commands
from rostok.ensemble.shell.screen import Answering, Screen
from rostok.ensemble.shell.typing_in import Reader, open_reader
from rostok.ensemble.shell.wording import Wording
from rostok.ensemble.talk import Fleeting, Kept, Manner, Talk
from rostok.ensemble.talker import Talker, open_talker
from rostok.errors import ModelError, QuestionError, RunError
from rostok.runs import Run

_REMEMBERED_LINES = 200  # messages of earlier conversations that the arrow keys bring back
_REMEMBERED_TALKS = 20


@dataclass(frozen=True)
class Wish:
    """What the command line asks for.

    Attributes:
        question: one question; None is a conversation.
        thread: id of the conversation to go on with, "" for the last one, None for a new one.
        kept: whether the conversation is kept in the run.
    """

    question: str | None = None
    thread: str | None = None
    kept: bool = True
    manner: Manner = field(default_factory=Manner)
    language: str = "en"


def chat(run: Run, settings: Settings, wish: Wish, out: Console, side: Console) -> None:
    """Answer one question, or talk until the end of the input.

    Args:
        out: where a question's answer goes.
        side: where all else goes; in a conversation also the answers.

    Raises:
        QuestionError: the question is empty or far too long; no model was loaded for it.
        RostokError: as `open_talker` and `Ensemble.ask`.
    """
    say = Wording(wish.language)
    if wish.question is not None:
        check_message(wish.question)
    with ExitStack() as stack:
        with side.status(say("waking")) if side.is_terminal else nullcontext():
            talker = stack.enter_context(open_talker(run, settings, f"rostok chat {run.folder}"))
        screen = Screen(out, side, say)
        for sentence in talker.skipped:
            screen.line(say("note", text=sentence), style="yellow")
        talker.check_pin(wish.manner.pin)
        conversation = Conversation(talker, screen, _talk(talker, wish), wish.manner)
        if wish.question is not None:
            conversation.answer(wish.question)
        else:
            conversation.loop()


class Conversation:
    """A person, a screen, and whoever is talked to. `rostok.ensemble.shell.commands` does what begins with a slash."""

    def __init__(self, talker: Talker, screen: Screen, talk: Talk, manner: Manner, reader: Reader | None = None) -> None:
        self.talker, self.screen, self.talk, self.manner = talker, screen, talk, manner
        self.say = screen.say
        self.commands = Commands(self)
        self.reader = reader

    def loop(self) -> None:
        """Read and answer until /quit or the end of the input."""
        self._greet()
        if self.reader is None:
            self.reader = open_reader(self.commands.typed, self.commands.names, self._history())
        while True:
            try:
                message = visible(self.reader.read(self._prompt())).strip()
            except EOFError:
                self.screen.line()
                return
            except KeyboardInterrupt:
                self.screen.line("\n" + self.say("quit_leaves"), style="dim")
                continue
            if message == "/quit":
                return
            try:
                if not message:
                    self.screen.line(self.say("ask"), style="dim")
                elif message.startswith("/"):
                    self.commands.run(message)
                else:
                    self.answer(message, stoppable=True)
            except KeyboardInterrupt:
                self.screen.line("\n" + self.say("stopped_unkept"), style="dim")
            except (ModelError, QuestionError, RunError) as error:  # it costs this message only
                self.screen.line(str(error), style="red")

    def answer(self, question: str, *, again: bool = False, stoppable: bool = False) -> None:
        """Stream one answer between the line of who speaks and the lines of what was read.

        Args:
            again: replace the last answer.
            stoppable: whether Ctrl-C stops the answer and keeps what was said; else it ends the program.
        """
        with stopping() if stoppable else nullcontext() as stop:
            answering = self.screen.answering()
            try:
                answer = self.talk.ask(question, self.manner, answering.piece,
                                       lambda route: self._tell(route, answering), stop=stop, again=again)
            finally:
                answering.close()
        self.screen.after(answer, self.talk.kept, self.talker.title)

    def _tell(self, route: Route, answering: Answering) -> None:
        served = route.seed if route.seed in self.talker.experts else None
        self.screen.speaker(self.talker.title(served), served, route.score)
        answering.open()

    def _greet(self) -> None:
        count = len(self.talker.experts)
        self.screen.line(self.say("experts_one" if count == 1 else "experts_many", count=count), style="dim")
        if not self.talk.kept:
            self.screen.line(self.say("nothing_kept"), style="dim")
        said = self.talk.turns()
        if said:
            self.screen.line(self.say("goes_on", title=self.talk.transcript().title, turns=len(said)), style="dim")
            self.screen.line(f"> {said[-1].question}", style="dim")
            self.screen.line(f"[{said[-1].speaker}] {said[-1].text}", style="dim")

    def _prompt(self) -> str:
        pin = self.manner.pin
        return "> " if pin is None else f"[{BASE if pin == BASE else visible(self.talker.title(pin))}] > "

    def _history(self) -> list[str]:
        talks = list(self.talker.conversations.list())[:_REMEMBERED_TALKS]
        lines = [turn.question for talk in reversed(talks) for turn in self.talker.conversations.turns(talk.id)]
        return lines[-_REMEMBERED_LINES:]


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """An event that Ctrl-C sets; a second Ctrl-C ends what is inside."""
    stop = threading.Event()

    def on_interrupt(*_: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)


def _talk(talker: Talker, wish: Wish) -> Talk:
    if not wish.kept:
        return Fleeting(talker)
    if wish.thread is None:
        return Kept(talker)
    last = talker.conversations.last() if wish.thread == "" else talker.conversations.get(wish.thread)
    return Kept(talker, last.id if last is not None else None)
