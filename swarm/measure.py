"""What a model knows, by likelihood: nats of texts, bits per byte, and multiple-choice probes scored as one tree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rostok.swarm.base import FrozenBase

_BATCH_TOKENS = 1536  # of one forward pass; logits of 49k words cost 0.2 MB a token


def nats(model: Any, rows: Sequence[tuple[Sequence[int], int]]) -> list[float]:
    """Negative log-likelihood in nats of each row's tokens from its start index on.

    Args:
        rows: (token ids, index of the first token that counts; at least 1).
    """
    import torch

    results = [0.0] * len(rows)
    order = sorted(range(len(rows)), key=lambda index: len(rows[index][0]))
    at = 0
    while at < len(order):
        width = len(rows[order[at]][0])
        batch = [order[at]]
        while at + len(batch) < len(order):
            width = len(rows[order[at + len(batch)]][0])
            if width * (len(batch) + 1) > _BATCH_TOKENS:
                break
            batch.append(order[at + len(batch)])
        at += len(batch)
        width = max(len(rows[index][0]) for index in batch)
        ids = torch.zeros((len(batch), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, index in enumerate(batch):
            tokens = rows[index][0]
            ids[row, : len(tokens)] = torch.tensor(list(tokens))
            mask[row, : len(tokens)] = 1
        with torch.inference_mode():
            logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            for row, index in enumerate(batch):
                tokens, start = rows[index]
                picked = logits[row, start - 1 : len(tokens) - 1].float()
                losses = torch.nn.functional.cross_entropy(picked, ids[row, start : len(tokens)], reduction="sum")
                results[index] = float(losses)
    return results


def bits_per_byte(model: Any, base: FrozenBase, texts: Sequence[str], limit: int) -> float:
    """Bits per UTF-8 byte over the texts (the first token of each is given), cut at `limit` tokens."""
    rows, size = [], 0
    for text in texts:
        tokens = base.tokens(text, limit)
        rows.append((tokens, 1))
        size += len(base.tokenizer.decode(tokens[1:]).encode())
    return sum(nats(model, rows)) / math.log(2) / max(1, size)


def choices(model: Any, base: FrozenBase, stems: Sequence[str], options: Sequence[Sequence[str]], prefix: str = "") -> list[int]:
    """The option that each stem makes most likely, beyond what a neutral stem does (sum of log-probabilities, PMI).

    Everything is one sequence read as a tree: prefix, then every stem, then every option after its stem, with explicit
    positions and a mask that lets a token see only its own branch. 36 stems of 11 options cost one pass of 1,600 tokens
    instead of 396 rows; with a seed's card as prefix the card is read once.
    """
    import torch

    neutral = "The word is: the"
    all_options = sorted({option for group in options for option in group})
    branches = [(neutral, all_options), *zip(stems, options, strict=True)]
    tokens: list[int] = base.tokens(prefix) if prefix else [int(base.tokenizer.eos_token_id)]
    positions = list(range(len(tokens)))
    parents: list[tuple[int, int]] = [(0, len(tokens))]  # segments as (start, end)
    visible: list[list[int]] = [[0]]                     # per segment: the segments it may look at, itself last
    wanted: list[list[list[tuple[int, int]]]] = []       # per branch, option: (index of the logits, token)
    for stem, group in branches:
        stem_tokens = base.tokens(stem)
        stem_start = len(tokens)
        tokens += stem_tokens
        positions += range(parents[0][1], parents[0][1] + len(stem_tokens))
        parents.append((stem_start, len(tokens)))
        stem_segment = len(parents) - 1
        visible.append([0, stem_segment])
        scored = []
        for option in group:
            option_tokens = base.tokens(" " + option)
            start = len(tokens)
            tokens += option_tokens
            first = parents[0][1] + len(stem_tokens)
            positions += range(first, first + len(option_tokens))
            parents.append((start, len(tokens)))
            visible.append([0, stem_segment, len(parents) - 1])
            looks = [parents[stem_segment][1] - 1, *range(start, len(tokens) - 1)]
            scored.append(list(zip(looks, option_tokens, strict=True)))
        wanted.append(scored)
    size = len(tokens)
    mask = np.zeros((size, size), bool)
    for (start, end), segments in zip(parents, visible, strict=True):
        for segment in segments[:-1]:
            left, right = parents[segment]
            mask[start:end, left:right] = True
        mask[start:end, start:end] = np.tril(np.ones((end - start, end - start), bool))
    needed = sorted({index for branch in wanted for option in branch for index, _ in option})
    row_of = {index: row for row, index in enumerate(needed)}
    with torch.inference_mode():
        hidden = _inner(model)(
            input_ids=torch.tensor([tokens]), position_ids=torch.tensor([positions]),
            attention_mask=torch.from_numpy(mask)[None, None], use_cache=False,
        ).last_hidden_state[0, needed]
        logs = torch.log_softmax(_head(model)(hidden).float(), dim=-1)
    totals = [[sum(float(logs[row_of[index], token]) for index, token in option) for option in branch] for branch in wanted]
    plain = dict(zip(all_options, totals[0], strict=True))
    best = []
    for group, scores in zip(options, totals[1:], strict=True):
        best.append(max(range(len(group)), key=lambda k: scores[k] - plain[group[k]]))
    return best


def _causal(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _inner(model: Any) -> Any:
    return _causal(model).model


def _head(model: Any) -> Any:
    return _causal(model).lm_head
