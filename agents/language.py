"""A language in which seeds can be written: its prompts, examples, taxonomies and checks. One file in `languages/` each.

A 135M model fills no JSON form; it does continue a pattern, and finishes a sentence whose first words it is given. So the
raw prompts show worked examples, two at a time and others for every draft, that no one of them takes root.
"""

from __future__ import annotations

import importlib
import pkgutil
import random
import re
from dataclasses import dataclass, field

from rostok.errors import ConfigError


@dataclass(frozen=True)
class Example:
    """A worked example of another subject. `places`, `people` and `things` are lists with commas."""

    subject: str
    places: str
    people: str
    things: str
    title: str
    deed: str
    scene: str
    question: str


@dataclass(frozen=True)
class Wordings:
    """What is said to the model. Words in braces are filled in.

    `…_line` is one worked example of a raw prompt, `…_ask` its last line, which the model continues. The others are said in
    the chat template; `…_start` begins the answer.
    """

    list_line: str
    list_ask: str
    places: str
    people: str
    things_line: str
    things_ask: str
    theme_ask: str
    title_head: str
    title_line: str
    title_ask: str
    scene: str
    scene_start: str
    gloss: str
    gloss_start: str
    deed_head: str
    deed_line: str
    deed_ask: str
    deed_fit: str
    step: str
    step_start: str
    clash: str
    clash_start: str
    objection: str
    objection_start: str
    revision: str
    question_head: str
    question_line: str
    question_ask: str
    answer: str


@dataclass(frozen=True)
class Language:
    """One language.

    Attributes:
        code: ISO 639-1, as it stands in a seed; `name` for people.
        letters: the letters of its script, as the inside of a character class, capitals and small.
        small: the small letters alone.
        subjects: what a theme is seen through; two seeds of a library share one only when all are used up.
        hours, weathers, moods, events, kinds: what code draws besides, so that drafts differ
            (AttrPrompt, arXiv:2306.15895: diversity comes from sampled attributes, not from asking for it).
        empty: words that are no part of a name. `dangling`: words no sentence ends with. `of_the_task`: words that speak of
            the prompt. `states`: verbs by which nothing leads to anything.
        no_noun, no_name: patterns of a name's second word, and of any word of it, that is refused.
        verb: pattern of a verb in the form that `deed_ask` wants.
        one_token: whether a common word is one token of a base that writes this language.
    """

    code: str
    name: str
    letters: str
    small: str
    subjects: tuple[str, ...]
    hours: tuple[str, ...]
    weathers: tuple[str, ...]
    moods: tuple[str, ...]
    events: tuple[str, ...]
    kinds: tuple[str, ...]
    examples: tuple[Example, ...]
    say: Wordings
    empty: frozenset[str]
    dangling: frozenset[str]
    of_the_task: frozenset[str]
    states: frozenset[str]
    no_noun: str
    no_name: str
    verb: str
    one_token: bool = True
    _word: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_word", re.compile(f"[{self.small}'’-]+"))

    def words(self, text: str) -> list[str]:
        """The words of a text in this script, in small letters."""
        return self._word.findall(text.lower())

    def foreign(self, text: str) -> float:
        """Share of the letters that are not of this language's script; 0 for a text without letters."""
        letters = [letter for letter in text if letter.isalpha()]
        return sum(not re.match(f"[{self.letters}]", letter) for letter in letters) / len(letters) if letters else 0.0

    @property
    def names_grammar(self) -> str:
        """GBNF of a list of two-word names. Words have no upper bound: it would cut a long token in the middle."""
        return (f'root ::= item ("," item)* "."\nitem ::= " " word " " word\n'
                f"word ::= [{self.small}] [{self.small}] [{self.small}]+")

    @property
    def sentence_grammar(self) -> str:
        """GBNF of the rest of a sentence that the prompt has begun."""
        return f"""root ::= [ ,] [{self.letters} ,'-]+ "." """.strip()

    @property
    def scene_grammar(self) -> str:
        """GBNF of three or four sentences, the first of which the prompt has begun. Left alone the embedded base ends most scenes
        after one sentence."""
        return (r"""root ::= words end " " sentence " " sentence (" " sentence)?
sentence ::= [^SMALL\n.!? ] words end
words ::= [^.!?\n:;#*|<>_"\[\]]+
end ::= [.!?]""".replace("SMALL", self.small))

    def shown(self, dice: random.Random, count: int = 2) -> list[Example]:
        """Examples for one prompt, drawn by the draft's own dice."""
        return dice.sample(self.examples, count)

    def exemplars(self) -> list[str]:
        """Everything the prompts show: what a seed must not bring back."""
        found = []
        for example in self.examples:
            found += [example.title, example.scene, example.deed, example.question]
            for items in (example.places, example.people, example.things):
                found += items.split(", ")
        return found


def known() -> list[str]:
    """Codes of the languages that have a file."""
    from rostok.agents import languages

    return sorted(module.name for module in pkgutil.iter_modules(languages.__path__))


def language(code: str) -> Language:
    """The language with this code.

    Raises:
        ConfigError: there is no file for it.
    """
    if code not in known():
        raise ConfigError(f"there is no language '{code}' to write seeds in. Known: {', '.join(known())}. "
                          "A further one is one file in agents/languages.")
    found: Language = importlib.import_module(f"rostok.agents.languages.{code}").LANGUAGE
    return found
