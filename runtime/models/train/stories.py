"""A grammar of short children's stories.

A story is a hero, a place, a thing, and a friend, led through one of a closed set of plots. Each beat of a plot has
several wordings; who is who stays fixed through a story, so that a small network can learn to keep it so.
"""

from dataclasses import dataclass
from random import Random

ANIMALS = (
    "fox rabbit bear mouse owl hedgehog squirrel duck frog cat puppy kitten goat lamb pony deer badger otter beaver turtle "
    "penguin seal whale elephant lion tiger monkey panda koala bee ladybird snail spider sparrow robin crow swan goose hen "
    "mole bat wolf dragon firecrest crab dolphin parrot donkey camel"
).split()
PEOPLE = "girl boy princess prince knight baker gardener sailor farmer painter wizard giant fairy robot king queen".split()
FEMALE = "Lily Mia Anna Rosa Nora Ella Ruby Clara Ivy Wren Hazel Maya Tess Lucy Zoe June Pearl Daisy".split()
MALE = "Tom Ben Sam Leo Max Finn Oscar Hugo Jack Theo Otto Toby Felix Noah Milo Bram Pip Jasper".split()
SHE_ONLY = {"girl", "princess", "fairy", "queen", "hen"}
HE_ONLY = {"boy", "prince", "king"}
TRAITS = "small brave kind clever curious shy gentle cheerful quiet merry young friendly lonely playful".split()
PLACES = (
    ("in a green forest", "the forest"), ("by the sea", "the beach"), ("on a quiet farm", "the farm"),
    ("near a silver river", "the river"), ("in a little village", "the village"), ("at the foot of a tall mountain", "the mountain"),
    ("in a sunny meadow", "the meadow"), ("in a cosy house", "the house"), ("in a big garden", "the garden"),
    ("beside a deep blue lake", "the lake"), ("in a busy town", "the town"), ("on a small island", "the island"),
    ("in a snowy valley", "the valley"), ("under an old oak tree", "the old oak tree"), ("in a castle on a hill", "the castle"),
)
THINGS = (
    "red ball|golden key|little boat|paper kite|silver bell|warm scarf|blue hat|shiny stone|old map|music box|wooden drum|"
    "yellow balloon|lantern|magic seed|toy train|picture book|apple|cake|flute|umbrella|star|shell|feather|bicycle|"
    "green cup|honey pot|white flower|pencil|ring|basket|clock|blanket|violin|teapot|coat|candle"
).split("|")
WEATHER = ("sunny", "windy", "rainy", "snowy", "warm", "cold", "bright", "misty")
FOODS = "warm soup|fresh bread|apple pie|honey cakes|hot chocolate|strawberry jam|pancakes|berries and cream".split("|")
FEELINGS = {"sad": "happy", "afraid": "brave", "lonely": "happy", "worried": "glad", "cross": "calm", "bored": "excited"}
TOPICS = tuple(ANIMALS) + tuple(PEOPLE) + tuple(t.split()[-1] for t in THINGS)


def article(phrase: str) -> str:
    """The phrase behind its indefinite article."""
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def capital(text: str) -> str:
    """The text with its first letter in capitals."""
    return text[0].upper() + text[1:]


@dataclass(frozen=True)
class Someone:
    """A character: a name, what they are, and the words that stand for them."""

    name: str
    kind: str
    she: bool

    @property
    def they(self) -> str:
        return "she" if self.she else "he"

    @property
    def them(self) -> str:
        return "her" if self.she else "him"

    @property
    def their(self) -> str:
        return "her" if self.she else "his"


def someone(random: Random, kind: str | None = None, name: str | None = None, other: Someone | None = None) -> Someone:
    """A character that differs from `other` in name and kind."""
    while kind is None or (other is not None and kind == other.kind):
        kind = random.choice(ANIMALS if random.random() < 0.75 else PEOPLE)
    if name in FEMALE:
        she = True
    elif name in MALE:
        she = False
    else:
        she = kind in SHE_ONLY or (kind not in HE_ONLY and random.random() < 0.5)
    while name is None or (other is not None and name == other.name):
        name = random.choice(FEMALE if she else MALE)
    return Someone(name, kind, she)


@dataclass(frozen=True)
class Wish:
    """What a listener asks for. What is left open is drawn."""

    kind: str | None = None
    name: str | None = None
    thing: str | None = None
    place: tuple[str, str] | None = None


class Teller:
    """Tells one story. Beats return sentences; `say` picks a wording and fills in who and what."""

    def __init__(self, random: Random, wish: Wish) -> None:
        self.random = random
        self.hero = someone(random, wish.kind, wish.name)
        self.friend = someone(random, other=self.hero)
        self.place_in, self.place = wish.place or random.choice(PLACES)
        self.thing = wish.thing or random.choice(THINGS)
        self.feeling = random.choice(tuple(FEELINGS))
        self.asked_for_thing = wish.thing is not None

    def say(self, *wordings: str, **more: str) -> str:
        """One of the wordings, filled in."""
        hero, friend = self.hero, self.friend
        short = self.thing.split()[-1]
        words = dict(
            name=hero.name, kind=hero.kind, they=hero.they, They=capital(hero.they), them=hero.them, their=hero.their,
            Their=capital(hero.their), friend=friend.name, fkind=friend.kind, a_fkind=article(friend.kind), fthey=friend.they,
            Fthey=capital(friend.they), fthem=friend.them, ftheir=friend.their, place_in=self.place_in, place=self.place,
            thing=self.thing, a_thing=article(self.thing), it=short, weather=self.random.choice(WEATHER),
            food=self.random.choice(FOODS), feeling=self.feeling, glad=FEELINGS[self.feeling], **more,
        )
        return self.random.choice(wordings).format(**words)

    def opening(self) -> list[str]:
        trait = self.random.choice(TRAITS)
        who = article(f"{trait} {self.hero.kind}")
        return [
            self.say(
                "Once upon a time, {place_in}, there lived {who} called {name}.",
                "Once upon a time there was {who} named {name}, who lived {place_in}.",
                "Long ago, {place_in}, there lived {who}. {Their} name was {name}.",
                "There once was {who} named {name}. {They} lived {place_in}.",
                who=who,
            ),
        ]

    def habit(self) -> str:
        return self.say(
            "Every morning {name} looked out at {place} and smiled.",
            "{name} loved to sing while {they} worked.",
            "{name} liked {food} and long walks.",
            "{name} knew every path near {place}.",
            "Everyone who met {name} liked {them} at once.",
            "In the evening {name} always looked up at the stars.",
        )

    def treasure(self) -> str:
        return self.say(
            "More than anything, {name} loved {their} {thing}.",
            "{name} had {a_thing}, and {they} took it everywhere.",
            "{Their} grandmother had given {them} {a_thing}, and {name} kept it safe.",
        )

    def meeting(self) -> str:
        return self.say(
            "Just then {a_fkind} called {friend} came along.",
            "On the way {they} met {a_fkind} named {friend}.",
            "Soon {they} saw {a_fkind}. It was {friend}, who lived nearby.",
        )

    def asking(self) -> str:
        return self.say(
            '"Why are you so {feeling}?" asked {friend}.',
            '"What is the matter?" asked {friend} in a kind voice.',
            '"Can I help you?" asked {friend}.',
        )

    def lost(self) -> tuple[list[str], str]:
        """Something dear is lost and found again."""
        spot = self.random.choice(
            ("under a bush", "behind a big rock", "at the top of a tree", "in the tall grass", "beside the well", "under the bridge"),
        )
        return [
            self.treasure(),
            self.say("One {weather} day, the {it} was gone!", "One {weather} morning {name} woke up and could not find the {it}."),
            self.say("{name} looked here and {name} looked there, but it was nowhere.", "{They} looked under the bed and behind the door, but {they} could not find it."),
            self.meeting(),
            self.asking(),
            self.say('"I have lost my {thing}," said {name}.', '"My {thing} is gone," {name} said, and {they} began to cry.'),
            self.say('"Do not worry," said {friend}. "We will look for it together."', '"Two pairs of eyes are better than one," said {friend}. "Let us look together."'),
            self.say("They looked all around {place} until the sun was low.", "They walked all the way around {place}, step by step."),
            self.say("At last {friend} saw something {spot}. It was the {it}!", 'Then {name} gave a shout. "There it is!" The {it} was {spot}.', spot=spot),
            self.say("{name} was so happy that {they} danced. {They} hugged {friend} and said thank you.", '"Thank you, {friend}!" said {name}. "You are a true friend."'),
        ], "A problem is smaller when a friend helps you."

    def afraid(self) -> tuple[list[str], str]:
        """A fear is met and grows small."""
        fear = self.random.choice(("the dark", "the deep water", "the loud thunder", "high places", "the old bridge", "the wind at night"))
        return [
            self.say("But {name} had a secret. {They} was afraid of {fear}.", "There was only one thing {name} did not like: {they} was afraid of {fear}.", fear=fear),
            self.say("One {weather} evening, {name} heard a small voice calling for help.", "One {weather} night, someone cried out near {place}."),
            self.say("It was {friend}, {a_fkind}, who was lost and all alone.", "It was {a_fkind} named {friend}, and {fthey} could not find the way home."),
            self.say("{name} thought of {fear}, and {their} heart beat fast.", "{name} wanted to hide, because of {fear}.", fear=fear),
            self.say("But {friend} needed help, so {name} took a deep breath and went on.", '"I am afraid," {name} said to {them}self, "but {friend} needs me." And off {they} went.'),
            self.say("{They} held up {a_thing} and sang a little song to feel brave.", "Step by step {they} walked, with {a_thing} in {their} hand."),
            self.say('"You came!" said {friend}. "I was so scared."', '"Oh, thank you," said {friend}. "I thought nobody would come."'),
            self.say("Together they walked back to {place}, and it was not so bad after all.", "Hand in hand they went home, and {name} saw that there was nothing to fear."),
            self.say("From that day on, {name} was not afraid of {fear} any more.", "After that night, {name} was never so afraid of {fear} again.", fear=fear),
        ], "Being brave means doing what is right even when you are afraid."

    def shared(self) -> tuple[list[str], str]:
        """Sharing makes a thing worth more."""
        return [
            self.say("One {weather} day {name} found {a_thing} near {place}.", "One {weather} day somebody gave {name} {a_thing}."),
            self.say('"It is mine, and only mine," said {name}, and {they} hid it at home.', "{name} was so proud of it that {they} would not let anyone touch it."),
            self.say("But it was no fun to be alone with the {it}.", "{name} sat with the {it} all day, but after a while {they} felt lonely."),
            self.meeting(),
            self.say('"What a lovely {it}!" said {friend}. "May I see it?"', '"I wish I had {a_thing} too," said {friend} with a sigh.'),
            self.say("{name} thought for a long time. Then {they} smiled.", "At first {name} wanted to say no. But {friend} looked so sad."),
            self.say('"Come," said {name}. "We can share it."', '"Here," {name} said. "Let us use it together."'),
            self.say("They laughed and played until the moon came up.", "All afternoon they played near {place}, and they ate {food}."),
            self.say("{name} had never been so happy. The {it} was much nicer with a friend.", 'That night {name} said, "The {it} is good, but a friend is better."'),
        ], "Joy grows when you share it."

    def built(self) -> tuple[list[str], str]:
        """Trying again leads to making something."""
        made = self.random.choice(("little house", "boat", "bridge", "kite", "garden", "tower", "swing", "nest", "cart", "raft"))
        return [
            self.say("One {weather} day {name} had an idea. {They} wanted to make {a_made}.", "{name} had a dream. {They} wished to build {a_made} with {their} own hands.", a_made=article(made)),
            self.say("{They} worked all day, but the {made} fell down.", "{name} tried and tried, but the first {made} broke at once.", made=made),
            self.say("{name} felt {feeling} and sat down on a stone.", '"I will never do it," said {name}.'),
            self.meeting(),
            self.say('"Try again," said {friend}. "Everyone must learn."', '"I fell many times before I could walk," said {friend}. "Try once more."'),
            self.say("{friend} brought {a_thing}, and {name} saw how it could help.", "{friend} held one side and {name} held the other."),
            self.say("The second {made} was better, but it was still not right.", "They tried a second time, and it was almost good.", made=made),
            self.say("The third time, the {made} stood strong and fine.", "On the third day the {made} was ready, and it was beautiful.", made=made),
            self.say("Everyone from {place} came to see it, and they all clapped.", "{name} jumped for joy, and {friend} laughed out loud."),
        ], "If you do not give up, you will get there in the end."

    def helped(self) -> tuple[list[str], str]:
        """A small kindness comes back."""
        trouble = self.random.choice(
            ("was stuck in the mud", "had hurt a foot", "was cold and hungry", "was caught in a net", "had fallen into a hole", "could not cross the water"),
        )
        return [
            self.say("One {weather} day, as {name} walked near {place}, {they} heard a cry.", "One {weather} morning {name} was on the way to {place} when {they} heard someone."),
            self.say("It was {friend}, {a_fkind}, who {trouble}.", "There was {a_fkind} named {friend}. The poor {fkind} {trouble}.", trouble=trouble),
            self.say("{name} did not wait. {They} ran to help at once.", '"Hold on!" called {name}. "I am coming."'),
            self.say("{They} used {a_thing} and worked until {friend} was safe.", "With {a_thing} and a lot of care, {name} made everything right."),
            self.say("Then {name} gave {fthem} {food}, and {friend} smiled again.", '"You are so kind," said {friend}. "I will not forget this."'),
            self.say("Many days went by. Then a great storm came to {place}.", "When winter came, {name} had nothing left to eat."),
            self.say("{name} was in trouble, and {they} did not know what to do.", '"Who will help me now?" said {name}.'),
            self.say("There was a knock at the door. It was {friend}, with all {ftheir} family!", "Then {friend} came running, and {fthey} brought {food}."),
            self.say('"You helped me," said {friend}, "and now I help you."', '"Now it is my turn," said {friend}, and {fthey} stayed until all was well.'),
        ], "A small kindness always finds its way back."

    def journey(self) -> tuple[list[str], str]:
        """Far away is fine, home is best."""
        goal = self.random.choice(("the end of the rainbow", "the highest hill", "the edge of the world", "the moon", "the great waterfall", "the city of lights"))
        return [
            self.say("One {weather} day {name} said, \"I want to see {goal}.\"", "{name} always wanted to see {goal}.", goal=goal),
            self.say("{They} packed {a_thing} and some {food}, and off {they} went.", "So {name} took {a_thing}, waved goodbye, and set out."),
            self.say("{They} walked over hills and through fields.", "The road was long, and {name} walked for three days."),
            self.meeting(),
            self.say('"Where are you going?" asked {friend}. "May I come too?"', '"I know the way," said {friend}. "Let me come with you."'),
            self.say("So they went on together, and the road did not feel so long.", "They told each other stories and slept under the stars."),
            self.say("At last they came to {goal}, and it was the most beautiful thing they had ever seen.", "One evening they stood before {goal}. For a long time they did not say a word.", goal=goal),
            self.say('"It is lovely," said {name}, "but I miss {place}."', "Then {name} thought of {place} and of home."),
            self.say("So they turned around, and when they were home again they ate {food} and told everyone about it.", "They walked home hand in hand, and {friend} stayed with {name} for ever."),
        ], "It is good to see the world, and it is good to come home."

    def truth(self) -> tuple[list[str], str]:
        """A thing is broken and the truth is told."""
        return [
            self.say("{friend}, {a_fkind}, had {a_thing}, and {name} was allowed to play with it.", "One {weather} day {friend} the {fkind} lent {name} {a_thing}."),
            self.say("But {name} was not careful, and the {it} broke.", "{name} ran too fast, fell down, and broke the {it}."),
            self.say('"Oh no," said {name}. "What shall I do?"', "{name} hid the {it} under a bush and hoped that nobody would see."),
            self.say("All night {name} could not sleep.", "{name} felt {feeling}, and even {food} did not taste good."),
            self.say("In the morning {they} went to {friend} and told the truth.", 'The next day {name} said, "{friend}, I broke your {it}. I am so sorry."'),
            self.say("{friend} was quiet for a moment. Then {fthey} smiled.", "{friend} looked at the {it} and then at {name}."),
            self.say('"Thank you for telling me," said {friend}. "We can mend it together."', '"Everyone makes mistakes," said {friend}. "It was brave of you to tell me."'),
            self.say("They took some glue and some string, and soon the {it} was as good as new.", "They worked on it all morning near {place}, and in the end the {it} was even better."),
        ], "It is always best to tell the truth."

    def contest(self) -> tuple[list[str], str]:
        """A race is won by kindness."""
        race = self.random.choice(("a running race", "a singing contest", "a baking contest", "a swimming race", "a dancing contest", "a boat race"))
        return [
            self.say("One day there was {race} at {place}, and the prize was {a_thing}.", "Every year there was {race} near {place}. The winner got {a_thing}.", race=race),
            self.say("{name} wanted to win very much, and {they} practised every day.", '"I will win," said {name}, and {they} worked hard.'),
            self.say("{friend} the {fkind} came too, but {fthey} was small and nervous.", "Among the others was {a_fkind} named {friend}, who had never tried before."),
            self.say("The contest began, and {name} was doing very well.", "When the bell rang, {name} was in front of everyone."),
            self.say("Then {name} saw that {friend} had fallen down.", "Then {name} heard {friend} crying behind {them}."),
            self.say("{name} stopped and went back to help.", "{name} could have gone on, but {they} turned around."),
            self.say("They came in last, side by side, and everyone cheered.", "They finished together, long after the others."),
            self.say('"The prize is for {name}," said the judge, "for the kindest heart."', 'The judge gave {name} the {it}. "You did not win," he said, "but you did something better."'),
        ], "A kind heart is worth more than a prize."

    def mystery(self) -> tuple[list[str], str]:
        """A strange noise turns out to be a friend."""
        noise = self.random.choice(("Tap, tap, tap", "Whoo, whoo", "Scratch, scratch", "Bump, bump", "Ding, ding", "Splash, splash"))
        return [
            self.say("One {weather} night {name} heard a strange sound. {noise}! it went.", '"{noise}!" What was that? {name} sat up in bed one {weather} night.', noise=noise),
            self.say('"Is it a monster?" {name} asked {them}self.', "{name} pulled the blanket over {their} head."),
            self.say("But {they} was also curious, so {they} took {a_thing} and went to look.", "In the end {name} got up, took {a_thing}, and opened the door."),
            self.say("{noise}! The sound came from {place}.", "{They} followed the sound all the way to {place}. {noise}!", noise=noise),
            self.say("And there was no monster at all. It was {friend}, {a_fkind}!", "There, in the moonlight, sat {a_fkind}. It was {friend}."),
            self.say('"I am sorry that I woke you," said {friend}. "I am making a present."', '"I cannot sleep," said {friend}, "so I am playing."'),
            self.say('"And it is for you," {fthey} said, and gave {name} {a_new}.', 'Then {fthey} gave {name} {a_new}. "This is for you."', a_new=article(self.random.choice(THINGS))),
            self.say("{name} laughed, and the two of them drank hot chocolate until the sun came up.", "They both laughed, and after that they were the best of friends."),
        ], "Many things that scare us are friends we have not met yet."

    def seed(self) -> tuple[list[str], str]:
        """Patience makes something grow."""
        plant = self.random.choice(("apple tree", "sunflower", "rose", "pumpkin", "cherry tree", "strawberry plant", "bean plant"))
        return [
            self.say("One {weather} day {name} put a tiny seed into the ground near {place}.", "In spring {name} found a tiny seed and planted it near {place}."),
            self.say("{They} gave it water and waited, but nothing came up.", "Day after day {name} looked, but there was only brown earth."),
            self.say('"It will never grow," said {name}.', "{name} felt {feeling}."),
            self.meeting(),
            self.say('"Give it time," said {friend}. "Good things grow slowly."', '"Seeds are sleepy," said {friend}. "You must be patient."'),
            self.say("So {name} waited. {They} played with {a_thing} and sang to the seed.", "So {name} put {a_thing} beside it and waited through the rain and the sun."),
            self.say("One morning there was a little green leaf!", "Then, one {weather} morning, something green looked out of the earth."),
            self.say("It grew and grew, and by summer it was a great {plant}.", "Week by week it grew, until it was a fine {plant}.", plant=plant),
            self.say("{name} and {friend} sat beside it and ate {food}.", "{name} and {friend} had a party, and everyone from {place} came."),
        ], "Good things come to those who wait."

    def ending(self, moral: str) -> str:
        close = self.say(
            "And they lived happily ever after.", "From then on they were the best of friends.", "And that night {name} slept very well.",
            "{name} never forgot that day.", "The end.", "",
        )
        lesson = self.random.choice((moral, f"And so {self.hero.name} learned: {moral[0].lower()}{moral[1:]}", ""))
        return " ".join(part for part in (close, lesson) if part) or "The end."

    def tell(self) -> str:
        plots = (
            self.lost, self.afraid, self.shared, self.built, self.helped, self.journey, self.truth, self.contest, self.mystery, self.seed,
        )
        beats, moral = self.random.choice(plots)()
        first = self.opening() + ([self.habit()] if self.random.random() < 0.6 else [])
        if self.asked_for_thing and self.thing not in " ".join(beats):
            first.append(self.treasure())
        cut = len(beats) // 2
        paragraphs = (" ".join(first), " ".join(beats[:cut]), " ".join(beats[cut:]), self.ending(moral))
        return "\n\n".join(paragraphs)


def story(random: Random, wish: Wish = Wish()) -> str:
    """A whole story."""
    return Teller(random, wish).tell()
