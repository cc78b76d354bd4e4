"""General questions that belong to no seed. The base answers them itself; the answers keep an expert able.

`REPLAY` goes into corpora and calibrates the router's abstention; `HELD_OUT` is only ever measured on.
"""

from __future__ import annotations

REPLAY = tuple("""
What is photosynthesis?|How do I boil an egg?|What is the capital of France?|Why do leaves change colour in autumn?
Explain what a prime number is.|How does a bicycle stay upright?|What is the difference between weather and climate?
Give me three tips for sleeping better.|What causes thunder?|How do vaccines work?|What is gravity?
Write two sentences about dogs.|How do I write a good email?|What does a heart do?|Why is exercise healthy?
What is a computer program?|Name three kinds of renewable energy.|How do plants drink water?|What is democracy?
How can I learn a new language?|What is the water cycle?|Why do we have seasons?|How does a refrigerator work?
What is inflation in economics?|Who was Isaac Newton?|What is a healthy breakfast?|How do planes fly?
What is the internet?|Explain fractions to a child.|What is a poem?|How do I make a cup of tea?|What are atoms made of?
Why do cats purr?|What is a budget?|How do magnets work?|What is the largest planet?|Give a short definition of art.
How can I save money?|What is the function of the lungs?|Why do people dream?|What is a mammal?|How do batteries work?
What is the speed of light?|Describe a sunny day.|How do I plant a tree?|What is a noun?|Why is recycling useful?
What is an ecosystem?|How does soap clean?|What is a healthy way to handle stress?|What is DNA?|Who wrote Romeo and Juliet?
How do I calculate a percentage?|What is a volcano?|Why do we yawn?|What is the purpose of a constitution?
How do earthquakes happen?|What is friction?|Suggest a name for a puppy.|What is a triangle?|How do bees make honey?
What is evaporation?|Why do birds migrate?|What is a good hobby for the winter?|How do I change a light bulb?
What is the stomach for?|Explain the word courage.|What is a black hole?|How does a camera work?|What is a vitamin?
How many days are in a leap year?|What makes a good friend?|How do I cook rice?|What is a verb?|Why does ice melt?
What is a satellite?|How do trees help the air?|What is a fossil?|How should I prepare for an interview?
What is electricity?|Why do we need sleep?|What is an island?|How is paper made?|What is a robot?|What is sound?
How do I stay focused at work?|What is a comet?|Explain what a metaphor is.|What is an adjective?|How do muscles grow?
What is a map for?|Why do onions make us cry?|What is a library?|How do fish breathe?|What is oxygen?
How can I be more polite?|What is a desert?
""".replace("\n", "|").strip("|").split("|"))

HELD_OUT = tuple("""
Why is the sky blue?|How do I bake a simple cake?|What is the capital of Japan?|What is an algorithm?|How does a telescope work?
Give me two tips for public speaking.|What is a virus?|Why do stars twinkle?|What is the purpose of a budget plan?
How do I tie a tie?|Who was Albert Einstein?|What is a molecule?|Explain what a square root is.|How does the brain store memories?
What is a good way to learn mathematics?|Why do leaves fall?|What is global warming?|How do computers store data?
What is a novel?|How can I drink more water every day?|What does the liver do?|What is a rainbow?|Why do we laugh?
How does a car engine work?|What is a continent?|Name three primary colours.|What is a tax?|How do I clean a keyboard?
What is the difference between a frog and a toad?|Why is reading important?|What is a galaxy?|How do I make a sandwich?
""".replace("\n", "|").strip("|").split("|"))
