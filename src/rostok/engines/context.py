"""A GGUF model and its context in llama.cpp: loading, the batch, key-value streams, adapters. One thread at a time.

Every sequence has its own key-value stream (`kv_unified=False`: with one shared cache the attention runs over
everybody's cells, and 64 sequences are slower than 16).
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llama_cpp as ll
import numpy as np
from numpy.typing import NDArray

from rostok.engines.log import keep_log, last_log
from rostok.engines.threads import Threads
from rostok.errors import AdapterError, ModelError
from rostok.machine import available_memory, usable_cores

BATCH = 512             # tokens of one decode call; 1,024 prefill no faster and take twice the scratch memory
_MEMORY_SHARE = 0.6     # of what is free at the start; the rest is for training, embeddings and the caller
_HALF = 2               # bytes of one key or value: F16, the fastest of F32, F16, BF16 and Q8_0 in decoding


class Context:
    """The model in memory.

    Args:
        gguf: the model's file.
        sequences: streams wanted; as many are made as fit the memory (see `streams`).
        context: tokens of one stream.
        threads: 0 takes every core this process may use; fewer are used while other programs are busy.
        gpu_layers: layers put on a GPU (-1: all), where llama.cpp was built for one. Not run here.

    Attributes:
        streams: sequences that there are, 0 to streams - 1.
        words: size of the vocabulary.

    Raises:
        ModelError: no such file, not a GGUF, cut short, or not even one stream fits the memory.
    """

    def __init__(self, gguf: Path, *, sequences: int, context: int, threads: int = 0, gpu_layers: int = -1) -> None:
        if not gguf.is_file():
            raise ModelError(f"there is no model file {gguf}. Check the setting models.base.")
        with gguf.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ModelError(f"{gguf} is not a GGUF file. Give a GGUF, a model folder or a Hugging Face id.")
        keep_log()
        ll.llama_backend_init()
        self.name, self.length = gguf.stem, context
        params = ll.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        self._model = ll.llama_model_load_from_file(str(gguf).encode(), params)
        if not self._model:
            raise ModelError(f"{gguf} cannot be loaded: {last_log()}. It may be cut short; get the file again.")
        self.vocab = ll.llama_model_get_vocab(self._model)
        self.words = int(ll.llama_vocab_n_tokens(self.vocab))
        self.adds_bos = bool(ll.llama_vocab_get_add_bos(self.vocab))
        try:
            self.streams = self._that_fit(sequences)
            count = threads or usable_cores()
            self._context = self._new(count)
        except ModelError:
            ll.llama_model_free(self._model)
            raise
        self._memory = ll.llama_get_memory(self._context)
        self._batch = ll.llama_batch_init(BATCH, 0, 1)
        self._threads = Threads(count, lambda number: ll.llama_set_n_threads(self._context, number, number))

    def close(self) -> None:
        """Free everything, adapters too. The context must not be used again: llama.cpp would abort the process."""
        ll.llama_batch_free(self._batch)
        ll.llama_free(self._context)
        ll.llama_model_free(self._model)

    # ── the batch ───────────────────────────────────────────────────────────────────────────────────────────

    def add(self, tokens: Sequence[int], position: int, sequence: int, outputs: range = range(0)) -> int:
        """Put the next tokens of a sequence into the batch. Returns the batch index of the first one.

        Args:
            position: of the first token in its sequence.
            outputs: which of the tokens, counted from 0, are to have logits.
        """
        batch, first = self._batch, self._batch.n_tokens
        for i, token in enumerate(tokens):
            at = first + i
            batch.token[at], batch.pos[at] = token, position + i
            batch.n_seq_id[at], batch.seq_id[at][0] = 1, sequence
            batch.logits[at] = i in outputs
        batch.n_tokens = first + len(tokens)
        return int(first)

    def decode(self) -> None:
        """Compute the batch and empty it.

        Raises:
            ModelError: llama.cpp refused it.
        """
        started, processor = time.monotonic(), time.process_time()
        code = ll.llama_decode(self._context, self._batch)
        ll.llama_synchronize(self._context)
        now = time.monotonic()
        self._threads.took(now - started, time.process_time() - processor, now)
        self._batch.n_tokens = 0
        if code != 0:
            raise ModelError(f"llama_decode returned {code}: {last_log()}")

    def logits(self, index: int) -> NDArray[Any]:
        """Logits of one token of the last batch, shape [words], float32; valid until the next `decode`."""
        return np.ctypeslib.as_array(ll.llama_get_logits_ith(self._context, index), shape=(self.words,))

    def logprob(self, index: int, token: int) -> float:
        """Log-probability in nats of a word after token `index` of the last batch."""
        logits = self.logits(index)
        top = float(logits.max())
        return float(logits[token]) - top - float(np.log(np.exp(logits - top, dtype=np.float32).sum(dtype=np.float64)))

    def sample(self, chain: ll.llama_sampler_p, index: int) -> int:
        """Draw a word after token `index` of the last batch with a chain of samplers, and tell them of it."""
        return int(ll.llama_sampler_sample(chain, self._context, index))

    # ── streams ─────────────────────────────────────────────────────────────────────────────────────────────

    def copy(self, source: int, target: int) -> None:
        """Make the target stream a copy of the source. llama.cpp copies whole streams only."""
        ll.llama_memory_seq_rm(self._memory, target, -1, -1)
        ll.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def clear(self, sequence: int) -> None:
        """Empty one stream."""
        ll.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    # ── adapters ────────────────────────────────────────────────────────────────────────────────────────────

    def load_adapter(self, path: Path) -> ll.llama_adapter_lora_p:
        """A LoRA adapter in memory, not yet at work.

        Raises:
            AdapterError: no such file, no GGUF adapter, or made for another architecture or shape.
        """
        if not path.is_file():
            raise AdapterError(f"adapter {path} does not fit {self.name}: the file is missing. Train it again.")
        keep_log()
        adapter = ll.llama_adapter_lora_init(self._model, str(path).encode())
        if not adapter:
            raise AdapterError(f"adapter {path} does not fit {self.name}: {last_log()}. Train it again for this base.")
        return adapter

    def use_adapters(self, adapters: Sequence[tuple[ll.llama_adapter_lora_p, float]]) -> None:
        """Compute with these adapters at these scales from now on. What the streams hold stays as it was computed."""
        count = len(adapters)
        if count == 0:
            ll.llama_set_adapters_lora(self._context, None, 0, None)
            return
        # The whole set is named: an adapter that is left out of llama.cpp's call is at rest.
        handles = (ll.llama_adapter_lora_p_ctypes * count)(*(handle for handle, _ in adapters))
        scales = (ctypes.c_float * count)(*(scale for _, scale in adapters))
        ll.llama_set_adapters_lora(self._context, handles, count, scales)

    def free_adapter(self, adapter: ll.llama_adapter_lora_p) -> None:
        """Free an adapter that is not at work."""
        ll.llama_adapter_lora_free(adapter)

    # ── the vocabulary ──────────────────────────────────────────────────────────────────────────────────────

    def tokenize(self, text: str) -> list[int]:
        """Token ids, with the beginning-of-sequence token where the model wants one. May be called from any thread."""
        data = text.encode()
        room = len(data) + 8
        buffer = (ll.llama_token * room)()
        count = ll.llama_tokenize(self.vocab, data, len(data), buffer, room, self.adds_bos, True)
        return list(buffer[:count])

    def piece(self, token: int) -> bytes:
        """The bytes of a token; a control token has none."""
        buffer = ctypes.create_string_buffer(64)
        size = ll.llama_token_to_piece(self.vocab, token, buffer, 64, 0, False)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = ll.llama_token_to_piece(self.vocab, token, buffer, -size, 0, False)
        return buffer.raw[:size]

    def ends(self, token: int) -> bool:
        """Whether the token ends a turn."""
        return bool(ll.llama_vocab_is_eog(self.vocab, token))

    # ── memory ──────────────────────────────────────────────────────────────────────────────────────────────

    def _that_fit(self, wanted: int) -> int:
        """How many streams the memory holds, at most `wanted`."""
        stream = self.length * self._token_bytes() + 4 * self.words  # keys and values, and one row of logits
        budget = _MEMORY_SHARE * available_memory()
        if stream > budget:
            raise ModelError(
                f"a sequence of {self.length} tokens takes {stream >> 20:,} MiB of {self.name}, and {int(budget) >> 20:,} MiB "
                "may be used. Close other programs or lower models.context.")
        return min(wanted, int(budget // stream))

    def _token_bytes(self) -> int:
        """Bytes of the keys and values of one token."""
        heads, layers = ll.llama_model_n_head(self._model), ll.llama_model_n_layer(self._model)
        width = ll.llama_model_n_embd(self._model) // max(1, heads)
        sizes = [self._number(f"attention.{kind}_length") or width for kind in ("key", "value")]
        return int(layers * ll.llama_model_n_head_kv(self._model) * sum(sizes) * _HALF)

    def _number(self, key: str) -> int | None:
        """A number from the file's metadata, under the name of its architecture."""
        family = self._text("general.architecture")
        value = self._text(f"{family}.{key}")
        return int(value) if value is not None and value.isdigit() else None

    def _text(self, key: str) -> str | None:
        buffer = ctypes.create_string_buffer(256)
        size = ll.llama_model_meta_val_str(self._model, key.encode(), buffer, 256)
        return buffer.value.decode(errors="replace") if size >= 0 else None

    def _new(self, threads: int) -> ll.llama_context_p:
        params = ll.llama_context_default_params()
        params.n_seq_max = self.streams
        params.n_ctx = self.streams * self.length
        params.n_batch = params.n_ubatch = BATCH
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = False
        params.no_perf = True
        context = ll.llama_init_from_model(self._model, params)
        if not context:
            raise ModelError(
                f"no memory for {self.streams} sequences of {self.length} tokens ({last_log()}). "
                "Lower models.sequences or models.context.")
        return context
