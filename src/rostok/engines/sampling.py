"""llama.cpp's samplers for one request: penalties, DRY, min-p, top-p, temperature, and a grammar that is rarely asked."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

import llama_cpp as ll
import numpy as np
from numpy.typing import NDArray

from rostok.engines.log import keep_log, last_log
from rostok.engines.protocol import Request
from rostok.errors import ModelError

_CANDIDATES = 100  # the samplers see the likeliest so many: DRY over 49k words costs a quarter of the step


class Samplers:
    """Makes the samplers of requests for one model. May be used from any thread.

    Args:
        words: size of the vocabulary.
        context: how far back the DRY sampler looks, in tokens.
    """

    def __init__(self, vocab: ll.llama_vocab_p, words: int, context: int) -> None:
        self.vocab, self.words, self._context = vocab, words, context
        self._dry: dict[float, ll.llama_sampler_p] = {}
        self._lock = threading.Lock()

    def make(self, request: Request) -> Sampler:
        """The sampler of one request.

        Raises:
            ModelError: the grammar cannot be compiled.
        """
        sampling = request.sampling
        chain = ll.llama_sampler_chain_init(ll.llama_sampler_chain_default_params())
        parts = [ll.llama_sampler_init_top_k(_CANDIDATES)]
        if sampling.repetition_penalty != 1.0:
            parts.append(ll.llama_sampler_init_penalties(self.words, 64, sampling.repetition_penalty, 0.0, 0.0))
        if sampling.dry > 0:
            parts.append(ll.llama_sampler_clone(self._dry_sampler(sampling.dry)))
        if sampling.temperature <= 0:
            parts.append(ll.llama_sampler_init_greedy())
        else:
            parts += [ll.llama_sampler_init_min_p(sampling.min_p, 1), ll.llama_sampler_init_top_p(sampling.top_p, 1),
                      ll.llama_sampler_init_temp(sampling.temperature),
                      ll.llama_sampler_init_dist(request.seed & 0xFFFFFFFF)]
        for part in parts:
            ll.llama_sampler_chain_add(chain, part)
        grammar = None
        if request.grammar is not None:
            keep_log()
            grammar = ll.llama_sampler_init_grammar(self.vocab, request.grammar.encode(), b"root")
            if not grammar:
                ll.llama_sampler_free(chain)
                raise ModelError(f"the grammar cannot be compiled: {last_log()}")
        return Sampler(chain, grammar, self.words)

    def free(self) -> None:
        """Free what was kept for copying."""
        for sampler in self._dry.values():
            ll.llama_sampler_free(sampler)
        self._dry.clear()

    def _dry_sampler(self, multiplier: float) -> ll.llama_sampler_p:
        """The DRY sampler of this strength. Making one looks at every word of the vocabulary (0.3 s); copying is free."""
        with self._lock:
            if multiplier not in self._dry:
                breakers = (ctypes.c_char_p * 4)(b"\n", b":", b'"', b"*")
                # The last length is explicit: -1 ("the whole context") switches the sampler off in this llama.cpp.
                self._dry[multiplier] = ll.llama_sampler_init_dry(
                    self.vocab, multiplier, 1.75, 2, self._context, breakers, 4)
            return self._dry[multiplier]


class Sampler:
    """Draws the words of one completion."""

    def __init__(self, chain: ll.llama_sampler_p, grammar: ll.llama_sampler_p | None, words: int) -> None:
        self._chain, self._grammar, self._words = chain, grammar, words

    def draw(self, context: ll.llama_context_p, index: int) -> int:
        """The next word after output `index` of the last decode call.

        Raises:
            ModelError: the grammar allows no word of the vocabulary.
        """
        if self._grammar is None:
            return int(ll.llama_sampler_sample(self._chain, context, index))
        # Draw freely first: the grammar is asked about one word instead of 49,000, and most draws pass.
        logits = logits_of(context, index, self._words)
        likely = np.argpartition(logits, -2 * _CANDIDATES)[-2 * _CANDIDATES :]
        token = self._draw_from(likely, logits)
        if not self._allowed(np.array([token]))[0]:
            for ids in (likely, np.arange(self._words)):
                allowed = ids[self._allowed(ids)]
                if len(allowed):
                    token = self._draw_from(allowed, logits)
                    break
            else:
                raise ModelError("the grammar allows no word of this vocabulary here. Check that it can be completed.")
        ll.llama_sampler_accept(self._chain, token)
        ll.llama_sampler_accept(self._grammar, token)
        return token

    def free(self) -> None:
        """Free the samplers; safe to call twice."""
        for sampler in (self._chain, self._grammar):
            if sampler:
                ll.llama_sampler_free(sampler)
        self._chain = self._grammar = None

    def _draw_from(self, ids: NDArray[Any], logits: NDArray[Any]) -> int:
        candidates = _Candidates(ids, logits[ids])
        ll.llama_sampler_apply(self._chain, candidates.pointer)
        return int(candidates.data["id"][candidates.array.selected])

    def _allowed(self, ids: NDArray[Any]) -> NDArray[Any]:
        """Which of the words the grammar lets follow."""
        candidates = _Candidates(ids, np.zeros(len(ids), np.float32))
        ll.llama_sampler_apply(self._grammar, candidates.pointer)
        allowed: NDArray[Any] = np.isfinite(candidates.data["logit"])
        return allowed


def logits_of(context: ll.llama_context_p, index: int, words: int) -> NDArray[Any]:
    """Logits of output `index` of the last decode call, shape [words], float32; valid until the next call."""
    return np.ctypeslib.as_array(ll.llama_get_logits_ith(context, index), shape=(words,))


class _Candidates:
    """Words and their logits in the shape that llama.cpp's samplers take."""

    kind = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

    def __init__(self, ids: NDArray[Any], logits: NDArray[Any]) -> None:
        self.data = np.zeros(len(ids), self.kind)
        self.data["id"], self.data["logit"] = ids, logits
        pointer = self.data.ctypes.data_as(ctypes.POINTER(ll.llama_token_data))
        self.array = ll.llama_token_data_array(data=pointer, size=len(ids), selected=-1, sorted=False)
        self.pointer = ctypes.byref(self.array)
