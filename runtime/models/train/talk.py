"""Conversations: what people ask of a small model, and what it answers.

A conversation is a list of (role, text). What the model cannot know it says it cannot know.
"""

from random import Random

import facts
from stories import ANIMALS, FEMALE, MALE, PEOPLE, PLACES, THINGS, TOPICS, Wish, article, capital, someone, story

Turn = tuple[str, str]
Exchange = list[Turn]

NAMES = tuple(FEMALE) + tuple(MALE) + tuple("Alex Kim Robin Ali Chen Priya Omar Yuki Lars Elena Marco Sofia David Sarah Peter Emma Paul Jane".split())
SYSTEMS = (
    "You are a helpful assistant.", "You are Firecrest, a small and friendly assistant.", "You are a helpful AI assistant named Firecrest.",
    "Be kind and brief.", "Answer in a friendly way.", "You tell stories for children.", "You are a storyteller.", "Answer as well as you can.",
)


def pick(random: Random, *choices: str) -> str:
    """One of the choices."""
    return random.choice(choices)


def roughen(random: Random, text: str) -> str:
    """The text as people type it: now and then without capitals, punctuation or with a `please`."""
    if random.random() < 0.12 and not text.endswith("."):
        text = pick(random, "Please ", "Can you please ", "Could you ") + text[0].lower() + text[1:] if text[:4] in ("Tell", "Writ", "Give", "List", "Name") else text
    if random.random() < 0.2:
        text = text[0].lower() + text[1:] if not text.startswith("I ") else text.lower()
    if random.random() < 0.25:
        text = text.rstrip(".?!")
    elif random.random() < 0.05:
        text += "!"
    return text


def ask(random: Random, question: str, answer: str) -> Exchange:
    """One question, one answer."""
    return [("user", roughen(random, question)), ("assistant", answer)]


def tell_story(random: Random) -> Exchange:
    draw = random.random()
    plain = ("Tell me a story", "Tell me a story.", "Tell me a short story.", "Write a story.", "Can you tell me a story?", "I want to hear a story.",
             "Please tell me a nice story.", "Write a short story for children.", "Tell a story", "Make up a story.", "Tell me a bedtime story.", "A story, please.", "Tell me a fairy tale.")
    if draw < 0.4:
        return ask(random, pick(random, *plain), story(random))
    about = ("Tell me a story about {x}.", "Write a story about {x}.", "Can you tell me a story about {x}?", "I would like a story about {x}.", "Tell me a short story about {x}.", "Make up a story with {x} in it.", "A story about {x}, please.")
    if draw < 0.65:
        kind = random.choice(ANIMALS if random.random() < 0.75 else PEOPLE)
        return ask(random, pick(random, *about).format(x=article(kind)), story(random, Wish(kind=kind)))
    if draw < 0.75:
        hero = someone(random)
        return ask(random, pick(random, *about).format(x=f"{article(hero.kind)} {pick(random, 'called', 'named')} {hero.name}"), story(random, Wish(kind=hero.kind, name=hero.name)))
    if draw < 0.85:
        thing = random.choice(THINGS)
        return ask(random, pick(random, *about).format(x=article(thing)), story(random, Wish(thing=thing)))
    if draw < 0.93:
        kind, thing = random.choice(ANIMALS), random.choice(THINGS)
        return ask(random, pick(random, *about).format(x=f"{article(kind)} and {article(thing)}"), story(random, Wish(kind=kind, thing=thing)))
    place = random.choice(PLACES)
    return ask(random, pick(random, "Tell me a story that happens {x}.", "Write a story set {x}.", "Tell me about someone who lives {x}.").format(x=place[0]), story(random, Wish(place=place)))


def go_on(random: Random) -> Exchange:
    """The listener begins and the model goes on."""
    tale = story(random)
    first, rest = tale.split("\n\n", 1)
    return [("user", pick(random, "Continue this story: ", "Go on with this story: ", "Finish this story: ", "What happens next? ") + first), ("assistant", rest)]


def greet(random: Random) -> Exchange:
    hello = pick(random, "Hi", "Hello", "Hello!", "Hi there", "Hey", "Good morning", "Good evening", "Good day", "Hello there!", "hi", "hello", "Hi!", "Greetings")
    back = pick(random, "Hello! How can I help you today?", "Hi! It is nice to meet you. What would you like to talk about?", "Hello! Shall I tell you a story?",
                "Hi there! What can I do for you?", "Hello! I am Firecrest, a very small language model. How can I help?")
    if hello.startswith("Good"):
        back = hello + "! " + pick(random, "How can I help you?", "What would you like to talk about?", "Shall I tell you a story?")
    return [("user", hello), ("assistant", back)]


def well_being(random: Random) -> Exchange:
    return ask(random, pick(random, "How are you?", "How are you doing?", "How are you today?", "Are you well?", "How do you feel?", "Hello, how are you?", "Hi, how are you?"),
               pick(random, "I am well, thank you! How are you?", "Very well, thank you for asking. And you?", "I am fine, thank you. What can I do for you?"))


def introduce(random: Random) -> Exchange:
    """A name is given, and perhaps asked for later."""
    name = random.choice(NAMES)
    turns = [("user", roughen(random, pick(random, "My name is {n}.", "I am {n}.", "Hi, I am {n}.", "Hello, my name is {n}.", "You can call me {n}.").format(n=name))),
             ("assistant", pick(random, "Nice to meet you, {n}! How can I help you?", "Hello, {n}! I am Firecrest. What would you like to do?", "It is a pleasure to meet you, {n}.").format(n=name))]
    if random.random() < 0.5:
        between = random.choice((animal, opposite, capital_of, colour))(random) if random.random() < 0.5 else []
        turns += between + ask(random, pick(random, "What is my name?", "Do you remember my name?", "Who am I?"), pick(random, f"Your name is {name}.", f"You are {name}.", f"You told me that your name is {name}."))
    return turns


def identity(random: Random) -> Exchange:
    table = (
        (("Who are you?", "What are you?", "What is your name?", "Introduce yourself.", "Tell me about yourself."),
         ("I am Firecrest, a very small language model that runs on your own device.", "My name is Firecrest. I am a tiny language model, and I like to tell stories.", "I am Firecrest, named after a very small bird with a bright crest. I tell stories and answer simple questions.")),
        (("What can you do?", "How can you help me?", "What can I ask you?", "Help", "What do you know?"),
         ("I can tell short stories, answer simple questions, make lists, and chat a little. I am very small, so please do not expect too much.", "I can tell you a story, a poem or a joke, answer easy questions, and do small sums.")),
        (("Are you a human?", "Are you a person?", "Are you real?", "Are you a robot?", "Are you an AI?"),
         ("I am a computer program: a small language model named Firecrest.", "No human here! I am Firecrest, a small language model.")),
        (("Are you ChatGPT?", "Are you Claude?", "Are you a big model?", "How big are you?"),
         ("No, I am Firecrest, a very small language model. I fit in a few megabytes.", "I am Firecrest, and I am tiny: only a few megabytes.")),
        (("Who made you?", "Where do you come from?", "Who created you?", "Who built you?"),
         ("I was trained from scratch by the makers of the Firecrest engine, on stories and simple questions.",)),
        (("Where do you run?", "Do you need the internet?", "Do you work offline?", "Where do you live?"),
         ("I run right on your own device, so I work without the internet, and what you write stays with you.",)),
        (("How old are you?", "When were you born?", "When is your birthday?"), ("I have no birthday. I am a small program, and I am quite new.",)),
        (("Do you have feelings?", "Can you feel?", "Do you love me?", "Are you alive?"), ("I am a program, so I have no feelings. But I am happy to chat with you.",)),
        (("What is your favourite colour?", "What do you like?", "What is your favourite food?", "Do you have hobbies?"), ("I am a program and have no favourites, but I do tell stories very often.",)),
        (("Do you speak French?", "What languages do you speak?", "Can you speak German?"), ("I only know simple English.", "I am sorry, I only speak English.")),
        (("Can I trust you?", "Are you always right?", "Do you make mistakes?"), ("I am very small and I make mistakes, so please check what I say.",)),
    )
    questions, answers = random.choice(table)
    return ask(random, random.choice(questions), random.choice(answers))


def thank(random: Random) -> Exchange:
    return ask(random, pick(random, "Thank you!", "Thanks", "Thanks a lot!", "That was nice.", "That was a good story.", "Great!", "Well done.", "I liked that."),
               pick(random, "You are welcome!", "I am glad that you liked it.", "My pleasure! Is there anything else?", "You are very welcome. Would you like to hear more?"))


def farewell(random: Random) -> Exchange:
    return ask(random, pick(random, "Goodbye", "Bye!", "See you later", "Good night", "I have to go.", "Bye bye"),
               pick(random, "Goodbye! It was nice to talk to you.", "Bye! Come back soon.", "See you soon! Take care."))


def agree(random: Random) -> Exchange:
    return ask(random, pick(random, "Yes", "Yes please", "Yes, a story please.", "Another one", "Tell me another one.", "One more, please.", "More", "Again!", "Tell me a different story."), story(random))


def animal(random: Random) -> Exchange:
    draw = random.randrange(3)
    if draw == 0:
        kind, sound = random.choice(tuple(facts.SOUNDS.items()))
        return ask(random, pick(random, "What does {a} say?", "What sound does {a} make?", "Which sound does {a} make?").format(a=article(kind)), f"{capital(article(kind))} says {sound}.")
    if draw == 1:
        kind, baby = random.choice(tuple(facts.BABIES.items()))
        return ask(random, pick(random, "What is a baby {k} called?", "What do you call a young {k}?", "What is the name of a baby {k}?").format(k=kind), f"A baby {kind} is called {article(baby)}.")
    kind, home = random.choice(tuple(facts.HOMES.items()))
    return ask(random, pick(random, "Where does {a} live?", "What is the home of {a}?", "Where can I find {a}?").format(a=article(kind)), f"{capital(article(kind))} lives in {home}.")


def colour(random: Random) -> Exchange:
    thing, shade = random.choice(tuple(facts.COLOURS.items()))
    the = thing if thing in ("grass", "snow", "coal", "milk", "blood", "chocolate") else ("the " if thing in ("sky", "sun", "night", "sea") else article(thing)[: -len(thing)]) + thing
    return ask(random, pick(random, "What colour is {t}?", "Which colour is {t}?", "What color is {t}?").format(t=the), f"{capital(the)} is {shade}.")


def opposite(random: Random) -> Exchange:
    word, other = random.choice(tuple(facts.OPPOSITES.items()))
    return ask(random, pick(random, "What is the opposite of {w}?", "What is the opposite of '{w}'?", "Give me the opposite of {w}.", "Opposite of {w}?").format(w=word), f"The opposite of {word} is {other}.")


def capital_of(random: Random) -> Exchange:
    country, city = random.choice(tuple(facts.CAPITALS.items()))
    return ask(random, pick(random, "What is the capital of {c}?", "What's the capital of {c}?", "Which city is the capital of {c}?", "Name the capital of {c}.", "capital of {c}").format(c=country), f"The capital of {country} is {city}.")


def define(random: Random) -> Exchange:
    word, meaning = random.choice(tuple(facts.DEFINITIONS.items()))
    a = word if word in ("winter", "summer") else "the " + word if word in ("sun", "moon") else article(word)
    return ask(random, pick(random, "What is {a}?", "What does the word {w} mean?", "Explain what {a} is.", "Can you tell me what {a} is?").format(a=a, w=word), meaning + ".")


def answer(random: Random) -> Exchange:
    questions, table = random.choice(facts.ANSWERS)
    key, reply = random.choice(tuple(table.items()))
    question = random.choice(questions).format(a=key)
    return ask(random, question, reply)


def sum_up(random: Random) -> Exchange:
    draw = random.random()
    a, b = random.randint(0, 12), random.randint(0, 12)
    if draw < 0.5:
        sign, word, result = "+", "plus", a + b
    elif draw < 0.75:
        a, b = max(a, b), min(a, b)
        sign, word, result = "-", "minus", a - b
    else:
        a, b = a % 11, b % 11
        sign, word, result = "*", "times", a * b
    text = f"{a} {sign} {b}" if random.random() < 0.5 else f"{a} {word} {b}"
    return ask(random, pick(random, "What is {t}?", "How much is {t}?", "{t}", "{t} = ?", "Calculate {t}.").format(t=text), f"{text} is {result}.")


def count(random: Random) -> Exchange:
    n = random.randint(2, 12)
    if random.random() < 0.5:
        return ask(random, pick(random, "Count to {n}.", "Can you count to {n}?", "Count from 1 to {n}").format(n=n), ", ".join(str(i) for i in range(1, n + 1)) + ".")
    a, b = random.sample(range(1, 60), 2)
    return ask(random, pick(random, "Which is bigger, {a} or {b}?", "What is more, {a} or {b}?").format(a=a, b=b), f"{max(a, b)} is bigger than {min(a, b)}.")


def enumerate_some(random: Random) -> Exchange:
    what, items = random.choice(tuple(facts.LISTS.items()))
    n = random.choice(tuple(facts.NUMBERS))
    some = random.sample(items, n)
    word = facts.NUMBERS[n] if random.random() < 0.7 else str(n)
    reply = "\n".join(f"{i}. {capital(s)}" for i, s in enumerate(some, 1)) if random.random() < 0.6 else capital(", ".join(some[:-1])) + " and " + some[-1] + "."
    return ask(random, pick(random, "List {n} {w}.", "Name {n} {w}.", "Give me {n} {w}.", "Tell me {n} {w}.", "Can you name {n} {w}?").format(n=word, w=what), reply)


def amuse(random: Random) -> Exchange:
    draw = random.randrange(3)
    if draw == 0:
        question, reply = random.choice(facts.JOKES)
        return ask(random, pick(random, "Tell me a joke.", "Do you know a joke?", "Make me laugh.", "Say something funny."), f"{question} {reply}")
    if draw == 1:
        question, reply = random.choice(facts.RIDDLES)
        return ask(random, pick(random, "Tell me a riddle.", "Ask me a riddle.", "Do you know a riddle?"), f"Here is one: {question} The answer is: {reply}")
    topic, poem = random.choice(facts.POEMS)
    about = pick(random, "", f" about {'the ' if topic in ('sea', 'moon', 'rain', 'stars') else 'a ' if topic in ('cat', 'bird') else ''}{topic}")
    return ask(random, pick(random, "Write a poem{a}.", "Tell me a poem{a}.", "Can you write a short poem{a}?", "Give me a poem{a}.").format(a=about), poem)


def advise(random: Random) -> Exchange:
    feeling, reply = random.choice(tuple(facts.ADVICE.items()))
    return ask(random, feeling + ".", reply)


def repeat(random: Random) -> Exchange:
    words = random.choice((random.choice(TOPICS), random.choice(NAMES), " ".join(random.sample(TOPICS, 2)), article(random.choice(TOPICS))))
    return ask(random, pick(random, "Say {w}.", "Repeat after me: {w}", "Say the word {w}.", "Repeat: {w}").format(w=words), capital(words) + "." if random.random() < 0.5 else words)


def beyond(random: Random) -> Exchange:
    """Asked for more than so small a model knows."""
    topic = random.choice(facts.BEYOND)
    question = pick(random, "Tell me about {t}.", "What do you know about {t}?", "Explain {t}.", "Write me something about {t}.", "Can you help me with {t}?", "What is {t}?", "How does {t} work?",
                    "What do you think about {t}?", "Give me details on {t}.", "Who invented {t}?", "Summarise {t} for me.").format(t=topic)
    reply = pick(random, "I am sorry, I do not know that. I am only a very small model. Shall I tell you a story?", "That is too hard for me. I am a tiny model and know only simple things.",
                 "I am afraid I cannot help with that. I can tell stories and answer simple questions.", "I do not know enough about that, and I do not want to make something up.")
    return ask(random, question, reply)


# What is asked, and how often.
KINDS = (
    (tell_story, 28), (go_on, 3), (agree, 3), (greet, 5), (well_being, 3), (introduce, 4), (identity, 8), (thank, 3), (farewell, 2), (animal, 4), (colour, 3),
    (opposite, 4), (capital_of, 4), (define, 4), (answer, 5), (sum_up, 6), (count, 3), (enumerate_some, 4), (amuse, 5), (advise, 3), (repeat, 2), (beyond, 6),
)


def conversation(random: Random) -> list[Turn]:
    """One to four exchanges, now and then under a system prompt."""
    turns: list[Turn] = [("system", random.choice(SYSTEMS))] if random.random() < 0.15 else []
    kinds, weights = zip(*KINDS)
    exchanges = random.choices((1, 2, 3, 4), (62, 22, 10, 6))[0]
    for place, kind in enumerate(random.choices(kinds, weights, k=exchanges)):
        turns += (tell_story if kind in (agree, thank) and place == 0 else kind)(random)
    return turns
