"""Questions for measuring a router: paraphrases that no page uses, and questions that belong to no seed.

`GENERAL` is far from what seeds are made of; `NEAR` is about such things (a harbour, its goods, crafts and people), with
answers that no seed holds. Nothing in the router was chosen by its scores on these: what was, was chosen on those of
`questions_known`. All are disjoint from what calibrates the router (rostok.ensemble.routing.elsewhere, rostok.generator.general),
which a test compares. Whoever tunes the router on these writes new ones.
"""

from __future__ import annotations

# What follows the {x}?
PARAPHRASES = (
    "Say I have dealt with the {x}; what do I turn to?",
    "Which neighbour does the {x} have on the far side?",
    "I lost the thread at the {x}. Could you pick it up for me?",
    "What is it that the {x} hands its work on to?",
    "Once I am done looking at the {x}, at what should I look?",
    "ok so the {x}... and what's up next",
    "Tell my friend what he will run into once he has left the {x}.",
    "The {x} makes room for something. For what?",
    "In which thing does the {x} result?",
    "We stopped at the {x} last week; where do we pick up today?",
    "If somebody removes the {x}, what stands first in line?",
    "Name whatever it is that the {x} sets in motion.",
    "Can you continue the sequence from the {x} on by one item?",
    "What did people see the minute the {x} was out of sight?",
    "Suppose you were the {x}: to whom would you give the key?",
    "What stands one place further along than the {x}?",
)

GENERAL = tuple("""
How do I tell a frog from a toad?|What is the capital of Norway?|How do I write a polite complaint?
Who painted Girl with a Pearl Earring?|What is a googol?|How do I whiten my teeth at home?|What causes hay fever?
How does an escalator work?|What is the difference between a stock and a share?|Recommend three novels by Russian authors.
What is the boiling point of ethanol?|How do I say thank you in Japanese?|What is recursion?|How do I get ink out of a carpet?
Why do onions sprout in the cupboard?|When did the Titanic sink?|What does the pancreas do?
How many hours should a teenager sleep?|What is a subordinate clause?|How do I parallel park?|What is the tallest animal?
Explain nuclear fusion to a child.|What is the distance of a marathon in miles?|How do I roast vegetables?
What is the difference between mitosis and meiosis?|Who was the first president of the United States?
How do I make a PDF smaller?|What is bankruptcy?|Give me a synonym for quickly.|What is an anagram?|Who wrote War and Peace?
How do I remove a splinter?|What is the currency of Sweden?|How do I stop a nosebleed?|What is a supernova?
Why does the moon look bigger near the horizon?|How do I sew a zip?|What is a monarchy?|How does an X-ray work?
What is the area of a triangle?|How do I change a car battery?|What is bitcoin?|Who discovered gravity?|How do I poach an egg?
How many moons does Mars have?|Write a birthday message for my boss.|What is onomatopoeia?|How long does a cold last?
What is the difference between a sheep and a goat?|How do I cancel a gym membership?|What is a compiler?
What are the primary colours?|How do I measure my waist?|What is the plural of crisis?|Who composed Swan Lake?
How do I cut an onion without tears?|What is a black belt?|What language is spoken in Brazil?|How do I stay awake in a meeting?
What is a quark?|Is a tomato a fruit?|What is the freezing point of water in Fahrenheit?|How do I descale a kettle?
What is gluten?|Who is the goddess of wisdom?|How does Wi-Fi work?|What is jet lag?|How do I plan a road trip?
What is the longest bone in the body?|What is a peninsula?|How do I teach a dog to sit?|What is the definition of irony?
What is a minor in law?|How do I resign from a job?|Who was Alexander the Great?|What is 15 percent of 80?
How do I rename a column in SQL?|What is lactose?|How does a bill become law?|What is the hottest pepper?
How do I apologise to a friend?|What is the difference between Celsius and Kelvin?|What is the Milky Way?
How do I make cold brew coffee?|What is a dividend?|Why do we hiccup?|What is the national animal of Scotland?
How do I tune a ukulele?|What is osmosis?|How do I write a haiku?|What is the derivative of x squared?
Who invented the printing press?|What is a cyclone?|How do I pick a ripe watermelon?|What is a pulsar?
How do I lower my electricity bill?|What is the best time to visit Iceland?|How do I format a USB stick?|What is a proverb?
What does the spleen do?|How do I write a résumé without experience?|What is a virus in a computer?
How many minutes are in a day?|What is a democracy index?|What is mindfulness?|How do I grow basil indoors?
What is the Magna Carta?|Hey, what is up?|Which tasks are you good at?|That is not what I meant.|Tell me a riddle.
Please continue.|Do you have feelings?|Entertain me.|Good night.|Could you repeat that more slowly?
Who is your favourite singer?|Help me decide between tea and coffee.|What should I name my dog?
Make a list of five healthy snacks.|Is this email rude?|Explain it to me like I am five.|Are you better than a search engine?
My back hurts, what helps?|Tell me about your day.|How many ounces are in a pound?|Roll a die for me.
What rhymes with orange?|Write a limerick about a cat.|How do I get over a breakup?|What is two to the power of ten?
Which is heavier, a kilo of feathers or a kilo of lead?|Give me an argument against homework.|Can penguins fly?
How old is the pyramid of Giza?|Is it safe to eat raw cookie dough?|Draft a message to my landlord about a leaking tap.
What is the population of Japan?|Do I need a visa for Canada?|Why is my hair falling out?
""".replace("\n", "|").strip("|").split("|"))

NEAR = tuple("""
How much salt is in sea water?|Who invented the barometer?|How is soap made?|What wood is best for a mast?
How do I re-string a pearl necklace?|What is a tidal wave?|How do wells work?|How is beer brewed?|How do bees make wax?
What is the oldest ship in the world?|How do I darn a sock?|How do you cure leather?|What is brass made of?
How do I knit a scarf?|What is a harpoon?|How are pencils made?|Where does amber come from?|How do I light a paraffin lamp?
What is a light ship?|How was parchment made?|How do I fillet a mackerel?|What is a schooner?|How do crabs breathe?
How do I store old letters?|What does a chandler sell?|How are bricks fired?|How do I oil a squeaky hinge?
What is the longest bridge in the world?|How does a lock and key work?|How do I get wax off a table cloth?
What is a figurehead on a ship?|How do I catch shrimps?|Why do mirrors fog up?|How is wool dyed?
What is the difference between tin and zinc?|How is vinegar made?|What does a notary stamp mean?
How do I repair a broken chair leg?|What is a spring tide?|How was sugar traded in the past?|How does a pendulum keep time?
What birds live on cliffs?|How do I bake bread without yeast?|What is a stevedore?|How deep can a diver go?|What is caulking?
How are nets made today?|How do I fold a paper boat?|How do I clean old coins?|What is a bell buoy?|How do I press flowers?
What is the use of a plumb line?|How do I keep a fire going overnight?|Who guards the coast?|What does a ship's log record?
How are masks carved?|What is a wax seal?
""".replace("\n", "|").strip("|").split("|"))
