"""What every engine keeps, whatever runs the model: one suite, inherited by the tests of each engine.

    class TestMyEngine(EngineContract):
        promises = frozenset({"same batch"})

        @pytest.fixture(scope="class")
        def engine(self, gguf_adapters): ...     # the embedded base, `slots` at once, context 384, queue of `queue`

        @pytest.fixture(scope="class")
        def adapters(self, gguf_adapters): ...   # two files by name, in the form that the engine takes

        @pytest.fixture
        def another(self): ...                   # one more engine, for the test that closes it

What a backend cannot promise it leaves out of `promises`; what it cannot do, it says by the flags below.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from pathlib import Path
from typing import Any

import pytest

from rostok.engines.protocol import Completion, Engine, Message, OnText, Request, Sampling
from rostok.errors import AdapterError, DeadlinePassed, GrammarError, ModelError, PromptTooLong

GREEDY = Sampling(max_tokens=12, temperature=0, dry=0)
WILD = Sampling(max_tokens=16, temperature=1.5, min_p=0.0, dry=0)
LONG = Sampling(max_tokens=250, temperature=1.0)
LISTING = "Ten things in a harbour:\n1. a rope\n2. a lamp\n3."
SCHEMA = {
    "type": "object", "required": ["kind", "count"], "additionalProperties": False,
    "properties": {"kind": {"enum": ["lamp", "rope"]}, "count": {"type": "integer"},
                   "names": {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 2}},
}
SECONDS = 120  # for what takes a fraction of that on an idle machine


def ask(text: str = "Why is the sky blue?", **fields: Any) -> Request:
    """A question in the model's chat template."""
    return Request((Message("user", text),), **{"sampling": GREEDY, **fields})


def raw(text: str, sampling: Sampling = GREEDY, **fields: Any) -> Request:
    """A prompt as it stands."""
    return Request((), sampling, prefill=text, **fields)


def answer(engine: Engine, request: Request, on_text: OnText | None = None) -> Completion:
    return engine.submit(request, on_text).result(SECONDS)


def answers(engine: Engine, requests: list[Request]) -> list[Completion]:
    return [future.result(SECONDS) for future in engine.submit_all(requests)]


class EngineContract:
    """Tests of an engine with the embedded base.

    Attributes:
        promises: `any batch` (prompt and random seed give the same text alone and among 64), `same batch` (the same batch
            gives the same texts again), `alone` (a request alone gives the same text again).
        slots: requests that run at once.
        queue: places of `engine`.
        takes_gbnf, takes_scale: grammars in GBNF; adapters at a scale other than 0 and 1.
    """

    promises: frozenset[str] = frozenset()
    slots = 4
    queue = 24
    takes_gbnf = True
    takes_scale = True

    @pytest.fixture(scope="class", autouse=True)
    def registered(self, engine: Engine, adapters: dict[str, Path]) -> Iterator[None]:
        """Both adapters under their names."""
        for name, path in adapters.items():
            engine.add_adapter(name, path)
        yield
        for name in adapters:
            engine.remove_adapter(name)

    # ── the same again ──────────────────────────────────────────────────────────────────────────────────────

    def test_prompt_and_seed_determine_the_text(self, engine: Engine) -> None:
        """Prevents: a night that cannot be repeated, as far as the backend can be repeated at all."""
        batch = [ask("Tell a story about a lamp.", seed=seed, sampling=Sampling(max_tokens=8, temperature=1.0))
                 for seed in range(64 if "any batch" in self.promises else 8)]
        first = [done.text for done in answers(engine, batch)]
        assert len(set(first)) > len(batch) / 2  # a best-of-N is of N texts
        if "any batch" in self.promises:
            assert [answer(engine, batch[i]).text for i in (0, 31, 63)] == [first[i] for i in (0, 31, 63)]
        if "same batch" in self.promises:
            assert [done.text for done in answers(engine, batch)] == first
        if "alone" in self.promises:
            assert answer(engine, batch[1]) == answer(engine, batch[1])

    def test_a_shared_prefix_changes_nothing(self, engine: Engine) -> None:
        """Prevents: keys and values that were copied from another prompt."""
        system = Message("system", "You answer in one short sentence. " * 12)
        texts = [answer(engine, Request((system, Message("user", text)), GREEDY, shared=shared)).text
                 for text in ("What is bread?", "What is rain?") for shared in (0, 1, 1)]
        assert texts[0] == texts[1] == texts[2]
        assert texts[3] == texts[4] == texts[5]
        assert texts[0] != texts[3]

    # ── constraints ─────────────────────────────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize(("grammar", "pattern"), [
        ('root ::= [a-z]+ " " [a-z]+ "."', r"[a-z]+ [a-z]+\."),
        ('root ::= ("yes" | "no")', "yes|no"),
        ('root ::= "[" [0-9] ("," [0-9]){2} "]"', r"\[\d,\d,\d\]"),
    ])
    def test_a_grammar_is_never_violated(self, engine: Engine, grammar: str, pattern: str) -> None:
        """Prevents: a free draw that passes although the grammar forbids it, or two requests in one grammar's state."""
        if not self.takes_gbnf:
            with pytest.raises(GrammarError):
                answer(engine, ask(grammar=grammar))
            return
        for done in answers(engine, [ask(seed=seed, sampling=WILD, grammar=grammar) for seed in range(12)]):
            if done.finish == "stop":
                assert re.fullmatch(pattern, done.text)
            else:  # at its length: the beginning of something that fits
                assert re.fullmatch(r"[a-z]+( [a-z]*)?", done.text)

    def test_a_schema_is_never_violated(self, engine: Engine) -> None:
        """Prevents: fields that do not parse, are missing, or hold something else."""
        sampling = Sampling(max_tokens=64, temperature=1.5, min_p=0.0, dry=0)
        whole = 0
        for done in answers(engine, [ask("Describe a thing as JSON.", seed=seed, sampling=sampling, schema=SCHEMA)
                                     for seed in range(12)]):
            if done.finish == "length":  # a number without an end
                continue
            value = json.loads(done.text)
            assert set(value) <= {"kind", "count", "names"}
            assert value["kind"] in ("lamp", "rope")
            assert type(value["count"]) is int
            assert len(value.get("names", ())) <= 2
            assert all(len(name) <= 6 for name in value.get("names", ()))
            whole += 1
        assert whole > 6

    def test_constrained_and_free_requests_run_side_by_side(self, engine: Engine) -> None:
        """Prevents: a grammar that is applied to a neighbour, or left behind in a place for the next one."""
        mixed = [ask(seed=seed, sampling=WILD, schema={"enum": ["yes", "no"]} if seed % 2 else None) for seed in range(8)]
        done = answers(engine, mixed)
        assert {item.text for item in done[1::2]} <= {'"yes"', '"no"'}
        assert not {item.text for item in done[::2]} & {'"yes"', '"no"'}

    @pytest.mark.parametrize(("fields", "words"), [
        ({"schema": {"type": "integer", "minimum": 3}}, "minimum"),
        ({"schema": {"type": "object", "properties": {"x": {"type": "string", "format": "email"}}}}, "email"),
        ({"schema": {"type": "string"}, "grammar": 'root ::= "a"'}, "not both"),
        ({"grammar": "root ::= ("}, "grammar"),
        ({"grammar": 'start ::= "a"'}, "grammar"),
    ])
    def test_a_constraint_that_cannot_be_kept_is_refused(self, engine: Engine, fields: dict[str, Any], words: str) -> None:
        """Prevents: a keyword that is passed over in silence, and a bad grammar that takes the engine down with it."""
        with pytest.raises(GrammarError, match=words):
            answer(engine, ask(**fields))
        assert answer(engine, ask()).tokens > 0

    # ── stop strings and streams ────────────────────────────────────────────────────────────────────────────

    def test_a_stop_string_never_leaks(self, engine: Engine) -> None:
        """Prevents: a stop string in a page, or its first letters in a stream when it is cut across tokens."""
        free = answer(engine, raw(LISTING, Sampling(max_tokens=16, temperature=0, dry=0))).text
        stops = (free[4:13], "\n4", "at ")
        shown: list[list[str]] = [[] for _ in range(6)]
        futures = [engine.submit(raw(LISTING, Sampling(max_tokens=16, temperature=0.3 * seed, dry=0, stop=stops), seed=seed),
                                 shown[seed].append) for seed in range(6)]
        for future, pieces in zip(futures, shown, strict=True):
            done = future.result(SECONDS)
            assert "".join(pieces) == done.text
            assert not [stop for stop in stops if stop in done.text]
        sampling = Sampling(max_tokens=16, temperature=0, dry=0, stop=stops[:1])
        pieces = []
        for done in (answer(engine, raw(LISTING, sampling)), answer(engine, raw(LISTING, sampling), pieces.append)):
            assert (done.text, done.finish) == (free[: free.index(stops[0])], "stop")
        assert "".join(pieces) == done.text

    def test_a_stream_adds_up_to_its_completion(self, engine: Engine) -> None:
        """Prevents: pieces that are lost, come twice, or cut a character in two; or a stream that waits for the end."""
        async def work() -> list[str | Completion]:
            return [item async for item in engine.stream(raw("Напиши: Первый снег", Sampling(max_tokens=16, temperature=0)))]

        *pieces, done = asyncio.run(work())
        assert isinstance(done, Completion)
        assert "".join(str(piece) for piece in pieces) == done.text
        assert "�" not in done.text.rstrip("�")
        assert len(pieces) > 2

    def test_a_stream_that_is_left_frees_its_place(self, engine: Engine) -> None:
        """Prevents: a browser tab that was closed and keeps the model busy."""
        async def leave() -> None:
            stream = engine.stream(ask("Tell a long story.", sampling=LONG))
            async for _ in stream:
                break
            await stream.aclose()  # type: ignore[attr-defined]

        async def work() -> None:
            await asyncio.gather(*(leave() for _ in range(2 * self.slots)))

        asyncio.run(work())
        assert answer(engine, ask()).tokens > 0

    def test_a_caller_that_chokes_on_a_piece_harms_nobody(self, engine: Engine) -> None:
        """Prevents: a broken chat window that ends the answers of all others."""
        def choke(text: str) -> None:
            raise KeyError("the window is gone")

        story = ask("Tell a story about a lamp.", sampling=Sampling(max_tokens=16, temperature=1.0))
        futures = [engine.submit(story), engine.submit(story, choke), engine.submit(story)]
        with pytest.raises(KeyError, match="the window is gone"):
            futures[1].result(SECONDS)
        assert [futures[i].result(SECONDS).tokens > 0 for i in (0, 2)] == [True, True]

    # ── adapters ────────────────────────────────────────────────────────────────────────────────────────────

    def test_no_adapter_leaves_a_trace(self, engine: Engine) -> None:
        """Prevents: B's or the base's answer from keys and values that A computed (ggml-org/llama.cpp#26207)."""
        prompt = ask("Tell me about the sea and its many shores.").messages

        def told(name: str | None) -> tuple[str, float]:
            text = engine.template.render(prompt)
            return (answer(engine, Request(prompt, GREEDY, adapter=name)).text,
                    engine.score(text, [" The sea is cold and the shore is long."], adapter=name)[0].nats)

        cold = {name: told(name) for name in ("b", None, "a")}  # b before any other has seen this prompt
        for name in ("b", None, "a", "b", "a", None):
            answers(engine, [Request(prompt, GREEDY, adapter="a" if name != "a" else "b")] * self.slots)  # in every place
            text, nats = told(name)
            assert nats == pytest.approx(cold[name][1], abs=0.3)  # the three are more than 1 apart
            if "alone" in self.promises:
                assert text == cold[name][0]
        nats = sorted(nats for _, nats in cold.values())
        assert min(nats[1] - nats[0], nats[2] - nats[1]) > 1

    def test_adapters_side_by_side_give_their_own_answers(self, engine: Engine) -> None:
        """Prevents: rows of a mixed batch that are computed with a neighbour's adapter."""
        first = Sampling(max_tokens=1, temperature=0, dry=0)
        texts = ("Why is the sky blue?", "Tell a story about a lamp.", "What is bread?", "Count to ten.")
        requests = [ask(text, adapter=name, sampling=first, logprobs=True) for text in texts for name in ("a", "b", None)]
        alone = [answer(engine, request).logprobs[0] for request in requests]
        mixed = [done.logprobs[0] for done in answers(engine, requests)]
        assert mixed == pytest.approx(alone, abs=0.1)  # another batch may round in another way
        for one, two in ((0, 1), (0, 2), (1, 2)):
            assert max(abs(x - y) for x, y in zip(alone[one::3], alone[two::3], strict=True)) > 0.2

    def test_scale_is_the_adapters_strength(self, engine: Engine) -> None:
        """Prevents: an expert at full strength where half was asked for, or at none."""
        prompt, text = engine.template.render(ask().messages), [" The sky is blue because the air scatters light."]
        base, whole = (engine.score(prompt, text, adapter=name)[0].nats for name in (None, "a"))
        assert engine.score(prompt, text, adapter="a", scale=0.0)[0].nats == pytest.approx(base, abs=0.1)
        assert answer(engine, ask(adapter="a", scale=0.0)).text == answer(engine, ask()).text
        if self.takes_scale:
            half = engine.score(prompt, text, adapter="a", scale=0.5)[0].nats
            assert min(abs(half - base), abs(half - whole)) > 0.1
        else:
            with pytest.raises(AdapterError, match=r"0\.5"):
                answer(engine, ask(adapter="a", scale=0.5))

    def test_an_unknown_adapter_is_refused_by_name(self, engine: Engine, adapters: dict[str, Path]) -> None:
        """Prevents: a mistyped or forgotten expert that answers as the base."""
        engine.add_adapter("gone", adapters["a"])
        engine.remove_adapter("gone")
        for name in ("s-404", "gone"):
            with pytest.raises(AdapterError, match=name):
                answer(engine, ask(adapter=name))
            with pytest.raises(AdapterError, match=name):
                engine.score("One", [" two"], adapter=name)
            with pytest.raises(AdapterError, match=name):
                engine.remove_adapter(name)

    @pytest.mark.parametrize("content", [None, b"", b"GGUF", b"no adapter at all"])
    def test_a_broken_adapter_is_refused(self, engine: Engine, adapters: dict[str, Path], tmp_path: Path,
                                         content: bytes | None) -> None:
        """Prevents: a crash for an adapter that is missing or cut, or a broken version in the place of a good one."""
        form = adapters["a"]
        path = tmp_path / f"broken{form.suffix}"
        if content is not None and form.is_dir():
            path.mkdir()
            for file in form.iterdir():
                (path / file.name).write_bytes(content)
        elif content is not None:
            path.write_bytes(content)
        before = answer(engine, ask(adapter="a")).text
        for name in ("fresh", "a"):
            with pytest.raises(AdapterError, match="broken"):
                engine.add_adapter(name, path)
        with pytest.raises(AdapterError, match="fresh"):
            answer(engine, ask(adapter="fresh"))
        if "alone" in self.promises:
            assert answer(engine, ask(adapter="a")).text == before

    # ── places, deadlines, cancellation ─────────────────────────────────────────────────────────────────────

    def test_a_cancelled_request_frees_its_slot(self, engine: Engine) -> None:
        """Prevents: a chat that was broken off and keeps its place to the end, or for good."""
        stories = [ask(f"Tell a long story about {name}.", sampling=LONG) for name in "abcd" * (self.slots // 4)]
        begun = time.monotonic()
        answers(engine, stories)
        whole = time.monotonic() - begun
        futures = engine.submit_all(stories * 3)
        time.sleep(min(0.3, whole / 4))
        begun = time.monotonic()
        assert all(future.cancel() for future in futures)
        answers(engine, [ask(seed=seed, sampling=Sampling(max_tokens=1)) for seed in range(self.slots)])
        assert time.monotonic() - begun < whole  # waiting for them would take two to three times as long
        with pytest.raises(CancelledError):
            futures[0].result(1)

    def test_a_deadline_frees_its_slot(self, engine: Engine) -> None:
        """Prevents: one answer without an end that holds up a stage, or takes its neighbours with it."""
        begun = time.monotonic()
        late = [engine.submit(ask(f"Tell a long story about {name}.", sampling=LONG, deadline=0.2))
                for name in range(3 * self.slots)]
        others = engine.submit(ask())
        for future in late:
            with pytest.raises(DeadlinePassed, match=r"0\.2 s"):
                future.result(SECONDS)
        assert time.monotonic() - begun < 10
        assert others.result(SECONDS).tokens > 0
        assert answer(engine, ask(deadline=SECONDS)).tokens > 0

    def test_no_more_are_inside_than_the_queue_holds(self, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
        """Prevents: a hundred thousand samplers in memory, or a caller that waits for a place that never comes."""
        start, lock, counts = engine._start_all, threading.Lock(), {"inside": 0, "most": 0}

        def counted(change: int) -> None:
            with lock:
                counts["inside"] += change
                counts["most"] = max(counts["most"], counts["inside"])

        def starting(requests: list[tuple[Request, OnText | None]]) -> list[Future[Completion]]:
            counted(len(requests))
            futures = start(requests)
            for future in futures:
                future.add_done_callback(lambda _: counted(-1))
            return futures

        monkeypatch.setattr(engine, "_start_all", starting)

        async def work() -> list[Completion]:
            return await asyncio.gather(*(engine.complete(ask(tag=number, sampling=Sampling(max_tokens=1)))
                                          for number in range(2 * self.queue)))

        assert [done.tag for done in asyncio.run(work())] == list(range(2 * self.queue))
        assert counts == {"inside": 0, "most": self.queue}

    def test_threads_and_loops_ask_at_once(self, engine: Engine) -> None:
        """Prevents: answers mixed up, or a deadlock, when agents and stages ask side by side."""
        found: dict[int, object] = {}

        def request(number: int) -> Request:
            return ask(tag=number, seed=number, sampling=Sampling(max_tokens=2))

        def thread(number: int) -> None:
            found[number] = answer(engine, request(number)).tag

        async def several(numbers: range) -> None:
            for done in await asyncio.gather(*(engine.complete(request(number)) for number in numbers)):
                found[int(str(done.tag))] = done.tag

        threads = [threading.Thread(target=thread, args=(number,)) for number in range(6)]
        threads += [threading.Thread(target=lambda start=start: asyncio.run(several(range(start, start + 10))))
                    for start in (6, 16)]
        for one in threads:
            one.start()
        for one in threads:
            one.join(SECONDS)
        assert found == {number: number for number in range(26)}

    # ── lengths and figures ─────────────────────────────────────────────────────────────────────────────────

    def test_a_prompt_that_is_too_long_is_refused_by_name(self, engine: Engine) -> None:
        """Prevents: one page too long that ends the whole night, or is cut in silence."""
        word = engine.tokenize("a a")[-1:]
        room = engine.context - 8 - len(engine.tokenize(""))
        longest = "a" + " a" * (room - 1)
        assert word
        assert len(engine.tokenize(longest)) == engine.context - 8
        done = answer(engine, raw(longest, Sampling(max_tokens=8, temperature=0, dry=0)))
        assert (done.prompt_tokens, done.tokens <= 8) == (engine.context - 8, True)
        with pytest.raises(PromptTooLong, match=f"{engine.context - 7} tokens.*{engine.context}"):
            answer(engine, raw(longest + " a", Sampling(max_tokens=8)))
        with pytest.raises(PromptTooLong):
            engine.score(longest, [" a" * 40])
        assert answer(engine, ask()).tokens > 0

    def test_completions_count_their_tokens_and_keep_their_tag(self, engine: Engine) -> None:
        """Prevents: tokens per second that count the prompt or the end of turn; answers to the wrong question."""
        requests = [ask(text, tag=text, sampling=Sampling(max_tokens=5)) for text in ("Hi", "Count to a hundred.", "Rain?")]
        done = answers(engine, requests)
        assert [item.tag for item in done] == ["Hi", "Count to a hundred.", "Rain?"]
        assert all(1 <= item.tokens <= 5 for item in done)
        assert done[1].prompt_tokens == len(engine.tokenize(engine.prompt(requests[1])))
        if self.takes_gbnf:  # one letter, and then the end of turn, which is not counted
            for logprobs in (False, True):
                letter = answer(engine, ask(grammar="root ::= [a-z]", logprobs=logprobs))
                assert (len(letter.text), letter.finish, letter.tokens) == (1, "stop", 1)
                assert len(letter.logprobs) == int(logprobs)

    def test_logprobs_are_of_the_drawn_tokens(self, engine: Engine) -> None:
        """Prevents: probabilities after sampling, of the prompt, or one too many for the end of turn."""
        for request in (ask(logprobs=True), ask(logprobs=True, sampling=Sampling(max_tokens=12, temperature=1.2)),
                        raw("1 2 3", Sampling(max_tokens=12, temperature=0, dry=0, stop=(" 5", "5")), logprobs=True)):
            done = answer(engine, request)
            assert len(done.logprobs) == done.tokens > 0
            assert all(value <= 0 for value in done.logprobs)
        assert answer(engine, ask()).logprobs == ()

    def test_a_score_is_the_sum_of_its_tokens(self, engine: Engine) -> None:
        """Prevents: likelihoods of the prompt, shifted by a token, or of the distribution that sampling has bent."""
        prompt = engine.template.render(ask().messages)
        done = answer(engine, Request((), GREEDY, prefill=prompt, logprobs=True))
        score = engine.score(prompt, [done.text])[0]
        assert score.tokens == done.tokens
        assert score.nats == pytest.approx(sum(done.logprobs), abs=0.15)
        adapted = answer(engine, Request((), GREEDY, prefill=prompt, logprobs=True, adapter="a"))
        assert engine.score(prompt, [adapted.text], adapter="a")[0].nats == pytest.approx(sum(adapted.logprobs), abs=0.15)

    def test_scores_prefer_what_is_likely_and_keep_their_order(self, engine: Engine) -> None:
        """Prevents: scores in the order in which they were finished; letters that are tokens only in part left out."""
        texts = [" Paris.", " carburettor.", " the city of Paris, where", " Париж", " 日本"]
        scores = engine.score("The capital of France is", texts)
        assert scores[1].mean < scores[0].mean < 0
        assert [score.nats for score in engine.score("The capital of France is", texts[::-1])] == pytest.approx(
            [score.nats for score in scores[::-1]], abs=0.15)
        head = len(engine.tokenize("The capital of France is"))
        assert [score.tokens for score in scores] == [
            len(engine.tokenize("The capital of France is" + text)) - head for text in texts]

    # ── the end ─────────────────────────────────────────────────────────────────────────────────────────────

    def test_closing_tells_those_who_wait(self, another: Engine) -> None:
        """Prevents: a stage that waits for ever for an engine that was closed, or whose late request crashes the process."""
        futures = another.submit_all([ask("Tell a long story.", seed=seed, sampling=LONG) for seed in range(2 * self.slots)])
        scores = another.submit_scores("One", [" two"])
        time.sleep(0.2)
        another.close()
        another.close()
        wait_for([*futures, *scores], 10)
        for future in futures:
            with pytest.raises(ModelError, match="was closed before the answer was done"):
                future.result(0)
        with pytest.raises(ModelError, match="is closed"):
            another.submit(ask())
