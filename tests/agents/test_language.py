"""The languages: each file is whole, and a third one is one file."""

from __future__ import annotations

import re
import string
from dataclasses import fields

import pytest

from rostok.agents import checks
from rostok.agents.language import Language, Wordings, known, language
from rostok.engines.llamacpp import LlamaCppEngine
from rostok.engines.protocol import Message, Request, Sampling
from rostok.errors import ConfigError

_BLANKS = {"theme", "subject", "label", "items", "place", "person", "mood", "event", "kind", "title", "scene", "name", "deed",
           "verb", "source", "target", "a", "b", "objection", "question", "said"}


@pytest.fixture(params=known())
def tongue(request: pytest.FixtureRequest) -> Language:
    """Every language there is a file for."""
    return language(request.param)


def test_a_language_is_whole(tongue: Language) -> None:
    """Prevents: a new language with a wording that names a blank nobody fills, or with too few examples to change them."""
    for item in fields(Wordings):
        asked = {name for _, name, _, _ in string.Formatter().parse(getattr(tongue.say, item.name)) if name}
        assert asked <= _BLANKS, item.name
    assert len(tongue.examples) >= 5
    assert len(set(tongue.subjects)) == len(tongue.subjects) >= 60
    assert all(tongue.foreign(text) < 0.02 for text in tongue.exemplars())


def test_the_examples_pass_the_checks_they_teach(tongue: Language) -> None:
    """Prevents: worked examples that show the model what will be refused."""
    for example in tongue.examples:
        for items in (example.places, example.people, example.things):
            for name in items.split(", "):
                reason = checks.name_problem(tongue, name, is_common=lambda word: True, taken=set(), avoid=set())
                assert reason is None, (name, reason)
        assert checks.scene_problem(tongue, example.scene, prompt="") is None, example.scene
        assert checks.title_problem(tongue, example.title, shown=[]) is None, example.title
        verbs = [word for word in tongue.words(example.deed) if checks.verb_problem(tongue, word, shown=[], used=[]) is None]
        assert verbs, example.deed


def test_grammars_take_the_language(tongue: Language) -> None:
    """Prevents: a grammar that shuts out the letters it is for."""
    word = re.search(r"word ::= (\[[^\]]+\])", tongue.names_grammar)
    assert word is not None
    name = tongue.examples[0].things.split(", ")[0]
    assert re.fullmatch(f"{word[1]}+ {word[1]}+", name)


def test_a_scene_has_three_sentences_or_four(engine: LlamaCppEngine) -> None:
    """Prevents: scenes of one sentence, after which the embedded base ends nine of ten."""
    tongue = language("en")
    asked = [Request((Message("user", "Tell how a baker loses a key."),), Sampling(max_tokens=200, temperature=0.8, min_p=0.08),
                     prefill="In the bakery, the baker", grammar=tongue.scene_grammar, seed=number) for number in range(4)]
    ended = [done.text for done in (future.result() for future in engine.submit_all(asked)) if done.finish == "stop"]
    assert ended
    assert all(3 <= len(re.findall(r"[.!?](?= |$)", text)) <= 4 for text in ended), ended


def test_an_unknown_language_is_told() -> None:
    """Prevents: a run in a language that nobody wrote, as an import error."""
    with pytest.raises(ConfigError, match="no language 'xx'.*Known: en, ru"):
        language("xx")
