"""OpenAI's protocol: by its own client, by `llm`, and by clients that know it badly."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import openai
import pytest

from rostok.engines.protocol import Message, Request
from rostok.ensemble.conversation import Ensemble
from rostok.ensemble.serve.limits import Limits
from rostok.errors import ModelError
from rostok.seeds.record import Seed
from tests.ensemble.serve.at_work import Served, serving

CLOCK = "What does the escapement do?"
FRANCE = "What is the capital of France?"


@pytest.fixture
def client(served: Served) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{served.address}/v1", api_key="none", max_retries=0,
                         http_client=httpx2.Client(trust_env=False))


def _post(served: Served, body: Any, **more: Any) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return served.client(token=None).post("/v1/chat/completions", content=content,
                                          headers={"content-type": "application/json", **more})


def _ask(text: str = CLOCK, **more: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": text}], "max_tokens": 4, **more}


def _users(text: str) -> Any:
    return [{"role": "user", "content": text}]


def test_the_models_are_auto_base_and_each_expert(client: openai.OpenAI, ensemble: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: a client's list without the router, or with an expert under a name that it cannot be asked by."""
    names = [model.id for model in client.models.list()]
    assert names[:2] == ["auto", "base"]
    assert sorted(names[2:]) == sorted(expert.id for expert in ensemble.experts.values())
    assert client.models.retrieve(names[2]).id == names[2]
    assert client.models.retrieve(seeds[0].id).id == ensemble.experts[seeds[0].id].id
    for stranger in ("gpt-4o", "../experts", "experts/" + seeds[0].id, "base/../auto"):
        with pytest.raises(openai.NotFoundError):
            client.models.retrieve(stranger)


def test_a_whole_answer_says_who_spoke_and_why(client: openai.OpenAI, ensemble: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: an answer under the name `auto`, without usage, or without the reasons."""
    answer = client.chat.completions.create(model="auto", messages=_users(CLOCK), max_tokens=5)
    expert = ensemble.experts[seeds[1].id]
    assert answer.model == expert.id and answer.choices[0].finish_reason == "length" and answer.choices[0].message.content
    assert answer.usage is not None and answer.usage.completion_tokens == 5
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 5 and answer.usage.prompt_tokens > 20
    told = answer.model_extra["rostok"]
    assert told["expert"] == seeds[1].title and told["seed"] == seeds[1].id and told["score"] >= told["threshold"]
    assert told["scores"][0]["seed"] == seeds[1].id and told["memories"] and told["neighbours"]
    other = client.chat.completions.create(model="auto", messages=_users(FRANCE), max_tokens=5)
    assert other.model == "base" and other.model_extra["rostok"]["expert"] == "base"


def test_every_chunk_names_the_expert(client: openai.OpenAI, ensemble: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: a name that comes with the last chunk only, a stream without usage, text that differs from the whole one."""
    stream = client.chat.completions.create(model="auto", messages=_users(CLOCK), max_tokens=6, stream=True, seed=4,
                                            stream_options={"include_usage": True})
    chunks = list(stream)
    assert {chunk.model for chunk in chunks} == {ensemble.experts[seeds[1].id].id}
    assert {chunk.model_extra["rostok"]["expert"] for chunk in chunks} == {seeds[1].title}
    assert chunks[0].choices[0].delta.role == "assistant" and "scores" in chunks[0].model_extra["rostok"]
    assert chunks[-2].choices[0].finish_reason == "length" and chunks[-1].usage.completion_tokens == 6
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    whole = client.chat.completions.create(model="auto", messages=_users(CLOCK), max_tokens=6, seed=4)
    assert text.strip() == whole.choices[0].message.content


def test_whoever_stands_in_is_named_from_the_first_chunk(client: openai.OpenAI, ensemble: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: the base's words under the name of an expert whose file was taken away while the run is served."""
    own = ensemble.run.experts / seeds[1].id / "adapter.gguf"
    assert own.is_file()
    ensemble.engine.hold(1)
    client.chat.completions.create(model=seeds[0].id, messages=_users(CLOCK), max_tokens=1)  # now the other one is cold
    own.rename(own.with_suffix(".away"))
    try:
        chunks = list(client.chat.completions.create(model="auto", messages=_users(CLOCK), max_tokens=3, stream=True))
    finally:
        own.with_suffix(".away").rename(own)
        ensemble.engine.hold(2)
    assert {chunk.model for chunk in chunks} == {"base"} and len(chunks) > 3
    assert "base answers" in chunks[-1].model_extra["rostok"]["note"]


def test_a_model_can_be_named(client: openai.OpenAI, ensemble: Ensemble, seeds: list[Seed]) -> None:
    """Prevents: `base` or an expert's id that the router overrules."""
    for name, spoke in (("base", "base"), (ensemble.experts[seeds[0].id].id, ensemble.experts[seeds[0].id].id),
                        (seeds[2].id, ensemble.experts[seeds[2].id].id)):
        answer = client.chat.completions.create(model=name, messages=_users(CLOCK), max_tokens=2)
        assert answer.model == spoke and answer.model_extra["rostok"]["pinned"]


def test_sampling_is_honoured(client: openai.OpenAI) -> None:
    """Prevents: temperature, seed, stop and length that are read and forgotten."""
    def said(**more: Any) -> str:
        more = {"max_tokens": 12, **more}
        return client.chat.completions.create(model="base", messages=_users(FRANCE), **more).choices[0].message.content

    assert said(temperature=0) == said(temperature=0, seed=9)
    drawn = {said(temperature=1.8, top_p=1, seed=seed) for seed in range(4)}
    assert len(drawn) > 1 and said(temperature=1.8, top_p=1, seed=0) in drawn
    whole = said(temperature=0)
    word = whole.split()[2]
    cut = client.chat.completions.create(model="base", messages=_users(FRANCE), temperature=0, stop=[word], max_tokens=12)
    assert word not in cut.choices[0].message.content and cut.choices[0].finish_reason == "stop"
    assert said(max_completion_tokens=1, temperature=0) != whole
    assert client.chat.completions.create(model="base", messages=_users("Hi."), max_tokens=4096).usage.completion_tokens < 400


def test_conversations_and_parts(client: openai.OpenAI, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a system message, an earlier turn or a part of a text that never reaches the model."""
    asked, submit = list[Request](), ensemble.engine.submit

    def listening(request: Request, *more: Any, **named: Any) -> Any:
        asked.append(request)
        return submit(request, *more, **named)

    monkeypatch.setattr(ensemble.engine, "submit", listening)
    answer = client.chat.completions.create(model="auto", max_tokens=3, messages=[
        {"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello, who are you?"},
        {"role": "user", "content": [{"type": "text", "text": "What does the"}, {"type": "text", "text": "escapement do?"}]}])
    assert answer.choices[0].message.content
    system, *turns = asked[-1].messages
    assert system.role == "system" and system.content.startswith("Be brief.")
    assert turns == [Message("user", "Hello."), Message("assistant", "Hello, who are you?"),
                     Message("user", "What does the\nescapement do?")]


def test_embeddings(client: openai.OpenAI, ensemble: Ensemble) -> None:
    """Prevents: base64 (what the official client asks for) that is read as another type, texts in another order."""
    texts = ["the escapement lets time through", "bread", "хлеб"]
    found = client.embeddings.create(model="embedder", input=texts)
    assert np.allclose([one.embedding for one in found.data], ensemble.embedder.embed(texts), atol=1e-6)
    plain = client.embeddings.create(model="embedder", input=texts[0], encoding_format="float")
    assert np.allclose(plain.data[0].embedding, found.data[0].embedding, atol=1e-6) and plain.usage.prompt_tokens > 4
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="text-embedding-3-small", input="x")
    for wrong in ([], "", ["x", " "], ["y"] * 300):
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(model="embedder", input=wrong)


def test_embeddings_let_others_pass(served: Served, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a batch that holds the embedder, and with it every question, until it is through; a queue around the queue."""
    places, embed = served.server.desk.answering.places, ensemble.embedder.embed
    seen = list[tuple[int, int]]()

    def listening(texts: Sequence[str]) -> Any:
        seen.append((len(texts), places.taken))
        return embed(texts)

    monkeypatch.setattr(ensemble.embedder, "embed", listening)
    body = {"model": "embedder", "input": [f"text {number}" for number in range(20)]}
    found = served.client(token=None).post("/v1/embeddings", json=body).json()["data"]
    assert seen == [(8, 1), (8, 1), (4, 1)] and [one["index"] for one in found] == list(range(20))
    assert np.allclose(found[19]["embedding"], embed(["text 19"])[0], atol=1e-5) and places.taken == 0
    monkeypatch.setattr(places, "count", 0)
    assert served.client(token=None).post("/v1/embeddings", json=body).status_code == 429


@pytest.mark.parametrize(("body", "status", "code", "says"), [
    (_ask(""), 400, None, "empty"), (_ask("  \n"), 400, None, "empty"),
    ({"model": "auto", "messages": []}, 400, None, "messages"), ({"messages": _users("x")}, 400, None, "model"),
    ({"model": "auto", "messages": [{"role": "assistant", "content": "x"}]}, 400, None, "user"),
    ({"model": "auto", "messages": [{"role": "tool", "content": "x"}]}, 400, None, "role"),
    ({"model": "auto", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
     400, None, "messages"),
    (_ask(model="gpt-4o"), 404, "model_not_found", "gpt-4o"), (_ask(model="../experts/x"), 404, "model_not_found", "experts"),
    (_ask(temperature=3), 400, None, "temperature"), (_ask(temperature="1"), 400, None, "temperature"),
    (_ask(max_tokens=0), 400, None, "max_tokens"), (_ask(max_tokens=True), 400, None, "max_tokens"),
    (_ask(stop=["a"] * 17), 400, None, "stop"), (_ask(n=2), 400, "unsupported_parameter", "n"),
    (_ask(tools=[{"type": "function"}]), 400, "unsupported_parameter", "tools"),
    (_ask(response_format={"type": "json_object"}), 400, "unsupported_parameter", "response_format"),
    (_ask(top_k=40), 400, "unsupported_parameter", "top_k"),
    (_ask(repeat_last_n=64), 400, "unsupported_parameter", "repeat_last_n"),
    (_ask(temprature=1), 400, "unknown_parameter", "temprature"),
    (_ask("long " * 3000), 400, "context_length_exceeded", "context"),
    ([_ask()], 400, None, "object"), ("text", 400, None, "object"), (b"", 400, None, "JSON"), (b"{", 400, None, "JSON"),
    (b'{"model": "auto", "messages": [{"role": "user", "content": "\xff\xfe"}]}', 400, None, "UTF-8"),
    (b'{"model": "auto", "messages": [{"role": "user", "content": "\\ud800"}]}', 400, None, "surrogate"),
    (b'{"model": "auto", "temperature": NaN, "messages": []}', 400, None, "NaN"),
    (b'{"temperature": 1e999, "model": "auto", "messages": [{"role": "user", "content": "x"}]}', 400, None, "temperature"),
    (b'{"seed": ' + b"9" * 6000 + b"}", 400, None, "JSON"), (b"[" * 100_000, 400, None, "deep"),
    (b'{"a":' * 30_000 + b"1" + b"}" * 30_000, 400, None, "deep"),
])
def test_what_cannot_be_answered_is_refused_by_name(served: Served, body: Any, status: int, code: str | None, says: str) -> None:
    """Prevents: a 500, or silence about which field was wrong, where an OpenAI client expects 400 or 404 and a sentence."""
    answer = _post(served, body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (status, code)
    assert says in error["message"] and set(error) >= {"message", "type", "param", "code"}
    assert _post(served, _ask()).status_code == 200


@pytest.mark.parametrize("more", [
    {"user": "me", "metadata": {"a": "b"}, "store": False}, {"tools": [], "tool_choice": "none", "n": 1},
    {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}}, {"response_format": {"type": "text"}},
    {"temperature": None, "stop": None, "seed": None, "stream": False, "top_p": None}, {"logprobs": False},
    {"top_k": 0, "repeat_last_n": 0}])
def test_what_asks_for_nothing_is_let_pass(served: Served, more: dict[str, Any]) -> None:
    """Prevents: clients that send all fields with their usual values, and are refused for it."""
    assert _post(served, _ask(**more)).status_code == 200


def test_a_megabyte_is_refused_and_read(served: Served) -> None:
    """Prevents: a connection that is cut while the client still sends, so that it never sees the 413."""
    answer = _post(served, _ask("x" * (1 << 20)))
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "request_too_large"


def test_a_client_that_leaves_frees_its_place(served: Served, slowly: Callable[..., None]) -> None:
    """Prevents: answers that go on for nobody, until no place is left; whole and streamed ones."""
    slowly()
    answering = served.server.desk.answering
    with served.client(token=None).stream("POST", "/v1/chat/completions", json=_ask(stream=True)) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ") and answering.places.taken == 1
    with pytest.raises(httpx2.ReadTimeout):
        served.client(token=None).post("/v1/chat/completions", json=_ask(), timeout=0.3)
    _until(lambda: answering.places.taken == 0)


def test_too_many_at_once_are_told_to_wait(ensemble: Ensemble, slowly: Callable[..., None]) -> None:
    """Prevents: a queue without end; a 429 that an OpenAI client does not understand."""
    slowly()
    with serving(ensemble, limits=Limits(places=2)) as served:
        client = served.client(token=None)
        with client.stream("POST", "/v1/chat/completions", json=_ask(stream=True)) as one, \
                client.stream("POST", "/v1/chat/completions", json=_ask(stream=True)) as two:
            lines = one.iter_lines(), two.iter_lines()  # kept: an iterator that is thrown away closes its connection
            assert all(next(each) for each in lines)
            with pytest.raises(openai.RateLimitError) as told:
                openai.OpenAI(base_url=f"{served.address}/v1", api_key="none", max_retries=0,
                              http_client=httpx2.Client(trust_env=False)).chat.completions.create(
                    model="auto", messages=_users(CLOCK))
            assert told.value.response.headers["retry-after"] and told.value.code == "rate_limit_exceeded"


def test_an_engine_that_fails_is_a_503(served: Served, ensemble: Ensemble, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevents: a 200 with nothing in it, or a traceback in the answer."""
    def broken(*_: object, **__: object) -> None:
        raise ModelError("the engine is gone.")

    monkeypatch.setattr(ensemble.speaker, "speak", broken)
    for stream in (False, True):
        answer = _post(served, _ask(stream=stream))
        assert answer.status_code == 503 and answer.json()["error"]["type"] == "server_error"

    def bug(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret words of somebody")

    monkeypatch.setattr(ensemble.speaker, "speak", bug)
    answer = _post(served, _ask())
    assert answer.status_code == 500 and "secret" not in answer.text and "bug" in answer.text


def test_notes_are_read_for_their_owner_only(served: Served, ensemble: Ensemble) -> None:
    """Prevents: another user of the machine, who has no token, who asks for what somebody wanted remembered."""
    note = ensemble.remember("The escapement of my grandfather was stolen in Vienna.")
    try:
        body = _ask("What do you know of the escapement of my grandfather?")
        known = served.client().post("/v1/chat/completions", json=body).json()["rostok"]["memories"]
        assert [one for one in known if one["trust"] == "note"]
        strange = served.client(token=None).post("/v1/chat/completions", json=body).json()["rostok"]["memories"]
        assert not [one for one in strange if one["trust"] == "note"]
    finally:
        ensemble.forget(note)


def test_a_stream_is_ascii(served: Served, ensemble: Ensemble) -> None:
    """Prevents: a line of an event that readers with other ideas of a line's end, Python's among them, cut in two."""
    note = ensemble.remember("The escapement\u2028of my clock\u0085is of Vienna.")
    try:
        answer = served.client().post("/v1/chat/completions", json=_ask("Where is the escapement of my clock from?", stream=True))
        assert answer.content.isascii() and b"u2028" in answer.content
    finally:
        ensemble.forget(note)


def test_llm_talks_with_it(served: Served, tmp_path: Path, seeds: list[Seed]) -> None:
    """Prevents: a server that only the official client understands."""
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: rostok\n  model_name: auto\n  api_base: {served.address}/v1\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "llm", "-m", "rostok", "--no-log", "--key", "none", "-o", "max_tokens", "8", CLOCK],
        env={**os.environ, "LLM_USER_PATH": str(tmp_path)}, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def _until(done: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        threading.Event().wait(0.02)
