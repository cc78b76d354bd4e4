"""JSON schemas as grammars: what they promise is kept, and what they cannot promise is refused."""

from __future__ import annotations

from typing import Any

import pytest

from rostok.engines.schema import check, to_gbnf
from rostok.errors import GrammarError

SEED = {
    "type": "object", "additionalProperties": False, "required": ["name", "tags"],
    "properties": {"name": {"type": "string", "minLength": 3, "maxLength": 40, "title": "Name"},
                   "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 3},
                   "kind": {"$ref": "#/$defs/kind"}},
    "$defs": {"kind": {"anyOf": [{"const": "scene"}, {"type": "null"}]}},
}


def test_a_schema_becomes_a_grammar() -> None:
    """Prevents: a translation that loses the root, or a reply that is blanks for ever."""
    rules = dict(line.split(" ::= ", 1) for line in to_gbnf(SEED).splitlines())
    assert '\\"name\\"' in rules["name-kv"] and "root" in rules
    assert rules["space"] == '" "?'
    assert r"\x00-\x1F" in rules["char"]  # a bare line feed inside a string is no JSON


@pytest.mark.parametrize(("part", "keyword", "where"), [
    ({"type": "integer", "minimum": 3}, "minimum", r"\$\.properties\.x"),
    ({"type": "array", "items": {"type": "string", "uniqueItems": True}}, "uniqueItems", r"\$\.properties\.x\.items"),
    ({"anyOf": [{"type": "string"}, {"not": {"type": "null"}}]}, "not", r"\$\.properties\.x\.anyOf\[1\]"),
    ({"type": "string", "format": "email"}, "email", r"\$\.properties\.x"),
])
def test_what_a_grammar_cannot_keep_is_refused_by_name(part: dict[str, Any], keyword: str, where: str) -> None:
    """Prevents: a keyword that the translation passes over, so that a value breaks the schema it was made under."""
    with pytest.raises(GrammarError, match=keyword) as refused:
        check({"type": "object", "properties": {"x": part}})
    refused.match(where)


@pytest.mark.parametrize("schema", [
    {"type": "object", "properties": {"x": {"$ref": "#/$defs/absent"}}},
    {"type": "string", "pattern": "unanchored"},
    {"type": "object", "properties": {"x": "string"}},
    {"type": "imaginary"},
])
def test_a_broken_schema_is_refused_in_a_sentence(schema: dict[str, Any]) -> None:
    """Prevents: a KeyError out of the translation, deep inside a stage."""
    with pytest.raises(GrammarError, match=r"JSON schema .*\."):
        to_gbnf(schema)
