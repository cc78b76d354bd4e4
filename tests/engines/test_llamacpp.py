"""The engine with the embedded base: what stages rely on, whatever the model says."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from itertools import pairwise
from pathlib import Path

import pytest

from rostok.engines.llamacpp import LlamaCppEngine
from rostok.engines.protocol import Message, Request, Sampling
from rostok.errors import ModelError

SHORT = Sampling(max_tokens=12)
LISTING = "Ten things in a harbour:\n1. a rope\n2. a lamp\n3."


def ask(
    text: str = "Why is the sky blue?", *, seed: int = 0, sampling: Sampling = SHORT, **fields: object
) -> Request:
    return Request((Message("user", text),), sampling, seed=seed, **fields)  # type: ignore[arg-type]


def test_a_stop_string_never_leaks(engine: LlamaCppEngine) -> None:
    """Prevents: a stop string in a page, or its first letters in a stream, when it is cut across tokens."""
    sampling = Sampling(max_tokens=24, temperature=1.0, stop=("\n4", "lantern", "at "))
    streams: list[list[str]] = [[] for _ in range(6)]
    futures = [
        engine.submit(Request((), sampling, prefill=LISTING, seed=seed), streams[seed].append) for seed in range(6)
    ]
    finishes = set()
    for future, pieces in zip(futures, streams, strict=True):
        done = future.result(timeout=60)
        finishes.add(done.finish)
        assert "".join(pieces) == done.text
        assert not [stop for stop in sampling.stop if stop in done.text]
    assert "stop" in finishes


def test_a_stop_string_of_several_tokens_is_held_back(engine: LlamaCppEngine) -> None:
    """Prevents: the beginning of a long stop string that was streamed before the rest of it came."""
    free = engine.submit(Request((), Sampling(max_tokens=20, temperature=0), prefill=LISTING)).result(timeout=60)
    stop = free.text[4:14]
    pieces: list[str] = []
    sampling = Sampling(max_tokens=20, temperature=0, stop=(stop,))
    held = engine.submit(Request((), sampling, prefill=LISTING), pieces.append).result(timeout=60)
    assert (held.text, held.finish, "".join(pieces)) == (free.text[: free.text.index(stop)], "stop", held.text)


@pytest.mark.parametrize(
    ("grammar", "pattern"),
    [
        ('root ::= [a-z]+ " " [a-z]+ "."', r"[a-z]+ [a-z]+\."),
        ('root ::= ("yes" | "no")', "yes|no"),
        ('root ::= "[" [0-9] ("," [0-9]){2} "]"', r"\[\d,\d,\d\]"),
    ],
)
def test_a_grammar_is_never_violated(engine: LlamaCppEngine, grammar: str, pattern: str) -> None:
    """Prevents: free draws that pass although the grammar forbids them, or two requests in one grammar's state."""
    sampling = Sampling(max_tokens=14, temperature=1.5, min_p=0.0)
    futures = engine.submit_all([ask(seed=seed, sampling=sampling, grammar=grammar) for seed in range(4)])
    for done in [future.result(timeout=60) for future in futures]:
        if done.finish == "stop":
            assert re.fullmatch(pattern, done.text)
        else:  # cut at max_tokens: still the beginning of something that fits
            assert re.fullmatch(r"[a-z]+( [a-z]*)?", done.text)


def test_the_same_batch_gives_the_same_texts(engine: LlamaCppEngine) -> None:
    """Prevents: a night that cannot be repeated; also that all seeds of a best-of-N give one text."""
    batch = [
        ask("Tell a story about a lamp.", seed=seed, sampling=Sampling(max_tokens=12, temperature=1.0))
        for seed in range(8)
    ]
    first, second = ([future.result(timeout=60).text for future in engine.submit_all(batch)] for _ in range(2))
    assert first == second
    assert len(set(first)) > 4


def test_a_shared_prefix_changes_nothing(engine: LlamaCppEngine) -> None:
    """Prevents: copied keys and values that belong to another prompt."""
    system = Message("system", "You answer in one short sentence. " * 12)
    greedy = Sampling(max_tokens=10, temperature=0)
    requests = [
        Request((system, Message("user", text)), greedy, shared=shared)
        for text in ("What is bread?", "What is rain?")
        for shared in (0, 1)
    ]
    texts = [engine.submit(request).result(timeout=60).text for request in requests]
    assert texts[0] == texts[1]
    assert texts[2] == texts[3]
    assert texts[0] != texts[2]


def test_completions_count_their_tokens_and_keep_their_tag(engine: LlamaCppEngine) -> None:
    """Prevents: figures of tokens per second that count the prompt, and answers given to the wrong question."""
    requests = [
        ask(text, tag=text, sampling=Sampling(max_tokens=5)) for text in ("Hi", "Count to a hundred.", "Rain?")
    ]
    done = [future.result(timeout=60) for future in engine.submit_all(requests)]
    assert [item.tag for item in done] == ["Hi", "Count to a hundred.", "Rain?"]
    assert all(1 <= item.tokens <= 5 for item in done)
    prompt = engine.template.render(requests[1].messages)
    assert done[1].prompt_tokens == len(engine.tokenize(prompt))


def test_score_prefers_what_is_likely(engine: LlamaCppEngine) -> None:
    """Prevents: likelihoods of the prompt instead of the continuation, or in another order than asked for."""
    likely, unlikely = engine.score("The capital of France is", [" Paris.", " carburettor."])
    assert unlikely < likely < 0
    assert engine.score("The capital of France is", [" carburettor.", " Paris."]) == pytest.approx(
        [unlikely, likely], abs=1e-3
    )


def test_a_prompt_that_is_too_long_is_refused_by_name(engine: LlamaCppEngine) -> None:
    """Prevents: one page too long that ends the whole night, or is cut in silence."""
    future = engine.submit(ask("word " * 500))
    with pytest.raises(ModelError, match=r"a prompt of \d+ tokens and 12 new ones do not fit the context of 384"):
        future.result(timeout=60)
    assert engine.submit(ask(sampling=Sampling(max_tokens=2))).result(timeout=60).tokens == 2


def test_an_unknown_adapter_is_refused_by_name(engine: LlamaCppEngine) -> None:
    """Prevents: a mistyped expert that answers as the base."""
    with pytest.raises(ModelError, match="no adapter 's-404' is registered"):
        engine.submit(ask(adapter="s-404")).result(timeout=60)


@pytest.mark.parametrize("content", [None, b"", b"GGUF", b"no adapter at all"])
def test_an_adapter_file_that_does_not_fit_is_refused(
    engine: LlamaCppEngine, tmp_path: Path, content: bytes | None
) -> None:
    """Prevents: a crash of the process for an adapter that is missing or cut."""
    path = tmp_path / "adapter.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"adapter .*adapter\.gguf does not fit"):
        engine.add_adapter("broken", path)


def test_a_grammar_that_cannot_be_compiled_is_refused(engine: LlamaCppEngine) -> None:
    """Prevents: a broken grammar that takes the engine's thread down with it."""
    with pytest.raises(ModelError, match="grammar cannot be compiled"):
        engine.submit(ask(grammar="root ::= (")).result(timeout=60)


def test_a_cancelled_request_frees_its_slot(engine: LlamaCppEngine) -> None:
    """Prevents: a chat that was broken off and keeps its sequence for good, until none is left."""
    long = Sampling(max_tokens=250, temperature=1.0)
    futures = [
        engine.submit(ask(f"Tell a long story about {name}.", sampling=long))
        for name in ("a", "b", "c", "d", "e", "f")
    ]  # two more than there are sequences
    time.sleep(0.2)
    for future in futures:
        future.cancel()
    begun = time.monotonic()
    done = [
        future.result(timeout=60)
        for future in engine.submit_all([ask(seed=seed, sampling=Sampling(max_tokens=2)) for seed in range(4)])
    ]
    assert len(done) == 4
    assert time.monotonic() - begun < 30
    with pytest.raises(CancelledError):
        futures[-1].result(timeout=1)


def test_requests_are_answered_side_by_side(engine: LlamaCppEngine) -> None:
    """Prevents: a new request that is answered to its end before the others go on, so that nothing is batched."""
    order: list[str] = []
    sampling = Sampling(max_tokens=16, temperature=0)
    futures = [
        engine.submit(ask(text, sampling=sampling), lambda _, name=text: order.append(name))  # type: ignore[misc]
        for text in ("Why is the sky blue?", "Tell a story about a lamp.")
    ]
    for future in futures:
        future.result(timeout=60)
    assert sum(one != two for one, two in pairwise(order)) > 8


def test_many_threads_may_ask_at_once(engine: LlamaCppEngine) -> None:
    """Prevents: answers mixed up, or a deadlock, when the agents' branches submit side by side."""
    answers: dict[int, object] = {}

    def work(number: int) -> None:
        answers[number] = (
            engine.submit(ask(seed=number, tag=number, sampling=Sampling(max_tokens=3))).result(60).tag
        )

    threads = [threading.Thread(target=work, args=(number,)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert answers == {number: number for number in range(10)}


def test_a_model_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """Prevents: a crash inside llama.cpp for a mistyped path."""
    with pytest.raises(ModelError, match=r"no model file .*absent\.gguf"):
        LlamaCppEngine(tmp_path / "absent.gguf")


def test_a_file_that_is_no_gguf_is_told(tmp_path: Path) -> None:
    """Prevents: safetensors or a download's error page given to llama.cpp."""
    path = tmp_path / "model.gguf"
    path.write_text("<html>404</html>")
    with pytest.raises(ModelError, match="is not a GGUF file"):
        LlamaCppEngine(path)


@pytest.mark.parametrize("share", [0.0001, 0.5])
def test_a_gguf_that_was_cut_is_told(tmp_path: Path, base_gguf: Path, share: float) -> None:
    """Prevents: a broken download that crashes the process or answers noise."""
    path = tmp_path / "model.gguf"
    with base_gguf.open("rb") as file:
        path.write_bytes(file.read(max(int(base_gguf.stat().st_size * share), 64)))
    with pytest.raises(ModelError, match=r"model\.gguf cannot be loaded.*It may be cut short"):
        LlamaCppEngine(path)


def test_closing_tells_those_who_wait(base_gguf: Path) -> None:
    """Prevents: a stage that waits for ever for an answer of an engine that was closed."""
    engine = LlamaCppEngine(base_gguf, sequences=2, context=256, threads=1)
    futures = engine.submit_all([ask(seed=seed, sampling=Sampling(max_tokens=200)) for seed in range(5)])
    time.sleep(0.2)
    engine.close()
    engine.close()
    for future in futures:
        with pytest.raises(ModelError, match="was closed before the answer was done"):
            future.result(timeout=5)


def test_a_closed_engine_refuses(base_gguf: Path) -> None:
    """Prevents: a late request that aborts the whole process; hence a process of its own."""
    code = """
import sys
from pathlib import Path
from rostok.engines.llamacpp import LlamaCppEngine
from rostok.engines.protocol import Message, Request
from rostok.errors import ModelError
engine = LlamaCppEngine(Path(sys.argv[1]), sequences=1, context=256, threads=1)
engine.close()
try:
    engine.submit(Request((Message("user", "Hi"),)))
except ModelError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(base_gguf)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0
    assert "is closed" in done.stdout
