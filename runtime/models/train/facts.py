"""What the model is taught to know: small tables, each with the questions that ask for it."""

SOUNDS = dict(
    cow="moo", cat="meow", dog="woof", sheep="baa", duck="quack", pig="oink", horse="neigh", bee="buzz", lion="roar", frog="ribbit",
    owl="hoot", snake="hiss", mouse="squeak", rooster="cock-a-doodle-doo", bird="tweet", wolf="howl", goat="maa", crow="caw",
)
BABIES = dict(
    cat="kitten", dog="puppy", cow="calf", sheep="lamb", horse="foal", bear="cub", duck="duckling", goose="gosling", hen="chick",
    frog="tadpole", lion="cub", goat="kid", deer="fawn", swan="cygnet", kangaroo="joey", fox="cub", pig="piglet", owl="owlet",
)
HOMES = dict(
    bird="a nest", bee="a hive", dog="a kennel", fox="a den", rabbit="a burrow", spider="a web", horse="a stable", fish="water",
    lion="the grassland", camel="the desert", penguin="the cold south", monkey="trees", bear="a cave", beaver="a lodge", mole="a tunnel",
)
COLOURS = dict(
    sky="blue", grass="green", snow="white", sun="yellow", banana="yellow", strawberry="red", carrot="orange", coal="black",
    lemon="yellow", milk="white", leaf="green", blood="red", chocolate="brown", night="black", sea="blue", frog="green", tomato="red",
    pumpkin="orange", elephant="grey", plum="purple",
)
OPPOSITES = dict(
    big="small", hot="cold", up="down", day="night", happy="sad", fast="slow", open="closed", light="dark", wet="dry", old="young",
    good="bad", hard="soft", full="empty", high="low", long="short", early="late", loud="quiet", rich="poor", strong="weak", left="right",
    near="far", thick="thin", clean="dirty", sweet="sour", brave="afraid", first="last", begin="end", winter="summer", yes="no", love="hate",
    inside="outside", heavy="light", small="big", cold="hot", slow="fast", sad="happy", dark="light", young="old", low="high", short="long",
)
CAPITALS = {
    "France": "Paris", "Italy": "Rome", "Spain": "Madrid", "Germany": "Berlin", "England": "London", "Ireland": "Dublin", "Japan": "Tokyo",
    "China": "Beijing", "Egypt": "Cairo", "Greece": "Athens", "Portugal": "Lisbon", "Norway": "Oslo", "Sweden": "Stockholm",
    "Denmark": "Copenhagen", "Finland": "Helsinki", "Austria": "Vienna", "Poland": "Warsaw", "Russia": "Moscow", "Canada": "Ottawa",
    "Australia": "Canberra", "Switzerland": "Bern", "Belgium": "Brussels", "Kenya": "Nairobi", "Cuba": "Havana", "Peru": "Lima",
    "India": "New Delhi", "Brazil": "Brasilia", "Mexico": "Mexico City", "Turkey": "Ankara", "Hungary": "Budapest", "Scotland": "Edinburgh",
    "Wales": "Cardiff", "Iceland": "Reykjavik", "the Netherlands": "Amsterdam", "the United States": "Washington", "Chile": "Santiago",
}
DEFINITIONS = {
    "river": "A river is a long stream of water that runs to the sea", "mountain": "A mountain is a very high hill",
    "star": "A star is a great ball of hot gas that shines in the sky", "moon": "The moon is a big round rock that travels around the earth",
    "sun": "The sun is the star that gives us light and warmth", "friend": "A friend is somebody who likes you and helps you",
    "rainbow": "A rainbow is a band of colours that you see when the sun shines through rain", "island": "An island is land with water all around it",
    "desert": "A desert is a dry place where it almost never rains", "forest": "A forest is a place with a great many trees",
    "bicycle": "A bicycle is a thing with two wheels that you ride with your feet", "library": "A library is a house full of books that you may borrow",
    "bee": "A bee is a small flying insect that makes honey", "whale": "A whale is a very large animal that lives in the sea",
    "volcano": "A volcano is a mountain that can throw out fire and hot rock", "robot": "A robot is a machine that can do work",
    "computer": "A computer is a machine that follows instructions very fast", "poem": "A poem is a short text with rhythm, and sometimes with rhymes",
    "winter": "Winter is the cold part of the year", "summer": "Summer is the warm part of the year", "cloud": "A cloud is many tiny drops of water in the sky",
    "baker": "A baker is a person who makes bread and cakes", "farmer": "A farmer is a person who grows food and keeps animals",
    "firecrest": "A firecrest is a very small bird with a bright orange stripe on its head", "language model": "A language model is a program that writes text, one piece at a time",
    "story": "A story is a tale about somebody and what happened to them", "dragon": "A dragon is a big animal from stories that can fly and breathe fire",
    "fairy tale": "A fairy tale is a story with magic in it", "clock": "A clock is a thing that shows the time", "boat": "A boat is a thing that carries people over water",
}
ANSWERS = (
    (("How many legs does {a} have?", "How many legs has {a}?"), {"a spider": "A spider has eight legs.", "a dog": "A dog has four legs.", "a bird": "A bird has two legs.", "a bee": "A bee has six legs.", "a cat": "A cat has four legs.", "a horse": "A horse has four legs.", "an ant": "An ant has six legs.", "a snake": "A snake has no legs."}),
    (("How many days are in {a}?", "How many days does {a} have?"), {"a week": "There are seven days in a week.", "a year": "There are 365 days in a year, and 366 in a leap year.", "February": "February has 28 days, and 29 in a leap year.", "June": "June has 30 days.", "July": "July has 31 days."}),
    (("How many {a} are there?", "Tell me, how many {a} are there?"), {"months in a year": "There are twelve months in a year.", "hours in a day": "There are 24 hours in a day.", "minutes in an hour": "There are 60 minutes in an hour.", "seasons": "There are four seasons: spring, summer, autumn and winter.", "seconds in a minute": "There are 60 seconds in a minute.", "letters in the alphabet": "There are 26 letters in the English alphabet.", "fingers on a hand": "There are five fingers on a hand.", "continents": "There are seven continents.", "planets": "There are eight planets around our sun."}),
    (("What do {a} eat?", "What does a family of {a} eat?"), {"rabbits": "Rabbits eat grass, leaves and carrots.", "cows": "Cows eat grass.", "bears": "Bears eat berries, fish and honey.", "pandas": "Pandas eat bamboo.", "cats": "Cats eat meat and fish.", "birds": "Many birds eat seeds and insects.", "lions": "Lions eat meat.", "squirrels": "Squirrels eat nuts and seeds.", "monkeys": "Monkeys eat fruit, leaves and nuts.", "frogs": "Frogs eat flies and other insects."}),
    (("Which day comes after {a}?", "What day is after {a}?"), dict(zip("Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(), (f"{d} comes next." for d in "Tuesday Wednesday Thursday Friday Saturday Sunday Monday".split())))),
    (("Which month comes after {a}?", "What month is after {a}?"), dict(zip("January February March April May June July August September October November December".split(), (f"{d} comes next." for d in "February March April May June July August September October November December January".split())))),
    (("Why {a}?", "Can you tell me why {a}?", "Please explain why {a}."), {"is the sky blue": "The sky is blue because the air scatters blue light more than red light.", "do we sleep": "We sleep so that our body and our mind can rest.", "do leaves fall in autumn": "Leaves fall in autumn because trees save water for the cold winter.", "does ice melt": "Ice melts because it gets warm.", "do birds fly south": "Many birds fly south in autumn because they find more food there.", "does it rain": "It rains when drops of water in the clouds become too heavy.", "is the sea salty": "The sea is salty because rivers carry salt from the rocks into it.", "do bees make honey": "Bees make honey so that they have food in winter.", "do we have day and night": "We have day and night because the earth turns around once a day.", "do cats purr": "Cats purr when they feel well, and sometimes to calm themselves."}),
    (("What is the {a} animal?", "Which animal is the {a}?"), {"biggest": "The blue whale is the biggest animal.", "fastest": "On land, the cheetah is the fastest animal.", "tallest": "The giraffe is the tallest animal.", "slowest": "The sloth is one of the slowest animals."}),
)
LISTS = {
    "fruits": "apples pears bananas cherries plums grapes lemons oranges strawberries peaches".split(),
    "animals": "cats dogs horses lions bears rabbits foxes owls whales mice".split(),
    "colours": "red blue green yellow orange purple white black brown pink".split(),
    "birds": "robins owls crows swans sparrows parrots eagles firecrests ducks geese".split(),
    "vegetables": "carrots peas beans potatoes onions leeks cabbages pumpkins beets spinach".split(),
    "flowers": "roses tulips daisies lilies violets sunflowers poppies daffodils".split(),
    "trees": "oaks beeches birches pines maples willows cherry-trees elms".split(),
    "countries": "France Italy Japan Egypt Canada Norway Peru India Kenya Greece".split(),
    "sports": "football tennis swimming running rowing cycling chess climbing skating".split(),
    "tools": "hammers saws spades rakes brushes scissors needles knives".split(),
    "instruments": "violins pianos drums flutes guitars trumpets harps bells".split(),
    "things in a kitchen": "pots pans spoons forks cups plates kettles bowls".split(),
    "jobs": "baker farmer teacher doctor sailor painter gardener pilot".split(),
}
NUMBERS = {3: "three", 4: "four", 5: "five", 2: "two"}
JOKES = (
    ("Why did the bear sit by the fire?", "Because it wanted to be a warm bear and not a polar bear!"),
    ("What do you call a sleeping dinosaur?", "A dino-snore!"), ("Why was the maths book sad?", "It had too many problems."),
    ("What has hands but cannot clap?", "A clock!"), ("Why did the bee go to school?", "To become a spelling bee!"),
    ("What do you get when a snowman meets a dog?", "Frost-bite!"), ("Why did the bicycle fall over?", "It was two-tired!"),
    ("Where do cows go on Saturday evening?", "To the moo-vies!"), ("What is a cat's favourite colour?", "Purr-ple!"),
    ("Why do birds fly south?", "Because it is too far to walk!"),
)
RIDDLES = (
    ("What has teeth but never bites?", "A comb."), ("What gets wetter the more it dries?", "A towel."),
    ("What has a neck but no head?", "A bottle."), ("What goes up but never comes down?", "Your age."),
    ("What can travel around the world and stay in a corner?", "A stamp."), ("What has keys but opens no door?", "A piano."),
)
POEMS = (
    ("sea", "The sea is wide, the sea is blue,\nit sings a quiet song to you.\nThe little boats go out by day\nand in the evening home they sway."),
    ("moon", "The moon looks in, so round and bright,\nand paints my room with silver light.\nIt says to every tired head:\nthe day is done, now go to bed."),
    ("rain", "The rain is tapping on the pane,\nit stops, and then it taps again.\nThe garden drinks, the flowers grow,\nand all the little rivers flow."),
    ("winter", "The snow is deep, the wind is cold,\nthe winter sun is thin and old.\nBut in the house the fire is warm,\nand we are safe from every storm."),
    ("spring", "The snow is gone, the sky is clear,\nthe birds are singing: spring is here!\nThe tree puts on a dress of green,\nthe finest you have ever seen."),
    ("cat", "My cat is sleeping in the sun,\nher morning work is long since done.\nShe dreams of mice, she dreams of cream,\nand smiles a little in her dream."),
    ("friends", "A friend will help you when you fall,\na friend will answer when you call.\nThe longest road, the darkest day,\nis short and bright with friends, they say."),
    ("stars", "The stars are out, a thousand lights,\nthat keep us company at nights.\nI count them, one and two and three,\nand one of them is looking at me."),
    ("bird", "A little bird, as light as air,\nwith golden feathers in its hair,\nsits in the tree outside and sings\nof sunny days and tiny wings."),
    ("home", "There is a place where I can be\njust as I am, and only me.\nA chair, a lamp, an open door:\nthat is my home. Who wants for more?"),
)
ADVICE = {
    "I am sad": "I am sorry that you are sad. It can help to talk to a friend, to go for a walk, or to hear a nice story.",
    "I cannot sleep": "Try to breathe slowly, put away the screen, and think of a quiet place. Shall I tell you a story?",
    "I am bored": "You could draw a picture, read a book, bake something, or ask me for a story!",
    "I am tired": "Then it is time for a rest. A glass of water and a short nap can help.",
    "I am afraid of the dark": "Many people are. A small light helps, and so does knowing that nothing changes when the lamp goes out.",
    "I had a bad day": "I am sorry to hear that. Tomorrow is a new day. Would you like a story?",
    "I am happy": "How lovely! I am glad to hear that. What made you happy?",
    "I feel lonely": "I am sorry. Perhaps you can call somebody you like, or go where people are. I am here to chat, too.",
    "I am hungry": "Then it is time for a snack! Perhaps an apple or some bread with cheese.",
    "It is my birthday": "Happy birthday! I hope that you have a wonderful day with cake and good friends.",
    "I lost my job": "I am very sorry. That is hard. Please talk to somebody you trust, and take one step at a time.",
    "I am nervous about my exam": "That is normal. Sleep well, breathe slowly, and begin with the question you know best. Good luck!",
    "I am cold": "Put on a warm sweater and drink some tea. That helps me in stories, at least!",
    "I want to learn to draw": "How nice! Begin with simple shapes, draw a little every day, and do not be afraid of mistakes.",
    "I have a cold": "Get well soon! Rest, drink warm tea, and ask a doctor if it does not get better.",
}
BEYOND = (
    "the weather today|the news|the stock market|quantum physics|the latest football results|politics|tax law|medicine|my password|"
    "the price of gold|this program|calculus|the French Revolution|Python code|a contract|the best phone|Shakespeare|chemistry|"
    "the train at noon|the meaning of life|cooking a turkey|my homework|the capital of Mars|the year 1492|Napoleon|Einstein|"
    "black holes|the internet|my email|a movie|the new car|the president|the war|tomorrow's lottery|machine learning|Rust|JavaScript|"
    "the human genome|Beethoven|an aeroplane|flights to Rome|a good hotel|philosophy|Plato|the economy|my neighbour's dog|DNA"
).split("|")
