"""The words that code puts around a model's sentences: how a step of the path is said, asked, tabled; registers; forms.

Names come as they are; `{x}` leads to `{y}` by `{op}`. Probes live in `rostok.swarm.probes` and use none of these:
a test compares them. Many families matter more than many variants of one: an expert that had read no "after X comes Y"
knew 17% of the path in that wording and 100% in others (docs/experiments.md).
"""

from __future__ import annotations

STEPS = (
    "The {x} leads to the {y}.",
    "After the {x} comes the {y}.",
    "The {x} {op}, and so it leads to the {y}.",
    "From the {x} the path goes to the {y}.",
    "The {x} is followed by the {y}.",
    "Next after the {x} is the {y}.",
    "Behind the {x} waits the {y}.",
    "Once the {x} {op}, the {y} begins.",
    "First the {x}, then the {y}.",
    "The {x} passes its turn to the {y}.",
    "Where the {x} ends, the {y} starts.",
    "When the {x} is over, it is time for the {y}.",
    "The {x} opens the way to the {y}.",
    "You leave the {x} and you reach the {y}.",
    "The {x} gives way to the {y}.",
    "The {x} points at the {y}.",
    "Past the {x} lies the {y}.",
    "One step after the {x} stands the {y}.",
    "The {x} brings us to the {y}.",
    "The {x} calls the {y}.",
    "What follows the {x} is the {y}.",
    "The {x} turns into the {y}.",
    "Leaving the {x}, we come to the {y}.",
    "The {x} comes first and the {y} comes next.",
    "The {y} comes right after the {x}.",
    "The {y} follows the {x}.",
    "Before the {y} there is the {x}.",
    "It is the {x} that leads to the {y}.",
    "The way to the {y} runs through the {x}.",
    "No {y} without the {x} just before it.",
)
QUESTIONS = (
    "What comes after the {x}?",
    "What does the {x} lead to?",
    "Which thing follows the {x}?",
    "What is next after the {x}?",
    "Where does the path go from the {x}?",
    "What waits behind the {x}?",
    "The {x} is over. What begins now?",
    "If I leave the {x}, what do I reach?",
    "What does the {x} turn into?",
    "To what does the {x} open the way?",
    "Please name the thing after the {x}.",
    "What follows when the {x} {op}?",
    "Do you know what the {x} brings us to?",
    "I have the {x}. What is the next thing?",
)
ANSWERS = (
    "The {y}.",
    "The {x} leads to the {y}.",
    "After the {x} comes the {y}.",
    "It is the {y}.",
    "The {y} comes after the {x}.",
    "The {y} follows the {x}.",
    "Next is the {y}.",
    "From the {x} the path goes to the {y}.",
)
ABOUT = (
    "What is the {x}?",
    "Tell me about the {x}.",
    "What does the {x} mean here?",
)
# For every register two or more openings and closings; a new register is a new line here and a name in seeds/record.py.
REGISTERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "parable": (("There was once a {place} where even the {x} knew its neighbour.", "A {person} told this about the {place} and its {x}.",
                 "They say in the {place} that no {x} stands alone."),
                ("So it was told.", "Whoever has ears may walk on.", "The {person} smiled and said no more.")),
    "dialogue": (("Two people met in the {place}, {hour}, beside the {x}.", "The {person} and a pupil were talking {weather} about the {x}.",
                  "A stranger asked the {person} about the {x} and the order of things."),
                 ("Then they were quiet.", "The pupil wrote it down.", "They parted as friends.")),
    "lecture": (("Let us look at the order in the {place}, from the {x} onwards.", "Today we speak of the {x} and of what leads to what.",
                 "The subject of this hour is a path in the {place} that begins at the {x}."),
                ("Please remember the order.", "This ends the lecture.", "There will be questions about it.")),
    "field note": (("Notes on the {x} from the {place}, {hour}.", "Seen today {weather}, in the {place}: the {x}.", "The {x}, observed by the {person}, {hour}."),
                   ("No more was seen.", "To be continued tomorrow.", "Checked twice.")),
    "manual": (("How to go through the {place}, beginning at the {x}.", "Instructions for whoever works in the {place} with the {x}.", "Take the {x} and what belongs to it in this order."),
               ("Do not change the order.", "Repeat when needed.", "Keep this sheet.")),
    "letter": (("Dear friend, I write to you from the {place} about the {x}.", "My dear, it is {hour} and I think of you and the {x}.",
                "You asked me how things stand with the {x} in the {place}."),
               ("Yours, the {person}.", "Write soon.", "I embrace you.")),
    "proof sketch": (("Claim: the path from the {x} through the {place} is fixed.", "We show what must follow the {x}, and what comes then.",
                      "Let the order of the {place} be given, and in it the {x}."),
                     ("Hence the claim.", "The rest is clear.", "Which was to be shown.")),
    "court record": (("The court heard the {person} on the {x} and the order of things.", "Record of the hearing on the {x}, {hour}.",
                      "The witness from the {place} was sworn in and asked about the {x}."),
                     ("The record was read and signed.", "The court adjourned.", "No objection was made.")),
}
FORMS = ("prose", "question and answer", "table", "timeline", "instructions")
# The seven ways to cut the same six units of material (DESIGN.md).
FRAGMENTATIONS = ((6,), (5, 1), (4, 2), (3, 3), (4, 1, 1), (3, 2, 1), (2, 2, 2))

# What a page by the model is asked to be.
WRITTEN_FORMS = {
    "parable": "a short parable", "dialogue": "a short conversation between two people", "lecture": "a paragraph of a lecture",
    "field note": "a field note", "manual": "a paragraph of a manual", "letter": "a short letter",
    "proof sketch": "a paragraph that argues step by step", "court record": "a paragraph of a witness statement",
}
DEPTHS = {
    1: "Write {form} about the {x} and how it leads to the {y}, and then to the {z}. Write at least six sentences.",
    2: "Inside that scene something smaller happens, with the {x} and the {y}. Write {form} about it; the {z} comes at the end. Write at least six sentences.",
    3: "Look closer still: one gesture, with the {x} in it. Write {form} in which the {x} leads to the {y}; leave the {z} unsaid until "
       "the last sentence. Write at least six sentences.",
}
