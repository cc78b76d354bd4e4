"""llama.cpp in this process, many completions at once: continuous batching on the low-level API of llama-cpp-python.

One thread owns the context. A shared prefix is computed once and copied. Only requests with the same adapter and scale
share a batch, and what was computed with one adapter is never read with another.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from rostok.engines.context import BATCH, Context
from rostok.engines.job import Job, common, share_equal_prompts
from rostok.engines.mixture import Mixture
from rostok.engines.protocol import QUEUE, Completion, Engine, OnText, Request, Score
from rostok.engines.sampling import Samplers
from rostok.engines.shelf import Adapter, Line, Shelf, stamp_of
from rostok.engines.templates import template_for
from rostok.engines.waiting import Waiting
from rostok.errors import AdapterError, DeadlinePassed, ModelError, PromptTooLong

_PREFIXES = 4          # shared prefixes kept at once, each in a stream of its own
_SHORTEST_PREFIX = 32  # tokens; copying less costs more than computing it
_DRIBBLE = 8           # so few tokens of a prompt go one by one with everybody's next token instead of in a pass of their own
_SCORED = 128          # tokens with logits in one pass: a row is 200 KB with 49,000 words
_TURN = 4              # rounds of requests that one adapter may have while another waits

T = TypeVar("T")


class LlamaCppEngine(Engine):
    """A GGUF model on llama.cpp. See `rostok.engines.protocol.Engine`.

    Args:
        gguf: the model's file.
        sequences: completions in flight at once; fewer where the memory holds fewer (`self.sequences` tells).
        context: tokens of one sequence, prompt and completion together.
        threads: 0 takes every core this process may use.
        gpu_layers: layers put on a GPU (-1: all), where llama.cpp was built for one. Not run here.
        queue: requests that may wait or run at once; who submits more waits.

    Raises:
        ModelError: no such file, not a GGUF, cut short, too large for the memory, or of a family without a known
            chat template.
    """

    mixes = True

    def __init__(self, gguf: Path, *, sequences: int = 64, context: int = 1024, threads: int = 0, gpu_layers: int = -1,
                 queue: int = QUEUE) -> None:
        super().__init__(queue)
        self._llama = Context(gguf, sequences=sequences + _PREFIXES, context=context, threads=threads, gpu_layers=gpu_layers)
        self.name, self.context, self.adds_bos = self._llama.name, context, self._llama.adds_bos
        try:
            self.template = template_for(lambda text: len(self.tokenize(text)) - int(self.adds_bos) == 1, self.name)
        except ModelError:
            self._llama.close()
            raise
        self._prefix_room = min(_PREFIXES, self._llama.streams - 1)
        self.sequences = self._llama.streams - self._prefix_room
        self._samplers = Samplers(self._llama)
        self._free = list(range(self.sequences))  # a heap, so that the lowest are taken first
        self._prefixes: OrderedDict[tuple[Line, tuple[int, ...]], int] = OrderedDict()  # the streams that hold them
        self._shelf = Shelf(self._llama)
        self._waiting: Waiting[Job] = Waiting(_TURN * self.sequences)
        self._running: list[Job] = []
        self._mixtures: list[Mixture] = []
        self._mixed = False  # whether the last to be given places was a mixture
        self._deadlines: list[tuple[float, int, Job]] = []
        self._orders: deque[tuple[Callable[[], object], Future[object]]] = deque()
        self._lock = threading.Condition()
        self._closing = False
        self.decoded_tokens = 0
        self._thread = threading.Thread(target=self._loop, name="llama.cpp", daemon=True)
        self._thread.start()

    # ── what callers reach ──────────────────────────────────────────────────────────────────────────────────

    def _start_all(self, requests: Sequence[tuple[Request, OnText | None]]) -> list[Future[Completion]]:
        self._check_open()
        jobs = []
        for request, on_text in requests:
            tokens = self.tokenize(self.prompt(request))
            job = Job(request, tokens, prompt=len(tokens), on_text=on_text)
            jobs.append(job)
            try:
                self._check_fits(len(tokens), request.sampling.max_tokens)
                if len(request.voices) > self.sequences:
                    raise ModelError(f"{len(request.voices)} voices do not fit the {self.sequences} sequences of {self.name}. "
                                     "Raise models.sequences.")
                if request.shared:
                    head = self.tokenize(self.template.render(request.messages[: request.shared], answer=False))
                    job.shared = common(head, tokens[:-1])
                job.sampler = self._samplers.make(request)
            except ModelError as error:
                job.fail(error)
        share_equal_prompts(jobs)
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
            job = Job(Request((), adapter=adapter, scale=scale), tokens, prompt=first, scoring=True, shared=first - 1)
            try:
                self._check_fits(len(tokens), 0)
                if len(tokens) < 2:
                    raise ModelError("nothing to score: prompt and continuation together are less than two tokens.")
            except ModelError as error:
                job.fail(error)
            jobs.append(job)
        self._queue(jobs)
        return [job.outcome for job in jobs]

    def add_adapter(self, name: str, path: Path) -> None:
        """Register a GGUF LoRA adapter; see `Engine.add_adapter`."""
        file = path / "adapter.gguf" if path.is_dir() else path

        def add() -> None:
            fresh = Adapter(name, file, stamp_of(file))
            self._shelf.load(fresh)
            with self._lock:
                self._shelf.put(fresh)

        self._order(add)

    def remove_adapter(self, name: str) -> None:
        """Forget an adapter; see `Engine.remove_adapter`."""
        def remove() -> None:
            with self._lock:
                if not self._shelf.retire(name):
                    raise self._unknown(name)

        self._order(remove)

    def hold(self, adapters: int) -> None:
        """Keep at most so many adapters in memory; see `Engine.hold`."""
        self._order(lambda: self._shelf.hold(adapters))

    def tokenize(self, text: str) -> list[int]:
        """Token ids of the text, with the beginning-of-sequence token where the model wants one."""
        return self._llama.tokenize(text)

    def close(self) -> None:
        """Stop the thread and free the model; requests in flight raise `ModelError`."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self._lock.notify_all()
        self._thread.join()
        self._samplers.free()
        self._llama.close()

    # ── the queue ───────────────────────────────────────────────────────────────────────────────────────────

    def _check_open(self) -> None:
        if self._closing:  # llama.cpp aborts the whole process when a freed model is used
            raise ModelError(f"the engine of {self.name} is closed.")

    def _check_fits(self, prompt: int, new: int) -> None:
        if prompt + new > self.context:
            raise PromptTooLong(f"a prompt of {prompt} tokens and {new} new ones do not fit the context of {self.context}. "
                                "Raise models.context or shorten the text.")

    def _queue(self, jobs: Sequence[Job]) -> None:
        """Let the jobs that have not failed yet wait for their turn."""
        with self._lock:
            self._check_open()
            for job in jobs:
                named = [(name, self._shelf.find(name), scale) for name, scale in self._named(job.request)]
                job.line = tuple((adapter, scale) for _, adapter, scale in named if adapter is not None)
                for name in [name for name, adapter, _ in named if adapter is None]:
                    job.fail(self._unknown(name))
                if job.over:
                    job.free()
                    continue
                for adapter, _ in job.line:
                    adapter.users += 1
                if job.request.deadline is not None:
                    job.until = time.monotonic() + job.request.deadline
                    heapq.heappush(self._deadlines, (job.until, id(job), job))
                if job.request.voices:
                    lines = iter([((adapter, 1.0),) for adapter, _ in job.line])
                    voices = [(next(lines) if name is not None else (), weight) for name, weight in job.request.voices]
                    self._mixtures.append(Mixture(job, voices))
                else:
                    self._waiting.put(job)
            self._lock.notify_all()

    def _named(self, request: Request) -> Sequence[tuple[str, float]]:
        """The adapters that are to be at work for a request, with their scales."""
        if request.blend:
            return request.blend
        if request.voices:
            return [(name, 1.0) for name, _ in request.voices if name is not None]
        return () if request.adapter is None else ((request.adapter, request.scale),)

    def _order(self, work: Callable[[], T]) -> T:
        """Have the engine's thread do something between two steps, and wait for it."""
        done: Future[object] = Future()
        with self._lock:
            self._check_open()
            self._orders.append((work, done))
            self._lock.notify_all()
        return done.result()  # type: ignore[return-value]

    def _unknown(self, name: str) -> AdapterError:
        return AdapterError(f"no adapter '{name}' is registered with {self.name}.")

    # ── the engine's thread ─────────────────────────────────────────────────────────────────────────────────

    def _loop(self) -> None:
        while True:
            with self._lock:
                while not (self._waiting or self._running or self._mixtures or self._orders or self._closing):
                    self._lock.wait()
                if self._closing:
                    break
            self._obey()
            try:
                self._give_up()
                self._mix()
                self._admit()
                self._prefill()
                self._decode()
            except Exception as error:  # noqa: BLE001  # the thread must outlive one bad batch; the callers get the error
                for job in [*self._running, *(mixture.job for mixture in self._mixtures)]:
                    self._finish(job, error=ModelError(f"{self.name} failed: {error}"))
        with self._lock:
            left = [*self._running, *self._waiting.drain(), *(mixture.job for mixture in self._mixtures)]
            orders = list(self._orders)
        closed = ModelError(f"the engine of {self.name} was closed before the answer was done.")
        for job in left:
            self._finish(job, error=closed)
        for _, done in orders:
            done.set_exception(closed)

    def _obey(self) -> None:
        while self._orders:
            work, done = self._orders.popleft()
            try:
                done.set_result(work())
            except Exception as error:  # noqa: BLE001  # it belongs to whoever gave the order
                done.set_exception(error)
        for adapter in self._shelf.sweep():
            for key in [key for key in self._prefixes if any(one is adapter for one, _ in key[0])]:
                self._forget_prefix(key)

    def _give_up(self) -> None:
        """Free the places of those whose caller has gone, and of those whose time is over."""
        now = time.monotonic()
        while self._deadlines and self._deadlines[0][0] <= now:
            _, _, job = heapq.heappop(self._deadlines)
            job.fail(DeadlinePassed(f"{self.name} had no answer within the {job.request.deadline:g} s that it was given. "
                                    "Allow more time, or ask for fewer tokens."))
        for job in [job for job in self._running if job.over]:
            self._finish(job)

    def _admit(self) -> None:
        """Give free sequences to those who wait, and the shared prefixes to the admitted."""
        while len(self._free) > self._kept_free():
            with self._lock:
                job = self._waiting.take(self._shelf.at_work, idle=not self._running)
            if job is None:
                break
            if job.over:
                self._finish(job)
                continue
            if job.line != self._shelf.at_work:
                try:
                    self._shelf.use(job.line)
                except AdapterError as error:
                    self._finish(job, error=error)
                    continue
            job.sequence = heapq.heappop(self._free)
            self._running.append(job)
            self._mixed = False
            if job.shared >= _SHORTEST_PREFIX:
                self._llama.copy(self._prefix(tuple(job.tokens[: job.shared])), job.sequence)
                job.fed = job.shared

    def _next_mixture(self) -> Mixture | None:
        """The mixture that waits for places and has the turn: one of them, then one of those who speak alone, if any waits."""
        with self._lock:
            if self._mixed and self._waiting:
                return None
            return next((mixture for mixture in self._mixtures if not mixture.sequences and not mixture.job.over), None)

    def _kept_free(self) -> int:
        """Sequences kept for the next mixture: it needs several at once, which a busy engine never has free."""
        mixture = self._next_mixture()
        return len(mixture.voices) if mixture is not None else 0

    def _seat(self) -> None:
        """Give the mixtures whose turn it is their places."""
        while (mixture := self._next_mixture()) is not None and mixture.seat(self._free):
            self._mixed = True

    def _mix(self) -> None:
        """One word of every mixture; the batch of the others goes on with its own adapter afterwards."""
        self._seat()
        with self._lock:
            mixtures = list(self._mixtures)
        at_work = self._shelf.at_work
        for mixture in mixtures:
            job = mixture.job
            if not job.over and mixture.sequences:
                try:
                    self._draw(job, mixture.step(self._llama, self._shelf.use))
                except AdapterError as error:
                    self._finish(job, error=error)
            elif job.over:
                self._finish(job)
            if job.over:
                mixture.rise(self._llama, self._free)
                with self._lock:
                    self._mixtures.remove(mixture)
        if mixtures and self._running and self._shelf.at_work != at_work:
            try:
                self._shelf.use(at_work)
            except AdapterError as error:  # its file was changed while the mixture had its place in memory
                for job in list(self._running):
                    self._finish(job, error=error)

    def _prefix(self, tokens: tuple[int, ...]) -> int:
        """The stream that holds these tokens as the adapter at work reads them; computed if it is not there."""
        key = (self._shelf.at_work, tokens)
        if key not in self._prefixes:
            if len(self._prefixes) == self._prefix_room:
                self._forget_prefix(next(iter(self._prefixes)))
            taken = set(self._prefixes.values())
            stream = next(s for s in range(self.sequences, self._llama.streams) if s not in taken)
            for start in range(0, len(tokens), BATCH):
                self._llama.add(tokens[start : start + BATCH], start, stream)
                self._llama.decode()
            self._prefixes[key] = stream
        self._prefixes.move_to_end(key)
        return self._prefixes[key]

    def _forget_prefix(self, key: tuple[Line, tuple[int, ...]]) -> None:
        self._llama.clear(self._prefixes.pop(key))

    # ── one step ────────────────────────────────────────────────────────────────────────────────────────────

    def _prefill(self) -> None:
        """Compute the prompts, several in one pass: all but their last token, which goes with the others' next one, if any.

        llama.cpp computes only sequences with consecutive ids and equally many tokens in one pass; a mixed batch is cut
        into many small ones (108 prompts of 60 tokens took 63 s mixed, 1.0 s one by one).
        """
        while True:
            few = _DRIBBLE if len(self._running) > _DRIBBLE else 1  # among few, the first token comes sooner so
            behind = sorted((job for job in self._running if job.left > few or (job.scoring and job.left)),
                            key=lambda job: job.sequence)
            if not behind:
                return
            room = _SCORED if behind[0].scoring else BATCH
            group = [behind[0]]
            tokens = min(self._due(behind[0]), room)
            for job in behind[1:]:
                fewer = min(tokens, self._due(job))
                if (job.sequence != group[-1].sequence + 1 or job.scoring != group[0].scoring
                        or fewer * (len(group) + 1) > room or fewer < tokens // 2):
                    break
                group.append(job)
                tokens = fewer
            self._feed(group, tokens)

    def _due(self, job: Job) -> int:
        """Tokens of a job that can be computed ahead of the common step: alone, the last one too, which saves it a pass."""
        return job.left if job.scoring or len(self._running) == 1 else job.left - 1

    def _decode(self) -> None:
        """One token of every job in one pass."""
        if not self._running:
            return
        self._close_ranks()
        self._feed(sorted(self._running, key=lambda job: job.sequence), 1)

    def _close_ranks(self) -> None:
        """Move the last sequences into holes that nobody waits for: a hole cuts the pass in two (58 of 64: 112 ms, not 76)."""
        last = max(self._running, key=lambda job: job.sequence)
        while self._free and self._free[0] < last.sequence:
            hole = heapq.heapreplace(self._free, last.sequence)
            self._llama.copy(last.sequence, hole)
            self._llama.clear(last.sequence)
            last.sequence = hole
            last = max(self._running, key=lambda job: job.sequence)

    def _feed(self, jobs: Sequence[Job], count: int) -> None:
        """One pass over the next `count` tokens of each job, then draws and scores where they are due."""
        due: list[tuple[Job, int]] = []  # with the index in the batch of the first token that has logits
        for job in jobs:
            end = job.fed + count
            if job.scoring:
                outputs = range(max(0, job.prompt - 1 - job.fed), min(count, len(job.tokens) - 1 - job.fed))
            else:
                outputs = range(count - 1, count) if end == len(job.tokens) else range(0)
            first = self._llama.add(job.tokens[job.fed : end], job.fed, job.sequence, outputs)
            if outputs:
                due.append((job, first + outputs.start))
        self._llama.decode()
        for job in jobs:
            job.fed += count
        for job, index in due:
            if job.scoring:
                start = max(job.prompt, job.fed - count + 1)
                job.logprobs += [self._llama.logprob(index + i, token)
                                 for i, token in enumerate(job.tokens[start : job.fed + 1])]
            else:
                self._draw(job, index)
        for job in jobs:
            if job.scoring and job.left == 0:
                self._finish(job)

    def _draw(self, job: Job, index: int) -> None:
        assert job.sampler is not None
        try:
            token = job.sampler.draw(index)
        except ModelError as error:  # this request's grammar; the others go on
            self._finish(job, error=error)
            return
        self.decoded_tokens += 1
        if self._llama.ends(token):
            self._finish(job)
            return
        if job.request.logprobs:
            job.logprobs.append(self._llama.logprob(index, token))
        finish = job.grow(token, self._llama.piece(token))
        if finish is not None:
            self._finish(job, finish)

    def _finish(self, job: Job, finish: str = "stop", *, error: Exception | None = None) -> None:
        """Free the job's place, then answer its caller."""
        if job in self._running:
            self._running.remove(job)
        if job.sequence >= 0:
            self._llama.clear(job.sequence)
            heapq.heappush(self._free, job.sequence)
            job.sequence = -1
        job.free()
        with self._lock:
            for adapter, _ in job.line:
                adapter.users -= 1
            job.line = ()
        if error is not None:
            job.fail(error)
        elif not job.over:
            job.answer(finish)
