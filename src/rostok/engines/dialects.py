"""What the kinds of model servers can do, and how each wants to be asked: llama-server, vLLM, and any other.

| kind | recognised by | prompts | grammar | schema | adapters | scores |
|---|---|---|---|---|---|---|
| llama-server | `/props` | the project's templates | GBNF | as GBNF | loaded at its start, any scale | exact |
| vLLM | `/version` | the project's templates | GBNF | as it is | loaded at run time, scale 1 | exact |
| other (Ollama, LM Studio, …) | nothing | its own template, conversations only | no | `response_format` | no | no |

A llama-server or vLLM whose model is of a family without a template of ours is treated as an other one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from rostok.engines.protocol import Completion, OnText, Request, Score
from rostok.engines.schema import check, to_gbnf
from rostok.engines.speech import Speech
from rostok.engines.templates import Template
from rostok.engines.wire import Refusal, Wire
from rostok.errors import AdapterError, GrammarError, ModelError, PromptTooLong, ServerError

BOTH = "a request takes a grammar or a JSON schema, not both."


class ChatServer:
    """A server that takes conversations at `/v1/chat/completions`, and of which nothing else is known.

    Attributes:
        kind: what people call such a server.
        name: what people call its model; `model` is what the server calls it.
        context: tokens of one request; where the server does not tell, what the caller believes.
        parallel: requests that it answers at once.
        tells_context, tells_parallel: whether those are the server's own word.
        leaves_out: fields of `Sampling` that it cannot keep and that are not sent.
    """

    kind = "OpenAI-compatible server"
    leaves_out: tuple[str, ...] = ("min_p", "dry", "repetition_penalty")
    tells_context = tells_parallel = False
    adds_bos = False

    def __init__(self, wire: Wire, model: str, *, context: int = 4096, parallel: int = 4) -> None:
        self.wire, self.model, self.context, self.parallel = wire, model, context, parallel
        self.name = Path(model).stem if model.endswith(".gguf") else model
        self.template = Template("chat", "", self._no_template, "", "")

    async def complete(self, request: Request, on_text: OnText | None) -> Completion:
        """The completion of one request. Raises like `Engine.submit`'s future."""
        if not request.messages or request.prefill:
            raise self.cannot("continue a raw prompt", "Ask with messages and without prefill")
        if request.adapter is not None:
            raise self.no_adapter(request.adapter)
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": self.model, "messages": [{"role": turn.role, "content": turn.content} for turn in request.messages],
            "max_tokens": sampling.max_tokens, "temperature": max(sampling.temperature, 0.0), "top_p": sampling.top_p,
            "seed": request.seed & 0x7FFFFFFF}
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if request.logprobs:
            body["logprobs"] = True
        if request.grammar is not None:
            gbnf_of(request)
            raise GrammarError(f"{self.name} runs on an {self.kind}, which takes no GBNF grammar. Give a JSON schema, or use "
                               "llama-server.")
        if request.schema is not None:
            check(request.schema)
            body["response_format"] = {"type": "json_schema",
                                       "json_schema": {"name": "answer", "strict": True, "schema": dict(request.schema)}}
        done = await self._ask("/v1/chat/completions", body, request, on_text)
        if request.schema is not None and done.finish == "stop":
            self._check_json(done.text)
        return done

    async def score(self, prompt: str, continuation: str, adapter: str | None, scale: float) -> Score:
        """Log-probability of the continuation after the raw prompt."""
        raise self.cannot("score given continuations", "Use llama-server or vLLM")

    async def tokenize(self, text: str) -> list[int]:
        """Token ids of the text; control tokens are recognised."""
        raise self.cannot("tokenize", "Use llama-server or vLLM")

    async def add_adapter(self, name: str, path: Path) -> None:
        """Make a LoRA adapter file known under `name`."""
        raise AdapterError(f"{self.name} runs on an {self.kind}, to which no adapter can be given. Use llama-server or vLLM.")

    async def remove_adapter(self, name: str) -> None:
        """Forget an adapter."""
        raise self.no_adapter(name)

    # ── for the kinds below ─────────────────────────────────────────────────────────────────────────────────

    def cannot(self, what: str, instead: str) -> ModelError:
        """The error for what this kind of server is unable to do."""
        return ModelError(f"{self.name} runs on an {self.kind} that cannot {what}. {instead}.")

    def no_adapter(self, name: str) -> AdapterError:
        """The error for an adapter that nobody registered."""
        return AdapterError(f"no adapter '{name}' is registered with {self.name}.")

    def check_fits(self, prompt: int, new: int) -> None:
        """Refuse what the context cannot hold: a server would cut it, or refuse in words of its own."""
        if prompt + new > self.context:
            raise PromptTooLong(f"a prompt of {prompt} tokens and {new} new ones do not fit the context of {self.context}. "
                                "Raise the server's context or shorten the text.")

    def translated(self, refusal: Refusal, constrained: bool) -> ModelError:
        """A refusal by its name: of a grammar, of a prompt's length, or just of a server."""
        words = str(refusal).lower()
        if refusal.kind == "exceed_context_size_error" or (refusal.status == 400 and "context" in words and "length" in words):
            return PromptTooLong(str(refusal))
        if constrained and refusal.status == 400:
            return GrammarError(f"the grammar cannot be compiled: {refusal}")
        return refusal

    async def _ask(self, path: str, body: dict[str, Any], request: Request, on_text: OnText | None) -> Completion:
        """Send what OpenAI's protocol describes, and read the answer."""
        stream, speech, finish, logprobs, pieces = on_text is not None, Speech(request.sampling.stop, on_text), "", [], 0
        ended, usage = False, dict[str, Any]()  # by a token, which vLLM counts and which is no part of the text
        if stream:
            body = {**body, "stream_options": {"include_usage": True}}
        try:
            async with self.wire.parts(path, body, stream=stream) as parts:
                async for part in parts:
                    usage = part.get("usage") or usage
                    for choice in part.get("choices", ()):
                        said = choice.get("text") if "text" in choice else (
                            choice.get("delta") or choice.get("message") or {}).get("content")
                        pieces += bool(said)
                        logprobs += _logprobs(choice.get("logprobs") or {})
                        finish = choice.get("finish_reason") or finish
                        ended = "stop_reason" in choice and finish == "stop" and not isinstance(choice["stop_reason"], str)
                        if speech.take(said or ""):
                            finish = "stop"
                            break
                    else:
                        continue
                    break  # the rest belongs to nobody; leaving closes the connection and frees the server's place
        except Refusal as refusal:
            raise self.translated(refusal, request.grammar is not None or request.schema is not None) from None
        if finish not in ("stop", "length"):
            raise ServerError(f"the {self.kind} at {self.wire.url} ended an answer with {finish or 'nothing'!r} instead of "
                              "'stop' or 'length'. Look at its log.")
        if request.logprobs and not logprobs:
            raise self.cannot("tell log-probabilities", "Ask without logprobs, or use llama-server or vLLM")
        tokens = (len(logprobs) if request.logprobs else int(usage.get("completion_tokens", pieces))) - ended
        return Completion(speech.end(), finish, int(usage.get("prompt_tokens", 0)), tokens,
                          tuple(logprobs[:tokens]) if request.logprobs else (), request.tag)

    def _check_json(self, text: str) -> None:
        """Some servers take a schema and do not keep it."""
        try:
            json.loads(text)
        except ValueError:
            raise ServerError(f"the {self.kind} at {self.wire.url} took a JSON schema and answered with something else "
                              f"({text[:40]!r}…). Use a server that keeps schemas, like llama-server.") from None

    def _no_template(self, role: str, content: str) -> str:
        raise self.cannot("continue a raw prompt, and whose model is of no family with a template of ours",
                          "Ask with messages and without prefill")


def gbnf_of(request: Request) -> str | None:
    """The grammar that the completion must follow.

    Raises:
        GrammarError: the schema cannot be expressed, or grammar and schema are both given.
    """
    if request.schema is not None and request.grammar is not None:
        raise GrammarError(BOTH)
    return request.grammar if request.schema is None else _schema_grammar(json.dumps(request.schema))


@lru_cache(maxsize=64)
def _schema_grammar(schema: str) -> str:
    return to_gbnf(json.loads(schema))


def border(head: Sequence[int], whole: Sequence[int]) -> int:
    """Where the continuation begins: a merge over the border belongs to it, and the first token has no probability."""
    same = next((i for i, (one, two) in enumerate(zip(head, whole, strict=False)) if one != two), min(len(head), len(whole)))
    if len(whole) < 2:
        raise ModelError("nothing to score: prompt and continuation together are less than two tokens.")
    return max(1, min(same, len(whole) - 1))


def _logprobs(found: dict[str, Any]) -> list[float]:
    """Of chat completions (`content`), and of completions (`token_logprobs`)."""
    if found.get("content"):
        return [min(0.0, float(entry["logprob"])) for entry in found["content"]]
    return [min(0.0, float(value)) for value in found.get("token_logprobs") or ()]
