"""The voices of a page: the frame of every register, and what a model is asked for when it writes or rewrites a page."""

from __future__ import annotations

# For every register two or more openings and closings; a new register is a new line here and in VOICES,
# and a name in seeds/record.py.
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

# What a page by the model is asked to be, by register, and what is added for another form than prose.
VOICES = {
    "parable": "a short parable", "dialogue": "a short conversation between two people", "lecture": "a paragraph of a lecture",
    "field note": "a field note", "manual": "a paragraph of a manual", "letter": "a short letter",
    "proof sketch": "a paragraph that argues step by step", "court record": "a paragraph of a witness statement",
}
WRITTEN_FORMS = {
    "prose": "Write at least six sentences.",
    "question and answer": "Write it as three questions, each with an answer of two sentences.",
    "instructions": "Write it as six numbered steps of one sentence each.",
}
# By fractal depth: the seed's scene, a scene inside it, a scene inside that. One run of three nodes, and any other material.
DEPTHS = {
    1: "Write {voice} about the {x} and how it leads to the {y}, and then to the {z}.",
    2: "Inside that scene something smaller happens, with the {x} and the {y}. Write {voice} about it; the {z} comes at the end.",
    3: "Look closer still: one gesture, with the {x} in it. Write {voice} in which the {x} leads to the {y}; leave the {z} unsaid until "
       "the last sentence.",
}
DEPTHS_OF_RUNS = {
    1: "Write {voice} about {runs}.",
    2: "Inside that scene something smaller happens, with {runs}. Write {voice} about it.",
    3: "Look closer still: one gesture that joins {runs}. Write {voice} about it.",
}

# What a rewriting is asked for, and the words that it is begun with.
REWRITTEN_FORMS = {
    "prose": ("Tell this again as plain prose, in other words. Keep every thing and the order of the things.", ""),
    "question and answer": ("Turn this into questions and answers. Keep every thing and the order of the things.", "Question: "),
    "instructions": ("Turn this into numbered instructions. Keep every thing and the order of the things.", "1. "),
    "timeline": ("Turn this into a timeline. Keep every thing and the order of the things.", "First: "),
}
