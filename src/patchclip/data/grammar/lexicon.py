"""Word lists of the grammar of captions: what a word is, which words mean nearly the same, which exclude.

Written for this project. Bars separate groups of words; words of a group mean nearly the same.
"""

Groups = tuple[frozenset[str], ...]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _lines(text: str) -> frozenset[str]:
    return frozenset(" ".join(each.split()) for each in text.split("|"))


def _groups(text: str) -> Groups:
    return tuple(_words(each) for each in text.split("|"))


ATTRIBUTES: dict[str, Groups] = {
    "colour": _groups(
        """
    red crimson scarlet maroon|blue navy turquoise teal|green|yellow gold golden blond
    blonde|orange|purple violet lavender|pink magenta|brown tan beige|black|white cream ivory|gray
    grey silver
    """
    ),
    "size": _groups("small little tiny mini miniature|large big huge giant enormous massive"),
    "length": _groups("long tall|short"),
    "age": _groups("old elderly aged|young"),
    "newness": _groups("old antique vintage ancient|new modern"),
    "material": _groups(
        """
    wooden wood|metal metallic steel|plastic|glass|stone brick concrete|leather|paper
    cardboard|ceramic
    """
    ),
    "pattern": _groups("striped|checkered plaid|spotted|floral flowered"),
    "shape": _groups("round circular|square|rectangular|triangular|oval"),
    "form": _groups("curved|straight"),
    "opening": _groups("open opened|closed shut"),
    "filling": _groups("empty|full"),
    "cleanness": _groups("clean|dirty muddy"),
    "wetness": _groups("wet|dry"),
    "light": _groups("dark|bright"),
    "heat": _groups("hot|cold frozen icy"),
    "surface": _groups("smooth|rough"),
    "width": _groups("wide broad|narrow"),
    "thickness": _groups("thick|thin"),
    "mood": _groups("happy smiling cheerful|sad crying|angry"),
    "sex": _groups("male|female"),
    "side": _groups("left|right"),
    "weather": _groups("sunny|cloudy overcast|rainy|snowy"),
    "level": _groups("upper|lower"),
    "number": _groups("two|three|four|five|six|seven"),
}
"""Kind of attribute -> groups: words of different groups exclude each other."""

PLAIN = _words(
    """
    red blue green yellow orange purple pink brown black white gray grey small large long tall short
    old young new wooden metal plastic glass stone leather paper striped checkered spotted floral
    round square rectangular oval curved straight open closed empty full clean dirty wet dry dark
    bright hot cold smooth rough wide narrow thick thin happy sad angry male female left right sunny
    cloudy rainy snowy upper lower two three four five
    ceramic triangular six seven
    """
)
"""Attributes that replace others: the common word of each group."""

NEAR: Groups = _groups(
    "red pink|red orange|red brown|orange yellow|orange brown|pink purple|purple blue|"
    "gray grey white|gray grey black|square rectangular"
)
"""Attributes of different groups that one thing may still be called by."""

ADDED = ("colour", "pattern")
"""Kinds of attributes that are added to a noun."""

LIKELY = _words("black white brown gray grey red yellow orange")
"""Colours that are too often true, or said of people, to be added to a noun."""

FIXED = _lines(
    """
    hot dog|hot dogs|full moon|new moon|polar bear|high school|fast food|white house|black hole|gold
    medal|orange juice|paper towel|paper towels|glass door|short hair|left hand|right hand|cold
    drink|red cross|green light|red light|green card|square root|red panda|black box|open air|dry
    cleaner|wood logs|new year|old town|brown bear|black bear|white wine|red wine|green tea|blue
    jay|brick wall|wet suit
    """
)
"""Attribute and noun that name one thing."""

NOUNS_TOO = _words(
    """
    orange gold silver glass stone brick wood metal paper cardboard plastic leather concrete steel
    square oval cream violet lavender teal salmon
    """
)
"""Attributes that are nouns at the end of a noun phrase."""

ADJECTIVES = _words(
    """
    beautiful pretty cute nice lovely lonely single double fluffy furry hairy bald fat slim heavy
    high low deep shallow soft hard sharp fresh ripe raw cooked fried baked roasted grilled sliced
    chopped various different colorful colourful light pale shiny rusty broken busy crowded quiet
    calm stormy foggy grassy sandy rocky snowy flat steep tasty delicious sweet sour salty spicy
    healthy sick tired sleepy lazy wild tame domestic
    famous local foreign american british french italian chinese
    japanese indian african asian european mexican german spanish traditional typical simple plain
    fancy elegant strange funny silly serious nearby distant upside whole half main other same
    similar extra outdoor indoor top bottom front rear middle central northern southern eastern
    western oncoming
    stainless
    """
)
"""Further words that stand before a noun."""

NUMBERS = _words("two three four five six seven eight nine ten eleven twelve")
SINGULAR = _words("a an one another each every this that")
PLURAL = _words("these those some several many few both all most numerous")
DEFINITE = _words("the his her its their my your our")
DETERMINERS = SINGULAR | PLURAL | DEFINITE

FUNCTION = _words(
    """
    and or but nor so yet as than if when while where because of for to from by with without at in
    on into onto out off up down over under above below behind beside between beyond through across
    along around about against among near inside outside during after before until toward towards
    upon within per via like next he she it they we you i him them me us who whom whose which what
    there here not no very too also just only is are was were be been being am has have had having
    do does did done can could will would may might must shall should isn't aren't don't doesn't
    it's there's that's together alone apart away back forward again still almost well ready
    available able early late today now then made seen used called named set apart
    past
    ahead
    any either neither
    """
)
"""Words that end a noun phrase."""

BE = _words("is are was were be been being am")
AUXILIARIES = BE | _words("has have had can could will would may might must shall should does do did")

BARE_PLURALS = _words(
    """
    people men women children feet teeth mice geese sheep fish police oxen dice glasses scissors
    pants jeans shorts trousers binoculars clothes noodles
    """
)
SINGULAR_IN_S = _words(
    """
    bus glass grass dress class cross gas lens boss mass moss brass chess cactus octopus walrus
    tennis iris canvas circus compass mattress princess waitress actress cutlass abacus hibiscus
    platypus campus virus news physics mathematics christmas asparagus citrus lotus papyrus
    rhinoceros hippopotamus stethoscopus crocus bass
    """
)

FRAMES = _words(
    """
    photo photograph picture image drawing painting emoji symbol sign icon view shot closeup scene
    collage group bunch pair couple piece set lot number kind type part side top front back bottom
    end middle center centre edge corner row line pile stack variety way day night time thing object
    item something someone one other others background foreground distance air sight place area tool
    tools animal people flag letter digit form style
    """
)
"""Nouns that name no object of their own: never replaced, never a replacement."""

BACKDROPS = FRAMES | _words("sky ground display fire street left right phone weather sunset snow rain")
"""Nouns after which "on" and "in" say something else than where a thing is."""

CONTAINERS = _words(
    """
    box basket bowl cup glass jar pot pan bag suitcase car truck van bus boat cage crate drawer
    bucket bottle vase sink tub bathtub oven fridge refrigerator tent cabinet trunk backpack mug
    tray
    """
)
PEOPLE = _words(
    """
    man men woman women boy boys girl girls child children person people kid kids lady ladies guy
    guys couple baby player players rider worker family king queen prince princess soldier doctor
    teacher student clown farmer cook pilot sailor dancer singer
    person someone adult human toddler infant guy gentleman father dad husband mother mom wife
    """
)
ANIMALS = _words(
    """
    animal dog cat horse cow sheep bird fish elephant bear zebra giraffe lion tiger monkey rabbit
    mouse pig goat duck puppy kitten pony bull calf ox lamb chicken goose owl parrot eagle seagull
    pigeon rooster hen penguin swan shark insect bee ant butterfly beetle snake frog turtle deer fox
    wolf camel whale dolphin squirrel hamster hedgehog
    """
)

SYNONYMS: Groups = _groups(
    """
    man men guy gentleman male father dad husband|woman women lady girl female mother mom wife|
    man boy guy|child children kid boy girl baby toddler infant|dog puppy hound pup|cat kitten kitty|
    horse pony foal|cow bull cattle calf ox|sheep lamb ram|duck goose|chicken rooster hen|
    insect bug|car automobile taxi cab sedan suv jeep|truck lorry pickup|
    bike bicycle motorbike motorcycle moped cycle scooter|
    boat ship sailboat canoe kayak yacht vessel ferry|plane airplane aeroplane jet aircraft airliner|
    train locomotive tram railway|sofa couch loveseat settee|chair armchair stool seat bench|
    table desk counter|bed mattress bunk|cabinet cupboard wardrobe closet dresser shelf bookcase|
    lamp light lightbulb lantern bulb|cup mug glass teacup|bowl dish plate|pot pan saucepan|
    bag purse handbag backpack sack suitcase luggage briefcase tote|
    phone telephone cellphone smartphone mobile|computer laptop monitor screen pc|
    tv television screen monitor|sandwich burger hamburger|hat cap helmet fedora sombrero|
    shirt jacket coat sweater top|shoe boot sneaker sandal|pants jeans trousers shorts|
    house home cottage hut chalet|hill mountain slope|street road highway path lane avenue|
    sea ocean lake river water pond|beach sand shore coast|field meadow grass pasture lawn|
    forest woods tree|tree palm pine oak|flower blossom rose tulip daisy lily daffodil|
    picture photo photograph image painting drawing|ball football baseball basketball soccer|
    knife blade sword|watch clock timer|gun pistol rifle weapon|stone rock boulder|face head|
    box crate package carton|rug carpet mat|sign symbol icon|window pane|door gate
    """
)
"""Nouns of a group may name the same thing."""

_KINDS = """
    person people someone adult human = man woman boy girl child kid baby lady guy player skier
        surfer rider worker chef king queen soldier doctor teacher student clown pilot dancer singer|
    animal pet creature mammal = dog cat horse cow sheep bird fish elephant bear zebra giraffe lion
        tiger monkey rabbit mouse pig goat duck chicken puppy kitten camel deer fox wolf bison|
    bird fowl = duck chicken goose owl parrot eagle seagull pigeon rooster hen penguin swan crow
        flamingo ostrich macaw cuckoo|
    fish = shark salmon trout goldfish clownfish|insect = bee fly ant butterfly beetle ladybug|
    vehicle = car truck bus van bike bicycle motorcycle train taxi automobile scooter tractor jeep|
    furniture = chair table sofa couch desk bed cabinet wardrobe shelf bookcase dresser armchair|
    food meal dish = pizza sandwich burger cake bread fruit vegetable hamburger pasta soup salad|
    fruit = apple orange banana pear peach lemon grape strawberry melon pumpkin apricot avocado|
    vegetable = carrot broccoli potato tomato onion pepper lettuce pumpkin|
    plant = flower tree bush grass leaf leaves rose tulip palm pine cactus|
    clothes clothing suit = shirt jacket coat sweater dress pants hat shoe sock|
    building = church tower castle house skyscraper school monastery tavern igloo|
    tool = hammer saw wrench screwdriver axe rake trowel|planet star = moon sun earth
"""

NAMED: tuple[tuple[frozenset[str], frozenset[str]], ...] = tuple(
    (_words(general), _words(special))
    for general, _, special in (line.partition("=") for line in _KINDS.split("|"))
)
"""General nouns, and the nouns of things that are called so too."""
