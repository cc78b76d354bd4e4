"""llama.cpp in this process, many completions at once: continuous batching on the low-level API of llama-cpp-python.

One thread owns the context. Every sequence has its own KV stream (`kv_unified=False`: with one shared cache the
attention runs over everybody's cells, and 64 sequences are slower than 16). A shared prefix is computed once and
copied. Only sequences with the same adapter share a batch, and no KV survives a change of adapter.
"""

from __future__ import annotations

import codecs
import ctypes
import heapq
import os
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from pathlib import Path

import llama_cpp as ll
import numpy as np

from rostok.engines.log import keep_log, last_log
from rostok.engines.protocol import Completion, Request
from rostok.engines.sampling import Sampler, Samplers, logits_of
from rostok.engines.templates import Template, template_for
from rostok.errors import ModelError

_PREFIXES = 4          # shared prefixes kept at once, each in a sequence of its own
_SHORTEST_PREFIX = 32  # tokens; copying less costs more than computing it
_BATCH = 1024          # tokens of one decode call


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(eq=False)
class _Job:
    """A request on its way: waiting, in prefill (`fed < len(tokens)`), or decoding."""

    future: Future[Completion]
    request: Request
    tokens: list[int]
    prompt: int                                    # tokens of the prompt
    on_text: Callable[[str], None] | None = None
    scoring: Future[float] | None = None           # set: no sampling, score tokens[prompt:]
    shared: int = 0                                # tokens of the shared prefix
    sequence: int = -1
    fed: int = 0
    sampler: Sampler | None = None
    text: str = ""
    emitted: int = 0
    logprobs: list[float] = field(default_factory=list)
    decoder: codecs.IncrementalDecoder = field(default_factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def free(self) -> None:
        """Free the samplers."""
        if self.sampler is not None:
            self.sampler.free()

    @property
    def adapter(self) -> str | None:
        return self.request.adapter

    @property
    def outcome(self) -> Future[Completion] | Future[float]:
        return self.future if self.scoring is None else self.scoring


class LlamaCppEngine:
    """A GGUF model on llama.cpp. See `rostok.engines.protocol.Engine`.

    Args:
        gguf: the model's file.
        sequences: completions in flight at once.
        context: tokens of one sequence, prompt and completion together.
        threads: 0 takes every core this process may use.
        gpu_layers: layers put on a GPU (-1: all), where llama.cpp was built for one. Not run here.

    Raises:
        ModelError: no such file, not a GGUF, cut short, or of a family without a known chat template.
    """

    def __init__(self, gguf: Path, *, sequences: int = 32, context: int = 1024, threads: int = 0,
                 gpu_layers: int = -1) -> None:
        if not gguf.is_file():
            raise ModelError(f"there is no model file {gguf}. Check the setting models.base.")
        with gguf.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise ModelError(f"{gguf} is not a GGUF file. Give a GGUF, a model folder or a Hugging Face id.")
        self.name = gguf.stem
        self.context, self.sequences = context, sequences
        keep_log()
        ll.llama_backend_init()
        params = ll.llama_model_default_params()
        params.n_gpu_layers = gpu_layers
        self._model = ll.llama_model_load_from_file(str(gguf).encode(), params)
        if not self._model:
            raise ModelError(f"{gguf} cannot be loaded: {last_log()}. It may be cut short; get the file again.")
        self._vocab = ll.llama_model_get_vocab(self._model)
        self._words = ll.llama_vocab_n_tokens(self._vocab)
        self.adds_bos = bool(ll.llama_vocab_get_add_bos(self._vocab))
        self.template: Template = template_for(self._has_token, self.name)
        self._context = self._new_context(threads or usable_cores())
        self._memory = ll.llama_get_memory(self._context)
        self._batch = ll.llama_batch_init(_BATCH, 0, 1)
        self._adapters: dict[str, ll.llama_adapter_lora_p] = {}
        self._active_adapter: str | None = None
        self._samplers = Samplers(self._vocab, self._words, context)
        self._free = list(range(sequences))  # a heap: see _step
        self._prefixes: OrderedDict[tuple[int, ...], int] = OrderedDict()
        self._waiting: deque[_Job] = deque()
        self._running: list[_Job] = []
        self._lock = threading.Condition()
        self._closing = False
        self.decoded_tokens = 0
        self._thread = threading.Thread(target=self._loop, name="llama.cpp", daemon=True)
        self._thread.start()

    # ── what stages call ────────────────────────────────────────────────────────────────────────────────────

    def submit(self, request: Request, on_text: Callable[[str], None] | None = None) -> Future[Completion]:
        """Queue one request; see `Engine.submit`."""
        self._check_open()
        return self._enqueue([(request, on_text)])[0]

    def submit_all(self, requests: Sequence[Request]) -> list[Future[Completion]]:
        """Queue many at once; see `Engine.submit_all`."""
        self._check_open()
        return self._enqueue([(request, None) for request in requests])

    def score(self, prompt: str, continuations: Sequence[str]) -> list[float]:
        """Mean nats per token of each continuation after `prompt`; see `Engine.score`."""
        self._check_open()
        head = self.tokenize(prompt)
        jobs = []
        for text in continuations:
            tokens = self.tokenize(prompt + text)
            first = min(len(head), len(tokens) - 1)  # a merge over the border belongs to the continuation
            while first > 1 and tokens[:first] != head[:first]:
                first -= 1
            request = Request(messages=())
            jobs.append(_Job(Future(), request, tokens, prompt=first, scoring=Future(), shared=first - 1))
        self._queue(jobs)
        return [job.scoring.result() for job in jobs if job.scoring is not None]

    def add_adapter(self, name: str, path: Path) -> None:
        """Register a GGUF LoRA adapter; see `Engine.add_adapter`."""
        self._check_open()
        with self._lock:
            if name in self._adapters:
                return
            keep_log()
            adapter = ll.llama_adapter_lora_init(self._model, str(path).encode()) if path.is_file() else None
            if not adapter:
                reason = last_log() if path.is_file() else "the file is missing"
                raise ModelError(f"adapter {path} does not fit {self.name}: {reason}. Train it again for this base.")
            self._adapters[name] = adapter

    def tokenize(self, text: str, *, special: bool = True) -> list[int]:
        """Token ids of the text, with the beginning-of-sequence token where the model wants one."""
        data = text.encode()
        room = len(data) + 8
        buffer = (ll.llama_token * room)()
        count = ll.llama_tokenize(self._vocab, data, len(data), buffer, room, self.adds_bos, special)
        return list(buffer[:count])

    def close(self) -> None:
        """Stop the thread and free the model; requests in flight raise `ModelError`."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._lock.notify_all()
        self._thread.join()
        self._samplers.free()
        ll.llama_batch_free(self._batch)
        ll.llama_free(self._context)
        ll.llama_model_free(self._model)

    def __enter__(self) -> LlamaCppEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ── the queue ───────────────────────────────────────────────────────────────────────────────────────────

    def _enqueue(self, requests: Sequence[tuple[Request, Callable[[str], None] | None]]) -> list[Future[Completion]]:
        jobs, futures = [], []
        for request, on_text in requests:
            future: Future[Completion] = Future()
            futures.append(future)
            text = (self.template.render(request.messages) if request.messages else "") + request.prefill
            tokens = self.tokenize(text)
            room = self.context - request.sampling.max_tokens
            if len(tokens) > room:
                future.set_exception(ModelError(
                    f"a prompt of {len(tokens)} tokens and {request.sampling.max_tokens} new ones do not fit the context "
                    f"of {self.context}. Raise models.context or shorten the text."))
                continue
            if request.adapter is not None and request.adapter not in self._adapters:
                future.set_exception(ModelError(f"no adapter '{request.adapter}' is registered with {self.name}."))
                continue
            job = _Job(future, request, tokens, prompt=len(tokens), on_text=on_text)
            if request.shared:
                head = self.tokenize(self.template.render(request.messages[: request.shared], answer=False))
                job.shared = _common(head, tokens[:-1])
            try:
                job.sampler = self._samplers.make(request)
            except ModelError as error:
                future.set_exception(error)
                continue
            jobs.append(job)
        _share_equal_prompts(jobs)
        self._queue(jobs)
        return futures

    def _check_open(self) -> None:
        if self._closing:  # llama.cpp aborts the whole process when a freed model is used
            raise ModelError(f"the engine of {self.name} is closed.")

    def _queue(self, jobs: Sequence[_Job]) -> None:
        with self._lock:
            self._check_open()
            self._waiting.extend(jobs)
            self._lock.notify_all()

    def _loop(self) -> None:
        while True:
            with self._lock:
                while not (self._waiting or self._running or self._closing):
                    self._lock.wait()
                if self._closing:
                    left = [*self._running, *self._waiting]
                    self._waiting.clear()
                    break
                admitted = self._admit()
            try:
                self._prepare(admitted)
                self._step()
            except Exception as error:  # noqa: BLE001  # the thread must outlive one bad batch; the callers get the error
                for job in list(self._running):
                    self._finish(job, error=ModelError(f"{self.name} failed: {error}"))
        for job in left:
            self._finish(job, error=ModelError(f"the engine of {self.name} was closed before the answer was done."))

    def _admit(self) -> list[_Job]:
        """Take waiting jobs in order while there are free sequences and the adapter stays the same."""
        admitted = []
        while self._waiting and self._free:
            job = self._waiting[0]
            if job.outcome.cancelled():
                self._waiting.popleft()
                job.free()
                continue
            if job.adapter != self._active_adapter:
                if self._running:
                    break
                self._switch_adapter(job.adapter)
            self._waiting.popleft()
            job.sequence = heapq.heappop(self._free)
            self._running.append(job)
            admitted.append(job)
        return admitted

    def _switch_adapter(self, name: str | None) -> None:
        if name is None:
            ll.llama_set_adapters_lora(self._context, None, 0, None)
        else:
            adapters = (ll.llama_adapter_lora_p_ctypes * 1)(self._adapters[name])
            ll.llama_set_adapters_lora(self._context, adapters, 1, (ctypes.c_float * 1)(1.0))
        ll.llama_memory_clear(self._memory, True)  # keys and values of another adapter are wrong, prefixes too
        self._prefixes.clear()
        self._active_adapter = name

    # ── one step ────────────────────────────────────────────────────────────────────────────────────────────

    def _prepare(self, admitted: Sequence[_Job]) -> None:
        for job in admitted:
            if job.shared < _SHORTEST_PREFIX:
                continue
            key = tuple(job.tokens[: job.shared])
            source = self._prefixes.get(key)
            if source is None:
                source = self._compute_prefix(key)
            self._prefixes.move_to_end(key)
            ll.llama_memory_seq_cp(self._memory, source, job.sequence, -1, -1)
            job.fed = job.shared

    def _compute_prefix(self, tokens: tuple[int, ...]) -> int:
        if len(self._prefixes) == _PREFIXES:
            _, sequence = self._prefixes.popitem(last=False)
        else:
            sequence = self.sequences + len(self._prefixes)
        ll.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        for start in range(0, len(tokens), _BATCH):
            self._batch.n_tokens = 0
            for position in range(start, min(start + _BATCH, len(tokens))):
                self._add(tokens[position], position, sequence, logits=False)
            self._decode()
        self._prefixes[tokens] = sequence
        return sequence

    def _step(self) -> None:
        """Feed the new prompts, then one token of every decoding job in one call; sample where a prompt is complete."""
        for job in [job for job in self._running if job.outcome.cancelled()]:
            self._finish(job)
        # A prompt goes alone: llama.cpp cuts a batch of unequal lengths into many passes of a few tokens each
        # (108 prompts of 60 tokens took 63 s mixed, 3 s alone).
        for job in [job for job in self._running if len(job.tokens) - job.fed > 1]:
            while len(job.tokens) - job.fed > 1 and job in self._running:
                self._feed([job])
        # It computes only sequences with consecutive ids, in ascending order, in one pass: with the ids in the order
        # of arrival, 32 sequences decode at 270 tokens/s instead of 700.
        self._feed(sorted(self._running, key=lambda job: job.sequence))

    def _feed(self, jobs: Sequence[_Job]) -> None:
        """One decode call: as many of the jobs' next tokens as fit, then samples and scores where they are due."""
        self._batch.n_tokens = 0
        outputs: list[tuple[_Job, int, int]] = []  # job, index in the batch, position in the job's tokens
        for job in jobs:
            end = min(len(job.tokens), job.fed + _BATCH - self._batch.n_tokens)
            for position in range(job.fed, end):
                last = position == len(job.tokens) - 1
                wanted = position >= job.prompt - 1 and not last if job.scoring else last
                if wanted:
                    outputs.append((job, self._batch.n_tokens, position))
                self._add(job.tokens[position], position, job.sequence, logits=wanted)
            job.fed = end
        if self._batch.n_tokens == 0:
            return
        self._decode()
        for job, index, position in outputs:
            if job.scoring is None:
                self._draw(job, index)
            else:
                job.logprobs.append(self._logprob(index, job.tokens[position + 1]))
        for job in [job for job in jobs if job.scoring and job.fed == len(job.tokens)]:
            self._finish(job)

    def _add(self, token: int, position: int, sequence: int, *, logits: bool) -> None:
        batch, i = self._batch, self._batch.n_tokens
        batch.token[i], batch.pos[i] = token, position
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
        batch.logits[i] = logits
        batch.n_tokens = i + 1

    def _decode(self) -> None:
        code = ll.llama_decode(self._context, self._batch)
        if code != 0:
            raise ModelError(f"llama_decode returned {code}: {last_log()}")

    def _draw(self, job: _Job, index: int) -> None:
        assert job.sampler is not None
        try:
            token = job.sampler.draw(self._context, index)
        except ModelError as error:  # this request's grammar; the others go on
            self._finish(job, error=error)
        else:
            self._take(job, token)

    def _take(self, job: _Job, token: int) -> None:
        """Append a sampled token to the job; finish it at the end of its turn, a stop string, or its length."""
        generated = len(job.tokens) - job.prompt
        self.decoded_tokens += 1
        sampling = job.request.sampling
        if ll.llama_vocab_is_eog(self._vocab, token):
            self._finish(job, finish="stop")
            return
        job.tokens.append(token)
        job.text += job.decoder.decode(self._piece(token))
        for stop in sampling.stop:
            at = job.text.find(stop)
            if at >= 0:
                job.text = job.text[:at]
                self._finish(job, finish="stop")
                return
        if generated + 1 >= sampling.max_tokens:
            self._finish(job, finish="length")
        elif job.on_text is not None:
            self._emit(job, hold=max((_overlap(job.text, stop) for stop in sampling.stop), default=0))

    def _emit(self, job: _Job, hold: int = 0) -> None:
        """Give the caller the new text, but not a tail that may become a stop string."""
        end = len(job.text) - hold
        if job.on_text is not None and end > job.emitted:
            job.on_text(job.text[job.emitted : end])
            job.emitted = end

    def _finish(self, job: _Job, *, finish: str = "stop", error: Exception | None = None) -> None:
        if job in self._running:
            self._running.remove(job)
        if job.sequence >= 0:
            ll.llama_memory_seq_rm(self._memory, job.sequence, -1, -1)
            heapq.heappush(self._free, job.sequence)
            job.sequence = -1
        job.free()
        try:
            if error is not None:
                job.outcome.set_exception(error)
            elif job.scoring is not None:
                job.scoring.set_result(float(np.mean(job.logprobs)))
            elif not job.future.cancelled():
                self._emit(job)
                job.future.set_result(Completion(
                    job.text, finish, job.prompt, len(job.tokens) - job.prompt, tag=job.request.tag))
        except InvalidStateError:
            pass  # cancelled in this very moment: nobody waits for it

    def _logprob(self, index: int, token: int) -> float:
        logits = logits_of(self._context, index, self._words).astype(np.float64)
        top = logits.max()
        return float(logits[token] - top - np.log(np.exp(logits - top).sum()))

    # ── the vocabulary ──────────────────────────────────────────────────────────────────────────────────────

    def _new_context(self, threads: int) -> ll.llama_context_p:
        params = ll.llama_context_default_params()
        params.n_seq_max = self.sequences + _PREFIXES
        params.n_ctx = params.n_seq_max * self.context
        params.n_batch = params.n_ubatch = _BATCH
        params.n_threads = params.n_threads_batch = threads
        params.kv_unified = False
        params.no_perf = True
        context = ll.llama_init_from_model(self._model, params)
        if not context:
            raise ModelError(
                f"no memory for {params.n_seq_max} sequences of {self.context} tokens ({last_log()}). "
                "Lower models.sequences or models.context.")
        return context

    def _has_token(self, text: str) -> bool:
        return len(self.tokenize(text)) - int(self.adds_bos) == 1

    def _piece(self, token: int) -> bytes:
        buffer = ctypes.create_string_buffer(64)
        size = ll.llama_token_to_piece(self._vocab, token, buffer, 64, 0, False)
        if size < 0:
            buffer = ctypes.create_string_buffer(-size)
            size = ll.llama_token_to_piece(self._vocab, token, buffer, -size, 0, False)
        return buffer.raw[:size]


def _share_equal_prompts(jobs: Sequence[_Job]) -> None:
    """Best-of-N asks the same prompt N times: compute it once, all but its last token."""
    seen = Counter(tuple(job.tokens) for job in jobs)
    for job in jobs:
        if seen[tuple(job.tokens)] > 1:
            job.shared = len(job.tokens) - 1


def _common(one: Sequence[int], two: Sequence[int]) -> int:
    count = 0
    for a, b in zip(one, two, strict=False):
        if a != b:
            break
        count += 1
    return count


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that begins `stop`."""
    return next((size for size in range(min(len(stop) - 1, len(text)), 0, -1) if text.endswith(stop[:size])), 0)
