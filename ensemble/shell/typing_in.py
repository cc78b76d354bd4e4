"""What a person types: a line editor with history and completion in a terminal, plain lines elsewhere.

Alt-Enter, or a backslash at the end of a line, begins another line. The history comes from the conversations and lies in no
file of its own, so that what is forgotten is forgotten here too.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from prompt_toolkit.completion import CompleteEvent, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

Names = Callable[[], Sequence[str]]


class Reader(Protocol):
    """Where the next message comes from."""

    def read(self, prompt: str) -> str:
        """One message. Raises `EOFError` at the end, `KeyboardInterrupt` on Ctrl-C."""
        ...

    def confirm(self, prompt: str) -> str:
        """The answer to a question, in one line."""
        ...


def open_reader(commands: Sequence[str], names: dict[str, Names], history: Sequence[str]) -> Reader:
    """The line editor where a person sits at a terminal.

    Args:
        commands: what may stand at the beginning of a line, such as `/pin`.
        names: {command: what may follow it}.
        history: earlier messages, the oldest first.
    """
    if sys.stdin.isatty() and sys.stdout.isatty():
        return Editor(commands, names, history)
    return Lines()


class Lines:
    """Plain lines of the standard input."""

    def read(self, prompt: str) -> str:
        """See `Reader`."""
        line = input(prompt)
        while line.endswith("\\"):
            line = line[:-1] + "\n" + input("… ")
        return line

    def confirm(self, prompt: str) -> str:
        """See `Reader`."""
        return input(prompt)


class Editor:
    """prompt_toolkit's line editor."""

    def __init__(self, commands: Sequence[str], names: dict[str, Names], history: Sequence[str]) -> None:
        from prompt_toolkit import PromptSession
        from prompt_toolkit.completion import Completer, Completion
        from prompt_toolkit.history import InMemoryHistory

        class Complete(Completer):
            def get_completions(self, document: Document, event: CompleteEvent) -> Iterable[Completion]:
                typed = document.text_before_cursor
                start = typed.find(" ") + 1  # a name may have spaces, and is completed from its beginning
                for whole in completions(typed, commands, names):
                    yield Completion(whole[start:], start_position=start - len(typed))

        self._session: PromptSession[str] = PromptSession(
            history=InMemoryHistory(list(history)), completer=Complete(), key_bindings=_keys(), complete_while_typing=False,
            prompt_continuation=lambda width, number, wrapped: "… ".rjust(width))

    def read(self, prompt: str) -> str:
        """See `Reader`."""
        return self._session.prompt(prompt)

    def confirm(self, prompt: str) -> str:
        """See `Reader`."""
        return input(prompt)


def completions(typed: str, commands: Sequence[str], names: dict[str, Names]) -> list[str]:
    """Whole lines that what was typed may become."""
    command, space, rest = typed.partition(" ")
    if not space:
        return [one for one in commands if typed.startswith("/") and one.startswith(typed)]
    known = names[command]() if command in names else ()
    return [f"{command} {name}" for name in known if name.casefold().startswith(rest.casefold().lstrip())]


def _keys() -> KeyBindings:
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    @keys.add("escape", "enter")
    @keys.add("escape", "c-j")  # what was typed ahead comes as the terminal has translated it
    def another_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
        else:
            buffer.validate_and_handle()

    return keys
