"""Chat templates of the model families, as code of this project.

A template inside a GGUF or tokenizer file is a program by a stranger (CVE-2024-34359, CVE-2026-5760); it is never
run. The family is recognised by the special tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rostok.engines.protocol import Message
from rostok.errors import ModelError


@dataclass(frozen=True)
class Template:
    """How one family writes a conversation.

    Attributes:
        marker: a special token that only this family has.
        turn: `(role, content) -> text` of one whole turn, its end token included.
        opening: text before the assistant's words.
        ending: what ends the assistant's turn.
        system: the system message used when the conversation brings none ("" for none).
        merge_system: the family has no system role, so the text goes before the first user turn.
    """

    family: str
    marker: str
    turn: Callable[[str, str], str]
    opening: str
    ending: str
    system: str = ""
    merge_system: bool = False

    def render(self, messages: Sequence[Message], *, answer: bool = True) -> str:
        """The conversation as text; with `answer`, up to where the assistant begins to speak."""
        turns = list(messages)
        if self.system and (not turns or turns[0].role != "system"):
            turns.insert(0, Message("system", self.system))
        if self.merge_system and turns and turns[0].role == "system":
            head = turns.pop(0)
            if turns:
                turns[0] = Message(turns[0].role, f"{head.content}\n\n{turns[0].content}")
            else:
                turns = [Message("user", head.content)]
        text = "".join(self.turn(message.role, self.clean(message.content)) for message in turns)
        return text + self.opening if answer else text

    def clean(self, text: str) -> str:
        """The text without this family's control tokens, so that no page or memory can forge a turn."""
        tokens = sorted({self.marker, self.ending.strip(), *_CONTROL.get(self.family, ())})
        before = None
        while before != text:  # what is left after one pass may form a token again
            before = text
            for token in tokens:
                text = text.replace(token, "")
        return text


def _chatml(role: str, content: str) -> str:
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def _llama3(role: str, content: str) -> str:
    return f"<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>"


def _gemma(role: str, content: str) -> str:
    return f"<start_of_turn>{'model' if role == 'assistant' else 'user'}\n{content}<end_of_turn>\n"


def _mistral(role: str, content: str) -> str:
    return f" {content}</s>" if role == "assistant" else f"[INST] {content} [/INST]"


_CONTROL = {
    "chatml": ("<|endoftext|>",),
    "llama3": ("<|end_header_id|>", "<|begin_of_text|>", "<|end_of_text|>", "<|eom_id|>"),
    "gemma": ("<bos>", "<eos>"),
    "mistral": ("[/INST]", "<s>"),
}

TEMPLATES = (
    Template("chatml", "<|im_start|>", _chatml, "<|im_start|>assistant\n", "<|im_end|>",
             system="You are a helpful AI assistant."),
    Template("llama3", "<|start_header_id|>", _llama3, "<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"),
    Template("gemma", "<start_of_turn>", _gemma, "<start_of_turn>model\n", "<end_of_turn>", merge_system=True),
    Template("mistral", "[INST]", _mistral, "", "</s>", merge_system=True),
)


def template_for(has_token: Callable[[str], bool], name: str) -> Template:
    """The template whose marker is one token of the model's vocabulary.

    Raises:
        ModelError: none is known for this model.
    """
    for template in TEMPLATES:
        if has_token(template.marker):
            return template
    known = ", ".join(template.family for template in TEMPLATES)
    raise ModelError(f"{name} is of no model family with a known chat template ({known}). "
                     "Use a model of one of them, or add its template to src/rostok/engines/templates.py.")
