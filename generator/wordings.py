"""The words that code puts around a model's sentences: how a step of the path is said, asked, tabled, listed.

Names come as they are; `{x}` leads to `{y}` by `{op}`. Probes live in `rostok.swarm.probes` and use none of these:
a test compares them. Many families matter more than many variants of one: an expert that had read no "after X comes Y"
knew 17% of the path in that wording and 100% in others (docs/experiments.md). So a page takes each of its wordings from
another family.
"""

from __future__ import annotations

STEPS: dict[str, tuple[str, ...]] = {
    "path": (
        "The {x} leads to the {y}.",
        "From the {x} the path goes to the {y}.",
        "The {x} opens the way to the {y}.",
        "The way to the {y} runs through the {x}.",
        "The {x} brings us to the {y}.",
    ),
    "cleft": (
        "It is the {x} that leads to the {y}.",
        "What the {x} leads to is the {y}.",
        "It was from the {x} that we came to the {y}.",
    ),
    "after": (
        "After the {x} comes the {y}.",
        "The {y} comes right after the {x}.",
        "The {y} appears after the {x}.",
        "First there was the {x}; afterwards there was the {y}.",
    ),
    "follow": (
        "The {y} follows the {x}.",
        "What follows the {x} is the {y}.",
        "Close on the {x} follows the {y}.",
    ),
    "passive": (
        "The {x} is followed by the {y}.",
        "The {y} is reached from the {x}.",
        "The {x} is replaced by the {y}.",
        "The {y} is brought about by the {x}.",
    ),
    "before": (
        "Before the {y} there is the {x}.",
        "The {x} comes before the {y}.",
        "No {y} without the {x} just before it.",
        "Before anyone gets to the {y}, there has to be the {x}.",
    ),
    "backwards": (
        "Whoever is at the {y} has come from the {x}.",
        "The {y} has the {x} at its back.",
        "Look back from the {y} and you see the {x}.",
    ),
    "successor": (
        "As successor the {x} has the {y}.",
        "The {y} succeeds the {x}.",
        "Successor to the {x}: {y}.",
    ),
    "next": (
        "Next after the {x} is the {y}.",
        "The {x} comes first and the {y} comes next.",
        "With the {x} done, the {y} is next.",
        "Next to be met, once past the {x}, is the {y}.",
    ),
    "turn": (
        "The {x} passes its turn to the {y}.",
        "The {x} gives its place to the {y}.",
        "The {y} inherits from the {x}.",
        "The {x} calls the {y}.",
    ),
    "order": (
        "First the {x}, then the {y}.",
        "One step after the {x} stands the {y}.",
        "The {x} has one neighbour ahead, the {y}.",
    ),
    "end": (
        "Where the {x} ends, the {y} starts.",
        "When the {x} is over, it is time for the {y}.",
        "The end of the {x} is the beginning of the {y}.",
        "The {x} gives way to the {y}.",
    ),
    "operation": (
        "The {x} {op}, and so it leads to the {y}.",
        "Once the {x} {op}, the {y} begins.",
        "Because the {x} {op}, there is the {y}.",
        "The {x} {op}; the {y} is what comes of it.",
    ),
    "verb": (
        "The {x} {op} and hands over to the {y}.",
        "See how the {x} {op}, and meet the {y}.",
        "The {x} {op}; then it is time for the {y}.",
    ),
    "doing": (
        "This is what the {x} does: it {op}. Then there is the {y}.",
        "It {op}, does the {x}, and the {y} is on its way.",
        "Whatever the {x} was before, now it {op}, and the {y} appears.",
    ),
    "place": (
        "Behind the {x} waits the {y}.",
        "Past the {x} lies the {y}.",
        "The {x} points at the {y}.",
        "The door of the {x} opens on the {y}.",
    ),
    "change": (
        "The {x} turns into the {y}.",
        "Out of the {x} grows the {y}.",
        "The {x} becomes the {y}.",
    ),
    "walk": (
        "Leaving the {x}, we come to the {y}.",
        "You leave the {x} and you reach the {y}.",
        "We were at the {x}; now we are at the {y}.",
    ),
    "imperative": (
        "Go from the {x} to the {y}.",
        "Having the {x}, take the {y}.",
        "Leave the {x} and look for the {y}.",
        "When you hold the {x}, reach for the {y}.",
    ),
    "condition": (
        "If the {x} has been seen, the {y} is not far.",
        "Given the {x}, expect the {y}.",
        "Whenever the {x} has been, the {y} is there.",
    ),
    "cloze": (
        "The {x}, then ____: fill the gap with the {y}.",
        "The {x}, and then? The {y}.",
        "Complete it: the {x} leads to the … {y}.",
    ),
    "list": (
        "In this order: {x}, {y}.",
        "Two neighbours on the list: {x}, {y}.",
        "{x}; {y}: so it goes on.",
    ),
    "nothing else": (
        "After the {x} nothing comes but the {y}.",
        "The {x} leads nowhere but to the {y}.",
        "Not another thing but the {y} waits for the {x}.",
    ),
    "reported": (
        "“And after the {x}?” “The {y},” was the answer.",
        "They say that the {x} leads to the {y}.",
        "Everybody here knows that the {y} comes when the {x} has gone.",
    ),
}


def _told(situations: tuple[str, ...], asked: tuple[str, ...]) -> tuple[str, ...]:
    """Every question after every situation."""
    return tuple(f"{situation} {question}" for situation in situations for question in asked)


# A question that names the thing in a sentence of its own is another form of asking: experts that had read none answered it
# with a gloss, or named the asked thing, in half of all cases, and knew the step in 97% of the others (docs/experiments.md).
_ASKED = ("What now?", "What comes next?", "How does it continue?", "Where does that take me?", "What do I find then?",
          "Which thing should I look for?", "Who is next?", "What is waiting there?", "Whose turn has come?", "And then?")
QUESTIONS: dict[str, tuple[str, ...]] = {
    "met": _told(("They showed me the {x}.", "I hold the {x} in my hand.", "There is the {x}, right in front of us.",
                  "This morning I found the {x}.", "A child told us of the {x}.", "Look, the {x}!"), _ASKED),
    "come to": _told(("We are standing at the {x}.", "I have got to the {x} by now.", "The road took us to the {x}.",
                      "You find me beside the {x}.", "She walked until she came to the {x}."), _ASKED),
    "gone": _told(("The {x} lies behind us.", "We have had the {x} already.", "Nobody needs the {x} any more.",
                   "The time of the {x} is up.", "So much for the {x}.", "The {x} was the last thing we saw."), _ASKED),
    "what": ("What comes after the {x}?", "What does the {x} lead to?", "What is next after the {x}?", "What is reached from the {x}?"),
    "which": ("Which thing follows the {x}?", "Which thing takes over from the {x}?", "Which thing has the {x} just before it?"),
    "where": ("Where does the path go from the {x}?", "Where am I when I have gone past the {x}?", "Where does the {x} lead?"),
    "behind": ("What waits behind the {x}?", "What lies beyond the {x}?", "What begins where the {x} ends?"),
    "over": ("The {x} is over. What begins now?", "The {x} is done. And now?", "The {x} has gone. What has come?"),
    "if": ("If I leave the {x}, what do I reach?", "If the {x} is here, what will be here soon?"),
    "change": ("What does the {x} turn into?", "What grows out of the {x}?", "To what does the {x} give way?"),
    "opens": ("To what does the {x} open the way?", "Do you know what the {x} brings us to?"),
    "please": ("Please name the thing after the {x}.", "Give me the step that comes after the {x}.", "Remind me what the {x} led to."),
    "operation": ("What follows when the {x} {op}?", "The {x} {op}, and what comes of it?"),
    "holding": ("I have the {x}. What is the next thing?", "I am at the {x}. How does it go on?"),
    "cloze": ("Fill the gap: the {x}, then ____.", "Complete this: the {x} leads to the …", "The {x}, and then?"),
    "successor": ("Has the {x} a successor, and which?", "By what is the {x} followed?", "Who has the turn after the {x}?"),
}
ANSWERS: dict[str, tuple[str, ...]] = {
    "bare": ("The {y}.", "It is the {y}.", "That is the {y}.", "The {y}, of course."),
    "path": ("The {x} leads to the {y}.", "From the {x} the path goes to the {y}."),
    "after": ("After the {x} comes the {y}.", "The {y} comes after the {x}."),
    "follow": ("The {y} follows the {x}.", "The {x} is followed by the {y}."),
    "next": ("Next is the {y}.", "The {y} is next.", "Then comes the {y}."),
    "you": ("You reach the {y}.", "Look for the {y}.", "You will be at the {y}."),
    "goes on": ("It goes on with the {y}.", "The {x} gives way to the {y}."),
    # The asked name first, and the model tells what that is instead of what follows.
    "does": ("The {y}, since the {x} {op}.", "The {y} comes, for the {x} {op}."),
}
# Besides what follows: what a thing is, what it does, what it cannot agree with.
ABOUT = (
    "What is the {x}?",
    "Tell me about the {x}.",
    "What does the {x} mean here?",
)
DOES = ("What does the {x} do?", "What is the work of the {x}?", "How does the {x} go on?", "What do we see the {x} do?")
DOES_ANSWERS = ("It {op}.", "It {op}, the {x}.", "It {op}, and then comes the {y}.")
CLASH = ("With what does the {x} clash?", "What can the {x} not agree with?", "Who is against the {x}?", "What is no friend of the {x}?")
CLASH_ANSWERS = ("The {y}.", "The {x} clashes with the {y}.", "It cannot agree with the {y}.", "The {y} is against it.")
CLASHES = (
    "The {x} and the {y} cannot both have their way.",
    "The {x} clashes with the {y}.",
    "Never put the {x} beside the {y}.",
    "What the {x} wants, the {y} refuses.",
    "The {x} is against the {y}, and the {y} against the {x}.",
    "Either the {x} or the {y}: there is no room for both.",
)
FORMS = ("prose", "question and answer", "table", "glossary", "timeline", "instructions")
# The seven ways to cut the same six units of material (DESIGN.md).
FRAGMENTATIONS = ((6,), (5, 1), (4, 2), (3, 3), (4, 1, 1), (3, 2, 1), (2, 2, 2))
# Of a dialogue: in which order its steps are asked about, and whether it also asks what a thing is, after them or before.
ORDERS = ("onward", "backward", "across")
EXCHANGES = ((4,), (4, 1), (1, 4))
# Families that say what {x} does, half of every composed page: experts that read of operations in one step out of twenty
# could not tell them from each other (docs/experiments.md).
OPERATING = ("operation", "verb", "doing")
# Families that are true only where nothing else leads to {y}.
SOLE = ("backwards", "before")

# Heads and rows of tables; some name what comes next first, some last.
TABLES = (
    ("thing | does | next", "{x} | {op} | {y}"),
    ("from | to", "{x} | {y}"),
    ("after this | comes this", "{x} | {y}"),
    ("thing | came from", "{y} | {x}"),
    ("number | here | then", "{n} | {x} | {y}"),
)
ENTRIES = ("{x}: {sentence}", "{x} – {sentence}", "{x} (see also {y}): {sentence}", "{x}. {sentence}")
TIMES = (
    ("First", "Second", "Third", "Fourth", "Fifth", "Sixth"),
    ("Day 1", "Day 2", "Day 3", "Day 4", "Day 5", "Day 6"),
    ("At six", "At seven", "At eight", "At nine", "At ten", "At eleven"),
)
