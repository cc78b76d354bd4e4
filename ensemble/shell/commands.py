"""What begins with a slash in a conversation. The words of each are in `rostok.ensemble.shell.wording`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rostok.ensemble.history.answer import BASE, Answer
from rostok.ensemble.history.archive import check_message
from rostok.ensemble.shell.export import save
from rostok.ensemble.shell.screen import colour
from rostok.ensemble.talk import Fleeting, Kept

if TYPE_CHECKING:
    from rostok.ensemble.shell.chat import Conversation

_SHOWN = 5  # seeds and texts that /why tells of
_COMPARED = 2  # experts beside the base


class Commands:
    """The commands of one conversation.

    Attributes:
        typed: what can be typed, `/quit` too.
        names: {command: the names that may follow it}, for completion.
    """

    def __init__(self, conversation: Conversation) -> None:
        self._at = conversation
        self._does: dict[str, Callable[[str], None]] = {
            "/help": self.help, "/experts": self.experts, "/pin": self.pin, "/unpin": self.unpin, "/why": self.why,
            "/again": self.again, "/compare": self.compare, "/remember": self.remember, "/notes": self.notes,
            "/forget": self.forget, "/undo": self.undo, "/new": self.new, "/save": self.save}
        self.typed = [*self._does, "/quit"]
        self.names: dict[str, Callable[[], Sequence[str]]] = {
            "/pin": self._experts, "/forget": lambda: [note.id for note in self._at.talker.notes()]}

    def run(self, message: str) -> None:
        """Do what a message that begins with a slash says."""
        parts = message.split(maxsplit=1)
        name, rest = parts[0].casefold(), parts[1].strip() if len(parts) > 1 else ""
        if name in self._does:
            self._does[name](rest)
            return
        near = difflib.get_close_matches(name, self.typed, n=1)
        self._tell("no_command_near", name=parts[0], near=near[0]) if near else self._tell("no_command", name=parts[0])

    # ── who answers ─────────────────────────────────────────────────────────────────────────────────────────

    def help(self, _: str) -> None:
        """What can be typed."""
        say, screen = self._at.say, self._at.screen
        screen.line(say("help_lede"))
        width = max(map(len, say.commands)) + 2
        for typed, does in say.commands.items():
            screen.line(f"  {typed:<{width}}{does}")
        screen.line(say("help_lines"))

    def experts(self, _: str) -> None:
        """Everybody who can answer, and who cannot."""
        talker, screen = self._at.talker, self._at.screen
        for seed, expert in talker.experts.items():
            screen.line(f"  {talker.title(seed)}  ({expert.id}, {seed})", style=colour(seed))
        screen.line(f"  {self._at.say('base_answers')}")
        for sentence in talker.skipped:
            screen.line(f"  {sentence}", style="yellow")

    def pin(self, name: str) -> None:
        """One expert, or the base, from now on."""
        if not name:
            self._tell("pin_usage")
            return
        wanted = BASE if name.casefold() == BASE else name
        self._at.talker.check_pin(wanted)
        seed = next((seed for seed, expert in self._at.talker.experts.items()
                     if wanted != BASE and (self._at.talker.title(seed).casefold() == wanted.casefold()
                                            or seed.startswith(wanted) or expert.id.startswith(wanted))), BASE)
        self._at.manner = replace(self._at.manner, pin=seed)
        self._tell("pinned", title=seed if seed == BASE else self._at.talker.title(seed))

    def unpin(self, _: str) -> None:
        """The router again."""
        self._at.manner = replace(self._at.manner, pin=None)
        self._tell("unpinned")

    def why(self, _: str) -> None:
        """The evidence of the last answer."""
        turns = self._at.talk.turns()
        if not turns:
            self._tell("nothing_asked")
        elif turns[-1].answer is None:
            self._tell("why_unknown", title=turns[-1].speaker)
        else:
            self._because(turns[-1].answer)

    def _because(self, answer: Answer) -> None:
        title, route, screen = self._at.talker.title, answer.route, self._at.screen
        key = "why_pinned" if route.pinned else "why_base" if route.seed is None else "why_expert"
        self._tell(key, title=title(route.seed), score=route.score, threshold=route.threshold, strategy=route.strategy)
        for seed, weight in list(route.scores.items())[:_SHOWN]:
            screen.line(f"  {self._at.say('votes', share=weight, title=title(seed))}", style=colour(seed))
        for one in route.neighbours[:_SHOWN]:
            screen.line(f"  {one.similarity:.2f}  {title(one.seed)}, {one.kind}: {one.label}", style="dim")
        screen.line(f"  {screen.cost(answer, title)}", style="dim")

    # ── the last answer ─────────────────────────────────────────────────────────────────────────────────────

    def again(self, _: str) -> None:
        """Another answer to the last question."""
        if self._asked():
            self._at.answer("", again=True, stoppable=True)

    def compare(self, question: str) -> None:
        """The base and the best experts side by side."""
        question = question or (self._asked() or "")
        if question:
            answers = self._at.talker.compare(question, _COMPARED)
            self._at.screen.columns([answer.title for answer in answers], [answer.text for answer in answers])

    def undo(self, _: str) -> None:
        """Take the last turn away."""
        self._at.talk.undo()
        self._tell("undone")

    def new(self, _: str) -> None:
        """Another conversation."""
        self._at.talk = Kept(self._at.talker) if self._at.talk.kept else Fleeting(self._at.talker)
        self._tell("new")

    def save(self, name: str) -> None:
        """Write the conversation to a file."""
        if not name:
            self._tell("save_usage")
        elif self._asked():
            path = Path(name).expanduser()
            save(path, [self._at.talk.transcript()], self._at.say)
            self._tell("saved", path=path)

    # ── what is remembered ──────────────────────────────────────────────────────────────────────────────────

    def remember(self, text: str) -> None:
        """Keep something in every conversation."""
        if not text:
            self._tell("remember_usage")
        else:
            self._tell("noted", id=self._at.talker.remember(check_message(text, "note")))

    def notes(self, _: str) -> None:
        """What is kept so."""
        notes = self._at.talker.notes()
        for note in notes:
            self._at.screen.line(f"  {note.id}  {note.text}")
        if not notes:
            self._tell("no_notes")

    def forget(self, what: str) -> None:
        """Erase for good, once the person has seen what and said yes."""
        if not what:
            self._tell("forget_usage")
            return
        found = self._at.talker.found(what)
        if not found.ids:
            self._at.talker.forget(what)  # it may still be in a title, in a quotation or in a log
            self._tell("forget_nothing")
            return
        for note in found.notes:
            self._at.screen.line(f"  {note.id}  {note.text}")
        for _, turn in found.turns:
            self._at.screen.line(f"  {turn.id}  {' '.join(turn.question.split())}")
        reader = self._at.reader
        answer = reader.confirm(self._at.say("forget_ask")) if reader is not None else ""
        if answer.strip().casefold() in self._at.say("forget_yes").split():
            self._tell("forgotten", count=self._at.talker.forget(what))
        else:
            self._tell("kept_on")

    # ── ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _asked(self) -> str | None:
        turns = self._at.talk.turns()
        if not turns:
            self._tell("nothing_asked")
            return None
        return turns[-1].question

    def _experts(self) -> list[str]:
        return [*(self._at.talker.title(seed) for seed in self._at.talker.experts), BASE]

    def _tell(self, key: str, **values: object) -> None:
        self._at.screen.line(self._at.say(key, **values))
