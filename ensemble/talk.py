"""One conversation, whoever is talked to and whether it is kept: the turns so far, and the next one."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rostok.config import Mixing
from rostok.engines.protocol import Message
from rostok.ensemble.history.answer import Answer, Transcript, Turn
from rostok.ensemble.history.threads import new_thread, new_turn, short
from rostok.ensemble.talker import OnRoute, OnText, Talker
from rostok.errors import RunError
from rostok.records import stable_seed


@dataclass(frozen=True)
class Manner:
    """How answers are wanted throughout a conversation."""

    pin: str | None = None
    mixing: Mixing | None = None
    retrieval: bool | None = None


class Talk(Protocol):
    """A conversation."""

    kept: bool

    def ask(self, question: str, manner: Manner, on_text: OnText, on_route: OnRoute, *, stop: threading.Event | None = None,
            again: bool = False) -> Answer: ...
    def turns(self) -> Sequence[Turn]: ...
    def undo(self) -> None: ...
    def transcript(self) -> Transcript: ...


class Kept:
    """A conversation in the run."""

    kept = True

    def __init__(self, talker: Talker, thread: str | None = None) -> None:
        self.talker, self.thread = talker, thread or new_thread()

    def ask(self, question: str, manner: Manner, on_text: OnText, on_route: OnRoute, *, stop: threading.Event | None = None,
            again: bool = False) -> Answer:
        """See `Ensemble.ask`."""
        return self.talker.ask(question, self.thread, on_text, on_route, manner.pin, mixing=manner.mixing, stop=stop, again=again,
                               retrieval=manner.retrieval)

    def turns(self) -> Sequence[Turn]:
        """The turns so far."""
        return self.talker.conversations.turns(self.thread)

    def undo(self) -> None:
        """Take the last turn away."""
        self.talker.conversations.drop_last(self.thread)

    def transcript(self) -> Transcript:
        """All of it."""
        return next(iter(self.talker.conversations.export([self.thread])))


@dataclass
class Fleeting:
    """A conversation in this process's memory alone."""

    talker: Talker
    said: list[Turn] = field(default_factory=list)
    kept: bool = False

    def ask(self, question: str, manner: Manner, on_text: OnText, on_route: OnRoute, *, stop: threading.Event | None = None,
            again: bool = False) -> Answer:
        """See `Ensemble.reply`."""
        before = self.said[:-1] if again else self.said
        asked = question or self.said[-1].question
        messages = [Message(role, text) for turn in before if turn.text
                    for role, text in (("user", turn.question), ("assistant", turn.text))]
        seed = stable_seed(asked, time.time()) if again else None
        answer = self.talker.reply([*messages, Message("user", asked)], on_text, on_route, manner.pin, mixing=manner.mixing,
                                   stop=stop, seed=seed, retrieval=manner.retrieval)
        if again and answer.finish == "stopped" and not answer.text:
            return answer  # as `Ensemble.ask`: there is nothing to put in the old turn's place
        answer = answer.model_copy(update={"id": new_turn()})
        self.said = [*before, Turn(id=answer.id, number=len(before), time=time.time(), question=asked, text=answer.text,
                                   speaker=answer.title, answer=answer)]
        return answer

    def turns(self) -> Sequence[Turn]:
        """The turns so far."""
        return self.said

    def undo(self) -> None:
        """Take the last turn away."""
        if not self.said:
            raise RunError("nothing was said in this conversation yet.")
        self.said = self.said[:-1]

    def transcript(self) -> Transcript:
        """All of it."""
        if not self.said:
            raise RunError("nothing was said in this conversation yet.")
        return Transcript(id="unkept", title=short(self.said[0].question, 60), created=self.said[0].time,
                          updated=self.said[-1].time, turns=len(self.said), said=tuple(self.said))
