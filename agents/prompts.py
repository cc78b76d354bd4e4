"""What the roles say to the model. The worked examples change with every draft, so that no one of them takes root.

A 135M model fills no JSON form; it does continue a pattern, and finishes a sentence whose first words it is given.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

# Two lower-case words an item; words are not bounded in length, since a bound cuts a long token in the middle.
NAMES_GRAMMAR = 'root ::= item ("," item)* "."\nitem ::= " " word " " word\nword ::= [a-z] [a-z] [a-z]+'
# The rest of a sentence that the prompt has begun.
SENTENCE_GRAMMAR = "root ::= [ ,] [a-zA-Z ,'-]+ \".\""


@dataclass(frozen=True)
class Example:
    """A worked example of another theme."""

    theme: str
    places: str
    people: str
    things: str
    title: str
    deed: str


EXAMPLES = (
    Example("bread and those who bake it", "mill loft, village oven, flour store", "night baker, young miller, bread seller",
            "warm oven, clay bowl, paper twist, copper scale", "The Last Warm Loaf", "The flame warms the stone"),
    Example("a railway in the mountains", "signal box, engine shed, station roof", "old guard, track walker, ticket clerk",
            "iron wheel, brass whistle, coal heap, red flag", "A Whistle Above Snow", "The wheel wears the rail"),
    Example("a school of painters", "cold attic, paint shop, model room", "blind painter, frame maker, young model",
            "linen cloth, broken brush, glass jar, blue powder", "What the Blue Hides", "The brush opens the paper"),
    Example("gardens behind high walls", "seed house, tool shed, dry fountain", "head gardener, water carrier, bee keeper",
            "rusty spade, bitter root, garden wall, young bee", "The Wall and the Root", "The root lifts the wall"),
    Example("a hospital at night", "linen room, long corridor, night kitchen", "night nurse, old porter, silent doctor",
            "white sheet, steel tray, paper chart, thin needle", "Counting Until Morning", "The needle crosses the sleeve"),
    Example("clocks and their makers", "tower room, spring shop, dial bench", "dial painter, tower keeper, spring maker",
            "heavy spring, empty case, gold hand, loose screw", "An Hour Without Hands", "The spring pushes the hand"),
    Example("a theatre on tour", "prop wagon, dark stage, costume tent", "stage hand, tired actor, mask maker",
            "paper mask, velvet curtain, wooden sword, oil lamp", "The Mask Remembers", "The lamp finds the mask"),
    Example("maps of unknown land", "chart office, ink cellar, survey camp", "map seller, chain bearer, ink maker",
            "folded chart, silver compass, black ink, broken chain", "North of the Ink", "The ink covers the river"),
)

# What code draws, so that drafts differ (AttrPrompt, arXiv:2306.15895: diversity comes from sampled attributes).
HOURS = ("before dawn", "at noon", "at dusk", "at midnight", "on the first morning", "in the last hour of the day")
WEATHERS = ("in thick fog", "in a long drought", "under heavy snow", "in a warm wind", "after the flood", "in clear frost",
            "in steady rain", "before a storm")
MOODS = ("patience", "envy", "relief", "doubt", "pride", "tenderness", "fear", "stubbornness", "shame", "wonder")
KINDS = ("Tools", "Things", "Sounds", "Clothes", "Animals", "Smells", "Vessels", "Signs", "Materials", "Parts")


def examples(generator: random.Random, count: int = 2) -> list[Example]:
    """Examples for one prompt, drawn by the draft's own generator."""
    return generator.sample(EXAMPLES, count)


def listing(label: str, theme: str, shown: list[Example], field: str) -> str:
    """A raw prompt whose next words are a list of `label` for the theme."""
    lines = [f"Theme: {example.theme}. {label}: {getattr(example, field)}." for example in shown]
    return "\n".join([*lines, f"Theme: {theme}. {label}:"])


def things(kind: str, place: str, theme: str, shown: list[Example]) -> str:
    """A raw prompt whose next words are two-word names of things in a place."""
    lines = [f"Things in the {example.places.split(',')[0]}: {example.things}." for example in shown]
    return "\n".join([*lines, f"Theme: {theme}.", f"{kind} in the {place}:"])


def title(place: str, person: str, mood: str, shown: list[Example]) -> str:
    """A raw prompt whose next words are a title."""
    lines = [f'The {example.people.split(",")[0]} in the {example.places.split(",")[0]}: "{example.title}"' for example in shown]
    return "\n".join(["Short stories and their titles.", *lines, f'The {person} in the {place}, and {mood}: "'])


def scene(theme: str, attributes: dict[str, str], names: list[str]) -> str:
    """What the user asks the model for a scene."""
    return (f"Write the opening scene of a short story in three or four plain sentences. Theme: {theme}. "
            f"Place: the {attributes['place']}, {attributes['hour']}, {attributes['weather']}. Person: a {attributes['person']}. "
            f"Mood: {attributes['mood']}. There are a {names[0]} and a {names[1]}.")


def gloss(name: str, attributes: dict[str, str]) -> str:
    """What the user asks the model for a node's gloss."""
    return (f"In the {attributes['place']} there is a {name}. In one plain sentence, say what the {name} is and what it means "
            f"to the {attributes['person']}.")


def deed(name: str, shown: list[Example]) -> str:
    """A raw prompt whose next word is what a thing does to another."""
    return "\n".join(["What one thing does to another.", *(f"{example.deed}." for example in shown), f"The {name}"])


def step(source: str, operation: str, target: str, attributes: dict[str, str]) -> str:
    """What the user asks the model for a transition's sentence."""
    return (f"In the {attributes['place']}, the {source} {operation} the {target}. In one plain sentence, tell why this happens "
            f"and what the {attributes['person']} sees.")


def clash(a: str, b: str, attributes: dict[str, str]) -> str:
    """What the user asks the model for a contradiction's sentence."""
    return (f"In the {attributes['place']}, the {a} and the {b} stand against each other. In one plain sentence, say what one of "
            "them wants and the other forbids.")
