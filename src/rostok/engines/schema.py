"""JSON schemas as grammars: every engine accepts the same ones, and refuses by name what a grammar cannot express.

The translation is llama-cpp-python's. It passes over keywords that it does not know, so that `"minimum": 3` would be
accepted and not kept; what it does not know is therefore refused here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rostok.errors import GrammarError

_SILENT = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "readOnly", "writeOnly"}
_KNOWN = {"type", "properties", "required", "additionalProperties", "items", "prefixItems", "minItems", "maxItems", "enum",
          "const", "anyOf", "oneOf", "allOf", "$ref", "$defs", "definitions", "minLength", "maxLength", "pattern", "format"}
_FORMATS = {"date", "time", "date-time", "uuid"}
# Rules of the translation that are written anew: its blanks may go on for ever, its strings may hold bare control characters.
_RULES = {
    "space": 'space ::= " "?',
    "char": r'char ::= [^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F] [0-9a-fA-F])',
}
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "$defs", "definitions")
_SINGLE = ("items", "additionalProperties")


def check(schema: Mapping[str, Any]) -> None:
    """Refuse a schema that a grammar cannot keep.

    Raises:
        GrammarError: names the keyword and where it stands.
    """
    for where, part in _parts(schema, "$"):
        for key in part:
            if key not in _KNOWN and key not in _SILENT:
                raise GrammarError(f"the JSON schema asks for '{key}' at {where}, which a grammar cannot express. "
                                   f"Leave it out and check the value afterwards. Known: {', '.join(sorted(_KNOWN))}.")
        if part.get("format", "date") not in _FORMATS:
            raise GrammarError(f"the JSON schema asks for the format '{part['format']}' at {where}. "
                               f"Known: {', '.join(sorted(_FORMATS))}.")


def to_gbnf(schema: Mapping[str, Any]) -> str:
    """The schema as a GBNF grammar of JSON with at most one blank between tokens, so that no reply is all blanks.

    Raises:
        GrammarError: see `check`; also for broken references and patterns.
    """
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    check(schema)
    try:
        grammar = json_schema_to_gbnf(json.dumps(schema))
    except (ValueError, AssertionError, KeyError, TypeError, IndexError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise GrammarError(f"the JSON schema cannot be made into a grammar: {reason}. Mend or simplify it.") from None
    return "\n".join(_RULES.get(line.split(" ::=")[0], line) for line in grammar.splitlines())


def _parts(schema: object, where: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The schema and all schemas inside it, each with its path."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, Mapping):
        raise GrammarError(f"the JSON schema has a {type(schema).__name__} at {where} where a schema must stand.")
    yield where, schema
    for key in _LISTS:
        for number, inner in enumerate(schema.get(key, ())):
            yield from _parts(inner, f"{where}.{key}[{number}]")
    for key in _MAPS:
        for name, inner in schema.get(key, {}).items():
            yield from _parts(inner, f"{where}.{key}.{name}")
    for key in _SINGLE:
        if key in schema:
            yield from _parts(schema[key], f"{where}.{key}")
