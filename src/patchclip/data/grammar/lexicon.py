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
    "gray grey white|gray grey black|square rectangular|"
    "snowy sunny|snowy cloudy overcast|snowy rainy|cloudy overcast rainy"
)
"""Attributes of different groups that one thing may still be called by."""

ADDED = ("colour", "pattern")
"""Kinds of attributes that are added to a noun."""

LIKELY = _words("black white brown gray grey red yellow orange")
"""Colours that are too often true, or said of people, to be added to a noun."""

MAY_BE: tuple[tuple[frozenset[str], frozenset[str]], ...] = (
    (
        _words(
            """
    bird fish parrot macaw insect butterfly beetle frog snake turtle pig flamingo duck peacock lizard
    dragonfly hummingbird crab coral octopus shark dolphin whale elephant hippo
    """
        ),
        _words("blue green purple pink"),
    ),
    (
        _words(
            """
    tree bush plant grass leaf leaves flower blossom vegetable broccoli lettuce hill hillside mountain
    field meadow forest garden lawn park pasture river lake ocean sea water pond pool wave cloud
    """
        ),
        _words("blue green purple pink floral striped spotted"),
    ),
)
"""Nouns, and attributes that are too often true of them to be added."""

COATS = _words("striped spotted")
"""Patterns that animals have."""

BODY = _words(
    """
    hand hands arm leg face head hair tooth teeth mouth eye nose ear foot feet finger thumb tail beak
    skin lip tongue back neck shoulder knee chest body paw trunk horn wing beard mustache fur feather
    """
)
"""Parts of a body: they get no colour or pattern."""

YOUNG = _words("boy girl child children kid baby toddler infant puppy kitten calf lamb foal teenager")
"""Nouns that say themselves how old somebody is."""

COVERS = _words("snow water ice sand leaf leaves grass blanket dirt mud dust ivy frost")
"""What lies over a thing that is under it: the thing may be called on top of it, too."""

PATHS = _words("through across down up along into onto out over past around toward towards away")
"""Words that tell where somebody moves."""

FIXED = _lines(
    """
    hot dog|hot dogs|full moon|new moon|polar bear|high school|fast food|white house|black hole|gold
    medal|orange juice|paper towel|paper towels|glass door|short hair|left hand|right hand|cold
    drink|red cross|green light|red light|green card|square root|red panda|black box|open air|dry
    cleaner|wood logs|new year|old town|brown bear|black bear|white wine|red wine|green tea|blue
    jay|brick wall|wet suit|hot air|hot sauce|french fries|stuffed animal|stuffed animals|stuffed bear|
    iced tea|baked goods|sweet potato|sweet potatoes|flat screen|wide screen|high rise|high chair|high
    heels|hard hat|soft drink|fresh fruit|top hat|tall ship|short sleeve|stained glass|bald eagle|golden
    retriever|brown rice|green beans|green onions|green peppers|red pepper|red peppers|blue jeans|orange
    slices|yellow cab|front door|deep dish|wild animals|half pipe|light bulb|light pole|wooden spoon|
    dark chocolate|white board|big ben|wild life|scarlet macaw
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
    beautiful pretty cute nice lovely lonely single fluffy furry hairy bald fat slim heavy
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

NOUNS_LIKE_ADJECTIVES = _words(
    """
    animal hospital terminal medal pedal canal metal festival meal seal oval cereal petal signal mammal
    journal cathedral crystal coral sandal bridal portal vegetable table cable stable music traffic
    picnic plastic fabric mosaic comic clinic mechanic attic garlic olive hive chive drive dive dish fish
    radish goldfish starfish jellyfish relish professional individual official material mural decal pal
    denial arrival goal coal deal steal charcoal total decimal capital general admiral carnival jackal
    ceramic statistic syllable rental detective locomotive native relative archive
    """
)
"""Nouns that end like an adjective ("-al", "-ic", "-ive", "-able", "-ish", "-ous", "-ful", "-less")."""

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
    up close-up close-ups closeups
    """
)
"""Nouns that name no object of their own: never replaced, never a replacement."""

FRAMES_TOO = _words("people animal flag letter digit sign tool tools")
"""Words of FRAMES that name something to be seen all the same."""

PICTURES = _words(
    """
    pictures photos images photographs paintings drawings views scenes shots pieces pairs groups bunches
    illustration illustrations portrait portraits silhouette silhouettes vector clipart rendering snapshot
    how what why who when where
    """
)
"""Further words that name a picture or a question rather than something to be seen."""

BACKDROPS = FRAMES | _words("sky ground display fire street left right phone weather sunset snow rain")
"""Nouns after which "on" and "in" say something else than where a thing is."""

CONTAINERS = _words(
    """
    box basket bowl cup glass jar pot pan bag suitcase car truck van bus boat cage crate drawer
    bucket bottle vase sink tub bathtub oven fridge refrigerator tent cabinet trunk backpack mug
    tray
    """
)
