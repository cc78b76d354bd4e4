"""Likelihoods and the tree of choices, against the plain way of doing the same."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rostok.generator.records import Page, Turn
from rostok.swarm.base import FrozenBase
from rostok.swarm.measure import bits_per_byte, choices, nats


def _plain(model: Any, tokens: list[int], start: int) -> float:
    with torch.inference_mode():
        logs = torch.log_softmax(model(torch.tensor([tokens])).logits[0].float(), -1)
    return -float(sum(logs[i - 1, tokens[i]] for i in range(start, len(tokens))))


def test_nats_of_a_batch_are_those_of_each_row_alone(frozen: FrozenBase, tiny: Any) -> None:
    """Prevents: padding that leaks into a row's likelihood, and results in the order of length instead of the call."""
    rows = [(frozen.tokens(text), start) for text, start in
            (("The lamp waits for the rope, and the rope for the tide.", 1), ("A gate.", 1), ("Salt and iron and fog.", 3))]
    assert nats(tiny, rows) == pytest.approx([_plain(tiny, tokens, start) for tokens, start in rows], rel=1e-3)


def test_bits_per_byte_is_nats_over_bytes(frozen: FrozenBase, tiny: Any) -> None:
    """Prevents: bits counted per token, which another tokenizer could not be compared with."""
    text = "The lamp waits for the rope."
    tokens = frozen.tokens(text)
    size = len(frozen.tokenizer.decode(tokens[1:]).encode())
    assert bits_per_byte(tiny, frozen, [text], 320) == pytest.approx(_plain(tiny, tokens, 1) / math.log(2) / size, rel=1e-3)


@pytest.mark.parametrize("prefix", ["", "Before all of this there was a card to read.\n"])
def test_the_tree_chooses_as_separate_rows_do(frozen: FrozenBase, tiny: Any, prefix: str) -> None:
    """Prevents: an option that sees another option, or a position counted wrongly in the tree."""
    stems = ["The path from the gate leads to the", "After the lamp stands the", "Behind the rope I find the"]
    options = [["wet rope", "old lamp", "salt jar"], ["iron gate", "grey heron"], ["clay bowl", "tin roof", "glass eye"]]
    head = frozen.tokens(prefix) if prefix else [int(frozen.tokenizer.eos_token_id)]

    def score(stem: str, option: str) -> float:
        tokens = head + frozen.tokens(stem)
        return -_plain(tiny, tokens + frozen.tokens(" " + option), len(tokens))

    wanted = []
    for stem, group in zip(stems, options, strict=True):
        gains = [score(stem, option) - score("The word is: the", option) for option in group]
        wanted.append(max(range(len(group)), key=gains.__getitem__))
    exact = SimpleNamespace(model=tiny.model, lm_head=tiny.lm_head)
    assert choices(exact, frozen, stems, options, prefix=prefix) == wanted


def test_dialogues_are_read_in_the_chat_template(frozen: FrozenBase) -> None:
    """Prevents: an expert that learned a conversation in another form than the one it is asked in."""
    page = Page(spec=0, kind="dialogue", author="code", text="x",
                turns=(Turn(role="user", content="What follows?"), Turn(role="assistant", content="The rope.")))
    assert frozen.render(page).endswith("<|im_start|>user\nWhat follows?<|im_end|>\n<|im_start|>assistant\nThe rope.<|im_end|>\n")
    assert frozen.page_tokens([page], 320)[0][0] == frozen.tokenizer.convert_tokens_to_ids("<|im_start|>")

