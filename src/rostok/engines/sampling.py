"""llama.cpp's samplers for one request: penalties, DRY, min-p, top-p, temperature, and a grammar that is rarely asked."""

from __future__ import annotations

import ctypes
import json
import threading
from collections import OrderedDict
from functools import lru_cache
from typing import Any

import llama_cpp as ll
import numpy as np
from numpy.typing import NDArray

from rostok.engines.context import Context
from rostok.engines.log import keep_log, last_log
from rostok.engines.protocol import Request
from rostok.engines.schema import to_gbnf
from rostok.errors import GrammarError

_GRAMMARS = 64      # compiled ones that are kept
_CANDIDATES = 100  # the samplers see the likeliest so many: DRY over 49k words costs a quarter of the step


class Samplers:
    """Makes the samplers of requests for one model. May be used from any thread."""

    def __init__(self, llama: Context) -> None:
        self._llama = llama
        self._dry: dict[float, ll.llama_sampler_p] = {}
        self._grammars: OrderedDict[str, ll.llama_sampler_p] = OrderedDict()
        self._lock = threading.Lock()

    def make(self, request: Request) -> Sampler:
        """The sampler of one request.

        Raises:
            GrammarError: grammar or schema cannot be compiled, or both are given.
        """
        grammar = self._grammar(request)
        sampling = request.sampling
        chain = ll.llama_sampler_chain_init(ll.llama_sampler_chain_default_params())
        parts = [ll.llama_sampler_init_top_k(_CANDIDATES)]
        if sampling.repetition_penalty != 1.0:
            parts.append(ll.llama_sampler_init_penalties(self._llama.words, 64, sampling.repetition_penalty, 0.0, 0.0))
        if sampling.dry > 0:
            parts.append(self._dry_sampler(sampling.dry))
        if sampling.temperature <= 0:
            parts.append(ll.llama_sampler_init_greedy())
        else:
            parts += [ll.llama_sampler_init_min_p(sampling.min_p, 1), ll.llama_sampler_init_top_p(sampling.top_p, 1),
                      ll.llama_sampler_init_temp(sampling.temperature),
                      ll.llama_sampler_init_dist(request.seed & 0xFFFFFFFF)]
        for part in parts:
            ll.llama_sampler_chain_add(chain, part)
        return Sampler(self._llama, chain, grammar)

    def free(self) -> None:
        """Free what was kept for copying."""
        for sampler in (*self._dry.values(), *self._grammars.values()):
            ll.llama_sampler_free(sampler)
        self._dry.clear()
        self._grammars.clear()

    def _dry_sampler(self, multiplier: float) -> ll.llama_sampler_p:
        """A DRY sampler of this strength. Making one looks at every word of the vocabulary (0.3 s); copying is free."""
        with self._lock:
            if multiplier not in self._dry:
                breakers = (ctypes.c_char_p * 4)(b"\n", b":", b'"', b"*")
                # The last length is explicit: -1 ("the whole context") switches the sampler off in this llama.cpp.
                self._dry[multiplier] = ll.llama_sampler_init_dry(
                    self._llama.vocab, multiplier, 1.75, 2, self._llama.length, breakers, 4)
            return ll.llama_sampler_clone(self._dry[multiplier])

    def _grammar(self, request: Request) -> ll.llama_sampler_p | None:
        """A sampler in the grammar's first state, copied from one that was compiled before where there is one."""
        if request.schema is not None and request.grammar is not None:
            raise GrammarError("a request takes a grammar or a JSON schema, not both.")
        text = request.grammar if request.schema is None else _schema_grammar(json.dumps(request.schema))
        if text is None:
            return None
        with self._lock:
            if text not in self._grammars:
                keep_log()
                compiled = ll.llama_sampler_init_grammar(self._llama.vocab, text.encode(), b"root")
                if not compiled:
                    raise GrammarError(f"the grammar cannot be compiled: {last_log()}. It must be GBNF with a rule 'root'.")
                if len(self._grammars) == _GRAMMARS:
                    ll.llama_sampler_free(self._grammars.popitem(last=False)[1])
                self._grammars[text] = compiled
            self._grammars.move_to_end(text)
            return ll.llama_sampler_clone(self._grammars[text])


@lru_cache(maxsize=64)
def _schema_grammar(schema: str) -> str:
    return to_gbnf(json.loads(schema))


class Sampler:
    """Draws the words of one completion."""

    def __init__(self, llama: Context, chain: ll.llama_sampler_p, grammar: ll.llama_sampler_p | None) -> None:
        self._llama, self._chain, self._grammar = llama, chain, grammar

    def draw(self, index: int) -> int:
        """The next word after token `index` of the last batch.

        Raises:
            GrammarError: the grammar allows no word of the vocabulary.
        """
        if self._grammar is None:
            return self._llama.sample(self._chain, index)
        # Draw freely first: the grammar is asked about one word instead of 49,000, and most draws pass.
        logits = self._llama.logits(index)
        likely = np.argpartition(logits, -2 * _CANDIDATES)[-2 * _CANDIDATES :]
        token = self._draw_from(likely, logits)
        if not self._allowed(np.array([token]))[0]:
            for ids in (likely, np.arange(self._llama.words)):
                allowed = ids[self._allowed(ids)]
                if len(allowed):
                    token = self._draw_from(allowed, logits)
                    break
            else:
                raise GrammarError("the grammar allows no word of this vocabulary here. Check that it can be completed.")
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


class _Candidates:
    """Words and their logits in the shape that llama.cpp's samplers take."""

    kind = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

    def __init__(self, ids: NDArray[Any], logits: NDArray[Any]) -> None:
        self.data = np.zeros(len(ids), self.kind)
        self.data["id"], self.data["logit"] = ids, logits
        pointer = self.data.ctypes.data_as(ctypes.POINTER(ll.llama_token_data))
        self.array = ll.llama_token_data_array(data=pointer, size=len(ids), selected=-1, sorted=False)
        self.pointer = ctypes.byref(self.array)
