"""Questions by whose scores the router was chosen: its threshold's rule and share, and one kind of evidence. No fit saw them.

Figures on these are somewhat too good; `questions` has the ones that count. What each kind is: see there.
"""

from __future__ import annotations

PARAPHRASES = (
    "Which item succeeds the {x}?",
    "I have just seen the {x}. What should I expect to see afterwards?",
    "Suppose the {x} is finished. Who takes its seat?",
    "My journey has brought me as far as the {x}. Where will I arrive?",
    "Could you tell me what people find once they are through with the {x}?",
    "hey, quick one: {x}, and afterwards?",
    "Somebody mentioned the {x} to me yesterday. What ought I to watch out for now?",
    "What would be the most natural continuation of a story that has got to the {x}?",
    "In your account of things, which object is set immediately behind the {x}?",
    "Help me remember: we talked about the {x}, and there was something it hands over to.",
    "Now that the {x} is out of the way, with what do we continue?",
    "Is there anything you know of that regularly shows up as soon as the {x} disappears?",
    "the {x} - whats the one thing it ends up as",
    "Explain to a stranger where somebody ends up who sets out from the {x}.",
    "Draw an arrow from the {x}. At which thing does its tip arrive?",
    "Whose moment has come when that of the {x} is past?",
)

GENERAL = tuple("""
How do I reset my router password?|What is the boiling point of nitrogen?|Who directed the film Casablanca?
How many players are on a rugby team?|What is the square root of 144?|Can you explain how blockchain works?
What does the French word bonjour mean?|How do I convert miles to kilometres?|What is the plot of Hamlet?
Who discovered penicillin?|How long should I boil pasta?|What is the difference between a virus and a bacterium?
How do I sort a list in Python?|What is a mortgage?|When did the Second World War end?
How do I remove a coffee stain from a shirt?
What are the symptoms of the flu?|Who is the author of Don Quixote?|What is the tallest mountain in Africa?
How does a microwave oven heat food?|What is the meaning of the word ubiquitous?|Recommend a stretching routine for runners.
What is compound interest?|How do I change the language of my phone?|What is the currency of Brazil?
Why do we have time zones?|What is the Pythagorean theorem?|How do I make guacamole?|Who was Cleopatra?
What is machine learning?|How do I write a cover letter?|What does a project manager do?|How many bones does a human have?
What is the chemical symbol for potassium?|What is the plural of mouse?|Give me a recipe for banana bread.
How do I calm a crying baby?|What is the distance from the Earth to the Sun?|How do noise cancelling headphones work?
What is a haiku?|Tell me a fact about octopuses.|What is the best way to memorise vocabulary?|Who painted Guernica?
How does the stock market work?|What is a carbohydrate?|How can I stop procrastinating?|What is the fastest land animal?
How do I set up two factor authentication?|What is quantum entanglement?|Why is Pluto not a planet any more?
How do I train for a marathon?|What is the national flower of Japan?|What is a semicolon used for?
How do I get rid of hiccups?|What is the population of India?|Who invented the telephone?|What is an antonym of generous?
How do solar panels make electricity?|What is the difference between HTTP and HTTPS?|How do I fold a fitted sheet?
What was the Renaissance?|What is the role of the United Nations?|How do I divide fractions?|What is a calorie?
What time is it in Tokyo when it is noon in London?|How do I unclog a kitchen sink?|What are the phases of the moon called?
Who won the football World Cup in 2010?|What is a pronoun?|How do I improve my posture at a desk?|What is a gene?
How much protein should I eat?|What is the longest river in Asia?|What does a cardiologist do?|How do I cite a book in an essay?
What is a leap second?|How do I delete my browser history?|Why does bread mould?|What is the difference between jam and jelly?
Who composed the Four Seasons?|How does GPS know where I am?|What is an exoplanet?|How do I build self confidence?
What is 17 times 23?|How many litres are in a gallon?|What is the greenhouse effect?|How do I make my own yogurt?
What is the capital of Australia?|How do I tell whether an avocado is ripe?|What is stoicism?|Who was the first person in space?
What is a spreadsheet formula for an average?|How do I apply for a passport?|What does RAM do in a computer?
How do I practise mindfulness?|What is the difference between a lawyer and a notary?|What is plate tectonics?
How do I prune tomato plants?|What is a synonym for happy?|Why do cats knead blankets?|What is an allergy?
How do I split a bill fairly among friends?|What is the human appendix for?|What is a light year?|How do I play chess?
What is photoshop used for?|Explain supply and demand.|What is the longest word in English?|What does DNA stand for?
How do I start a vegetable garden on a balcony?|What is the difference between affect and effect?
How do I write a toast for a wedding?
What is the origin of pizza?|Who wrote Pride and Prejudice?|What is a healthy heart rate?|How do I install Linux?
What is a palindrome?|How does a nuclear reactor work?|What causes inflation to rise?|How do I keep my houseplants alive?
What is the Fibonacci sequence?|What is a good name for a kitten?|How does caffeine affect the brain?
What is polymorphism in programming?
What are the official languages of Switzerland?|How do I ask for a raise?|What is the tallest building in the world?
Why do we get goosebumps?|How do I pack for a week of business travel?
What is the difference between a crocodile and an alligator?
What is an isosceles triangle?|How do vending machines recognise coins?|Who was Mahatma Gandhi?|What is a startup?
How do I back up my photos?|What is jazz?|How many planets are there in the solar system?|What is the Big Bang?
How do I learn to juggle?|What is a recession?|What does the thyroid gland do?|How do I write a limerick?
Why do bananas turn brown?|What is a database index?|Who wrote the Odyssey?|How do I tell a joke well?
What is the difference between speed and velocity?|How do I choose a laptop?|What is hypnosis?|What is the Turing test?
How do electric cars charge?|What is a balanced diet?|What is the capital of Canada?|How do I fix a flat bicycle tyre?
What is the function of chlorophyll?|Who founded Rome according to legend?|How does a thermostat work?|What is an acid?
How do I write a thank-you note?|What is a podcast?|How do I convert Celsius to Fahrenheit?|What is a logarithm?
What is the best age to start school?|How does the immune system fight infection?|What is a referendum?|How do I peel a mango?
What is the difference between baroque and classical music?|Who was Marie Curie?|How do I stop my glasses from fogging up?
What is an operating system?|What is a stanza?|How do opinion polls choose whom to ask?|How do I negotiate rent?
What are antioxidants?|How do I clear the cache of my phone?|What is the theory of relativity?|What is a bond in finance?
How do I prepare for a maths exam?|How do dolphins sleep?|What is a tariff?|What is a kilobyte?|Who was Nelson Mandela?
How do I cook quinoa?|What is the difference between a simile and a metaphor?|How do I meditate?|What is a mitochondrion?
What is cloud computing?|How do I get better at small talk?|Why do we blink?|What is the Doppler effect?|What is a sonnet?
How do I fill in a tax return?|What is an enzyme?|What is the most spoken language in the world?|How do I use chopsticks?
What is the square of 25?|How does a 3D printer work?|What is an introvert?|Who invented the light bulb?|What is a hurricane?
How do I organise my email inbox?|What is the speed of sound?|How do I treat a sunburn?|What is a neural network?
What is the difference between weather forecasts and climate models?|How do I make pancakes without eggs?
What is a carbon footprint?
What is the capital of Egypt?|How do I choose running shoes?|What is an ultrasound scan?|What is feminism?
How do I become a nurse?|What is the Great Wall of China?|How do I lower my blood pressure?|What is a verb tense?
What does an economist study?|How do I plan a birthday party?|How do I reheat rice safely?|What is the ozone layer?
How do I find the area of a circle?|What is a hedge fund?|Who sang Bohemian Rhapsody?|How do I ask somebody out on a date?
What is a byte?|Why is yawning catching?|How do I shuffle cards?|What is an electron?|How do I take a screenshot?
What is the meaning of life?|What is a good password?|How do I make a paper aeroplane?|What is a vegan?|Who was Napoleon?
How do I learn to code?|What is a tsunami?|How do I grow an avocado from a pit?|What is a podium?|What is karma?
How many continents are there?|What is the difference between a cold and hay fever?|How do I create a budget?
What is the smallest country in the world?|How do bats find their way?|What is a resume gap?|What is a chromosome?
How do I dry fresh herbs?|What is a Boolean?|What does a plumber charge?|How do I write a unit test?|What is yoga good for?
Hello, how are you today?|Thanks, that was helpful!|Can you speak German?|Who made you?|Tell me something interesting.
What should I cook tonight?|Good morning!|I feel sad today.|Are you a real person?|Write a short poem about spring.
Summarise the news of today.|Translate good night into Spanish.|What is your favourite colour?|Sing me a song.|Count to ten.
I cannot fall asleep, any advice?|My computer is slow, what can I do?|Which film should I watch this weekend?
How do I say no politely?|Is it going to rain tomorrow?|What day is it?|Play rock paper scissors with me.
Give me five names for a rock band.|Solve x plus 3 equals 10.|Is coffee bad for the heart?|Rewrite this sentence in the passive.
What is a good gift for my grandmother?|Do aliens exist?|How old is the universe?|Spell the word necessary.
""".replace("\n", "|").strip("|").split("|"))

NEAR = tuple("""
How deep is the average harbour?|How do tides work?|What does a harbour master do?|How do lighthouses rotate their lamps?
How do fishermen mend nets?|What is the best bait for cod?|How is sea salt produced?|How are ships in bottles made?
How do I restore old wooden furniture?|What is the difference between a ship and a boat?|Who invented the compass?
How does an anchor hold a ship?|How do sailors tie a bowline?|What was the golden age of piracy?|How is glass made from sand?
How do I polish silver?|How is rope made?|Why does iron rust in salt water?|What is sea glass?|How do I clean a brass lamp?
What do seagulls eat?|How do oysters make pearls?|What is a tide table?|How do submarines dive?|What is a dry dock?
How was whale oil used?|What is a customs officer?|How do cranes unload containers?|What is the law of the sea?
Who was Captain Cook?|How do I learn to sail?|What is seasickness?|How do ships stay afloat?|What is a shipwreck worth?
How do I bake fish in salt?|What does a cooper make?|How are church bells cast?|How is paper money printed?
How do old clocks work?
What is porcelain made of?|How do I sharpen a knife?|What is a sextant?|How is linen woven?|What is a sea shanty?
How do divers breathe under water?|What is the Mary Celeste?|Why is the sea salty?|What are barnacles?|How do fog horns work?
How do I paint a wooden boat?|What is tar made from?|How is leather tanned?|Who owns the contents of a wreck?
What is a pilot boat?
How heavy is a ship's anchor?|What is a galleon?|What colour is verdigris?|How do I remove rust from a key?|What is bone china?
What is a knot in nautical speed?|How do locks on a canal work?|What do dock workers earn?|How do I smoke a fish?
How is a violin made?|How do candles burn?|How do mirrors reflect light?|What was the silk road?|How was ink made in old times?
Why are lobsters expensive?|What is a trawler?|What is the oldest lighthouse in the world?|How do storms form at sea?
How are gold coins minted?|What is a merchant navy?|What is the deepest part of the ocean?|How does a sundial tell the time?
What is a coral reef?|What do I do when a boat capsizes?|What is a ferry?|How are barrels sealed?
How does a windmill grind grain?
What is the price of copper?|How do I tie a fishing fly?|What is the difference between seals and sea lions?|What is a quay?
""".replace("\n", "|").strip("|").split("|"))
