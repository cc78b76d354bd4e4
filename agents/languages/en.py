"""English."""

from __future__ import annotations

from rostok.agents.language import Example, Language, Wordings

_EXAMPLES = (
    Example("milling", "mill loft, village oven, flour store",
            "night baker, young miller, bread seller", "warm oven, clay bowl, paper twist, copper scale", "The Last Warm Loaf",
            "The flame warms the stone",
            "The young miller oils the upper stone because nobody else will. Flour settles on his tongue like a secret. When the "
            "master asks who did it, he points at the cat.", "What does the stone keep when the flame is gone?"),
    Example("signalling", "signal box, engine house, station roof",
            "old guard, track walker, ticket clerk", "iron wheel, brass whistle, coal heap, red flag", "A Whistle Above Snow",
            "The wheel wears the rail",
            "The track walker counts the sleepers aloud so as not to fall asleep. At the bridge one is missing. He writes down the "
            "right number and walks on.", "Who hears the rail when no wheel comes?"),
    Example("frame making", "cold attic, paint shop, model room",
            "blind painter, frame maker, young model", "linen cloth, broken brush, glass jar, blue powder", "What the Blue Hides",
            "The brush opens the paper",
            "The frame maker builds a frame for a picture that does not exist. Visitors praise what they see in it. He sells it "
            "empty, and the buyer thanks him twice.", "Where does the paper go when the brush is dry?"),
    Example("well digging", "seed house, apple cellar, dry fountain",
            "head gardener, water carrier, bee keeper", "rusty spade, bitter root, garden wall, young bee", "The Wall and the Root",
            "The root lifts the wall",
            "The water carrier digs where the old men said there was only rock. At noon the spade rings on iron. She covers the hole "
            "again and says that the old men were right.", "How long can a wall pretend that nothing pushes it?"),
    Example("book keeping", "linen room, long corridor, night kitchen",
            "night nurse, old porter, silent doctor", "white sheet, steel tray, paper chart, thin needle", "Counting Until Morning",
            "The needle crosses the sleeve",
            "The night nurse keeps two ledgers for one ward. One says what was given, the other what was promised. On the last night "
            "of the year the sums agree, and she is afraid.", "What is left on the sleeve that the needle crossed?"),
    Example("spring winding", "tower room, spring shop, dial bench",
            "dial painter, tower keeper, spring maker", "heavy weight, empty case, gold hand, loose screw", "An Hour Without Hands",
            "The spring pushes the hand",
            "The spring maker winds the same spring for the third time. It holds for one hour and breaks on the minute. He sells it "
            "as a clock for short visits.", "Whom does the hand obey when the spring sleeps?"),
    Example("mask carving", "prop wagon, dark stage, costume tent", "stage hand, tired actor, mask maker",
            "paper mask, velvet curtain, wooden sword, oil lamp", "The Mask Remembers", "The lamp finds the mask",
            "The mask maker carves the face of a man who owes him money. On the stage everybody laughs at it. The man in the third row "
            "laughs longest and pays.", "Which face does the mask show in the dark?"),
    Example("surveying", "chart office, ink cellar, survey camp", "map seller, chain bearer, ink maker",
            "folded chart, silver compass, black ink, broken chain", "North of the Ink", "The ink covers the river",
            "The chain bearer measures a field that two brothers both own. Each walks beside him and coughs when the chain is laid. "
            "He writes down a third field, between their coughs.", "Does the river know that it was covered?"),
)

_SUBJECTS = tuple("""surgery, choir singing, chess, beekeeping, glass blowing, tax law, volcanoes, bread baking, comets, grave digging,
moss, shoemaking, prime numbers, horse breeding, wine, drainpipes, puppet theatre, radio, dinosaurs, wrestling, owls, weaving, deserts,
vaccines, fire fighting, hair cutting, coins, candles, glaciers, mountain climbing, tango, rats, photography, perfume, election day,
coal mining, childbirth, passports, kites, locks, opera, potatoes, wolves, tea, football, buried cities, pottery, pianos, tattoos,
tornadoes, marble, gambling, leather, magnets, egg markets, funerals, dictionaries, knives, swimming, butterflies, debts, soup, hats,
telegraphs, bells, elevators, blood, laundry, gold, fencing, cheese, umbrellas, spiders, teeth, poems, dolls, spectacles, elephants,
insurance, mushrooms, auctions, trains, prisons, salt, snow, juggling, libraries, ice cream, atoms, roads, dogs, costumes, barrels,
mirrors, bacteria, night shifts, apples, dreams, whales, cinnamon, lace, planets, robots, bricks, gardens, rain forests, chimneys,
vampires, bicycles, lightning, paint, sugar, pigeons, X-rays, tunnels, wedding cakes, wigs, fossils, satellites, rice fields, violins,
frost, maps, sleepwalking, parachutes, cactuses, carpets, wasps, stamps, swamps, crutches, archives, honey, echoes""".replace(
    "\n", " ").split(", "))

LANGUAGE = Language(
    code="en", name="English", letters="a-zA-Z", small="a-z", subjects=_SUBJECTS,
    hours=("before dawn", "at noon", "at dusk", "at midnight", "on the first morning", "in the last hour of the day"),
    weathers=("in thick fog", "in a long drought", "under heavy snow", "in a warm wind", "after the flood", "in clear frost",
              "in steady rain", "before a storm"),
    moods=("patience", "envy", "relief", "doubt", "pride", "tenderness", "fear", "stubbornness", "shame", "wonder"),
    events=("finds a broken tool", "loses a key", "refuses an order", "counts the money twice", "teaches a child", "burns a letter",
            "repairs what should be thrown away", "hides from a visitor", "wins and is ashamed", "waits for a result",
            "breaks a promise", "makes a bad copy", "measures again", "sells the last one", "hears a false note", "cuts too deep",
            "forgets a name", "falls asleep on duty", "opens the wrong door", "steals something small", "invents a lie",
            "forgives a debt", "begins all over", "sees a ghost", "misses the last train", "feeds a stranger", "learns to whistle",
            "wears borrowed shoes", "hangs a picture upside down", "asks for a miracle", "trades places with a twin",
            "loses a bet"),
    kinds=("Tools", "Things", "Sounds", "Clothes", "Animals", "Smells", "Vessels", "Signs", "Materials", "Parts"),
    examples=_EXAMPLES,
    say=Wordings(
        list_line="Subject: {subject}. {label}: {items}.", list_ask="Subject: {subject}. {label}:",
        places="Places", people="People",
        things_line="Things in the {place}, for {subject}: {items}.", things_ask="{kind} in the {place}, for {subject}:",
        theme_ask="{kind} that belong to {theme}:",
        title_head="Short stories and their titles.", title_line='The {person} in the {place}: "{title}"',
        title_ask='The {person} in the {place}, and {mood}: "',
        scene="Subject: {subject}. Write three plain, concrete sentences about {subject} and a {person} who {event}.",
        scene_start="In the {place}, the {person}",
        gloss="In the {place} there is a {name}. In one plain sentence, say what the {name} is and what it means to the {person}.",
        gloss_start="The {name}",
        deed_head="What one thing does to another.", deed_line="{deed}.", deed_ask="The {name}", deed_fit=" {verb} the",
        step="In the {place}, the {source} {verb} the {target}. In one plain sentence, tell why this happens and what the {person} "
             "sees.",
        step_start="The {source} {verb} the {target}",
        clash="In the {place}, the {a} and the {b} stand against each other. In one plain sentence, say what one of them wants and "
              "the other forbids.",
        clash_start="The {a} and the {b} cannot both",
        objection="{scene}\n\nWhat is false, or missing, in this scene? Say it in one plain sentence.",
        objection_start="It is not said",
        revision="{scene}\n\n{objection} Write the scene again in three or four plain sentences, so that this is mended.",
        question_head="What was told, and the question it leaves open.", question_line="{deed}. Question: {question}",
        question_ask="{said} Question:",
        answer="{scene}\n{said}\n\n{question} Answer in one plain sentence."),
    empty=frozenset({
        "the", "and", "for", "with", "that", "this", "from", "into", "onto", "other", "more", "most", "some", "any", "all", "one",
        "two", "three", "four", "five", "ten", "thing", "things", "tool", "tools", "etc", "such", "like", "its", "his", "her",
        "their", "our", "your", "are", "was", "were", "has", "have", "had", "not", "but", "very", "many", "much", "used", "using",
        "them", "they", "who", "which", "what", "when", "where", "also", "each", "every", "both", "few", "own", "same", "than",
        "aboard", "across", "along", "upon", "about", "thee", "thou", "before", "after", "behind", "between", "inside", "outside",
        "itself", "been", "onboard", "out", "over", "under", "way", "kind", "type", "part", "being", "while", "you", "sounds",
        "clothes", "animals", "smells", "vessels", "signs", "materials", "parts", "theme", "people", "places", "subject"}),
    dangling=frozenset({"the", "a", "an", "of", "and", "to", "in", "with", "for", "that", "its", "is", "or", "as", "by", "on"}),
    of_the_task=frozenset({"sentence", "sentences", "story", "prompt", "paragraph", "scene"}),
    states=frozenset({
        "makes", "does", "gets", "goes", "seems", "becomes", "looks", "comes", "says", "means", "needs", "wants", "lies", "stands",
        "sits", "hangs", "falls", "sleeps", "runs", "works", "begins", "starts", "happens", "lives", "dies"}),
    no_noun=r".*(ing|ed|[^su]s)", no_name=r".*ly", verb=r"(?!.*(?:ss|us)$)[a-z]{3,10}s",
)
