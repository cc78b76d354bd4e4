"""Questions that belong to no seed, composed by code: what calibrates the router's abstention.

The base's own 100 general questions (`rostok.generator.general.REPLAY`) are too few for a threshold that should let no more than
one in twenty through. Disjoint from everything that routers are measured on.
"""

from __future__ import annotations

import random

_FRAMES: dict[str, tuple[str, ...]] = {
    "how": ("How do I {x}?", "What is the easiest way to {x}?", "Can you teach me to {x}?", "I want to {x}. Where do I begin?",
            "Is it hard to {x}?"),
    "what": ("What is {x}?", "Tell me about {x}.", "Explain {x} in simple words.", "Why is {x} important?",
             "Who came up with {x}?", "Give me an example of {x}."),
    "who": ("Who was {x}?", "When did {x} live?", "What is {x} famous for?"),
    "where": ("Where is {x}?", "How many people live in {x}?", "What should I see in {x}?",
              "What language do they speak in {x}?"),
    "say": ("{x}",),
}
_FILLINGS: dict[str, str] = {
    "how": "set an alarm|learn guitar|write a speech|boil potatoes|lose weight|renew a licence|buy a house|draw a face|"
           "speak Italian|fix a dripping tap|install a printer|ride a horse|swim faster|write a novel|solve an equation|"
           "open a bank account|iron a shirt|bake cookies|grow strawberries|train a puppy|run a meeting|give feedback|"
           "type faster|read music|choose a university|find a flat|cancel a subscription|make friends in a new city|"
           "compress a file|plot a graph|merge two branches in git|freeze soup|measure a room|cut my own hair|"
           "sew a button|cook lentils|get a visa|quit smoking|recover a lost file|remember names|whistle|do a push-up|"
           "edit a video",
    "what": "algebra|the periodic table|a black swan event|capitalism|a kidney|the Roman Empire|gravity on the moon|"
            "a noun phrase|insulin|a hash table|the French Revolution|an electric motor|natural selection|a pension|"
            "a search engine|a migraine|a solar eclipse|the European Union|an essay|a limited company|basketball|"
            "a proton|object orientation|probability|the Cold War|a vaccine trial|an antibiotic|ballet|"
            "the placebo effect|a credit score|statistics|a diphthong|a cell membrane|impressionism|"
            "the internet of things|a mutual fund|cholesterol|artificial intelligence|a derivative in calculus|a refugee|"
            "the water table|an opera|a hydrogen atom|wireless charging|the alphabet",
    "who": "Charles Darwin|Beethoven|Joan of Arc|Aristotle|Ada Lovelace|Abraham Lincoln|Frida Kahlo|Galileo|Confucius|"
           "Charlie Chaplin|Florence Nightingale|Karl Marx|Leonardo da Vinci|Rosa Parks|Socrates|Alan Turing",
    "where": "Peru|Vienna|Nairobi|Montana|South Korea|the Sahara|Warsaw|Bolivia|Kyoto|Toronto|Nepal|Mexico City|Finland|"
             "Bavaria",
    "say": "Hi there!|How are you doing?|Thank you very much.|What can you do?|Tell me a story about a dragon.|"
           "Good evening.|I am bored.|What do you think about politics?|Say something funny.|Goodbye!|You are wrong.|"
           "What is your name?|Help me with my homework.|What is 8 plus 15?|Translate apple into French.|"
           "I have a headache.|Is this sentence correct?|Write a haiku about snow.|List the months of the year.|"
           "What is the weather like?|Recommend a book.|Who won the match?|Please summarise this article.|"
           "My neighbour is too loud.|I lost my job.|Which phone should I buy?|Are you alive?|Convert 5 feet to metres.|"
           "What is the opposite of cold?|Give me advice on love.|How much is a euro in dollars?",
}


def elsewhere() -> tuple[str, ...]:
    """Every filling in two of its frames; the same questions every time."""
    dice = random.Random(11)
    return tuple(frame.format(x=filling) for kind, fillings in _FILLINGS.items() for filling in fillings.split("|")
                 for frame in sorted(dice.sample(_FRAMES[kind], min(2, len(_FRAMES[kind])))))
