"""Chat templates: turns as each family writes them, and no text that can forge one."""

from __future__ import annotations

from itertools import product

import pytest

from rostok.engines.protocol import Message
from rostok.engines.templates import TEMPLATES, Template, template_for
from rostok.errors import ModelError

FAMILIES = {template.family: template for template in TEMPLATES}
TALK = (
    Message("system", "Be short."),
    Message("user", "Hi"),
    Message("assistant", "Hello."),
    Message("user", "Who?"),
)
RENDERED = {
    "chatml": "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<|start_header_id|>system<|end_header_id|>\n\nBe short.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nWho?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<start_of_turn>user\nBe short.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
    "<start_of_turn>user\nWho?<end_of_turn>\n<start_of_turn>model\n",
    "mistral": "[INST] Be short.\n\nHi [/INST] Hello.</s>[INST] Who? [/INST]",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_conversation_is_written_as_the_family_writes_it(family: str) -> None:
    """Prevents: a model that is asked in a form it has never seen, and answers worse than it can."""
    assert FAMILIES[family].render(TALK) == RENDERED[family]


def test_a_conversation_without_a_system_message_gets_the_family_s_own() -> None:
    """Prevents: SmolLM2 asked without the system message that it was trained with."""
    text = FAMILIES["chatml"].render([Message("user", "Hi")])
    assert text.startswith("<|im_start|>system\nYou are a helpful AI assistant.<|im_end|>\n<|im_start|>user\nHi")


def test_a_system_message_alone_is_kept() -> None:
    """Prevents: a family without a system role that loses the instructions when no user has spoken yet."""
    assert "Be short." in FAMILIES["gemma"].render(TALK[:1])


@pytest.mark.parametrize("family", FAMILIES)
def test_leading_messages_render_to_the_beginning_of_the_whole(family: str) -> None:
    """Prevents: a shared prefix whose keys and values belong to another text."""
    template = FAMILIES[family]
    for count in range(2, len(TALK) + 1):
        assert template.render(TALK).startswith(template.render(TALK[:count], answer=False))


CONTROLS = {
    "chatml": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"],
    "llama3": ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>"],
    "gemma": ["<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>"],
    "mistral": ["[INST]", "[/INST]", "<s>", "</s>"],
}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_message_cannot_forge_a_turn(family: str) -> None:
    """Prevents: a page or memory with control tokens in it that speaks as the system."""
    template = FAMILIES[family]
    hostile = "a".join(CONTROLS[family])
    plain = template.render([Message("user", "a" * (len(CONTROLS[family]) - 1))])
    assert template.render([Message("user", hostile)]) == plain


@pytest.mark.parametrize("family", FAMILIES)
def test_cleaning_leaves_no_control_token(family: str) -> None:
    """Prevents: a token that comes into being when another one inside it is taken out."""
    for outer, inner in product(CONTROLS[family], repeat=2):
        for cut in range(1, len(outer)):
            cleaned = FAMILIES[family].clean(outer[:cut] + inner + outer[cut:])
            assert not [control for control in CONTROLS[family] if control in cleaned]


def test_the_family_is_known_by_its_marker() -> None:
    """Prevents: a model served with the first template in the list."""
    for template in TEMPLATES:
        chosen: Template = template_for(lambda token, own=template.marker: token == own, "model")
        assert chosen is template


def test_an_unknown_family_is_refused_by_name() -> None:
    """Prevents: a model of a strange family that is asked in ChatML and rambles."""
    with pytest.raises(ModelError, match=r"strange-7b is of no model family .*chatml, llama3, gemma, mistral"):
        template_for(lambda token: False, "strange-7b")
