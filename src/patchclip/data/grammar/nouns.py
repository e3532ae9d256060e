"""Nouns of the grammar of captions: people, animals, and what may name the same thing.

Written for this project. Bars separate groups of words.
"""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PEOPLE = _words(
    """
    man men woman women boy boys girl girls child children person people kid kids lady ladies guy
    guys couple baby player players rider worker family king queen prince princess soldier doctor
    teacher student clown farmer cook pilot sailor dancer singer
    person someone adult human toddler infant guy gentleman father dad husband mother mom wife
    """
)
ROLES = _words(
    """
    player rider worker skier surfer skateboarder snowboarder skater chef cook baker batter catcher
    pitcher umpire referee hitter fielder goalie athlete boxer officer policeman policewoman cop
    fireman firefighter soldier guard doctor nurse dentist teacher student pupil clown farmer pilot
    sailor dancer singer musician guitarist drummer artist painter photographer driver biker cyclist
    bicyclist motorcyclist pedestrian jockey cowboy swimmer runner jogger walker hiker climber waiter
    waitress bartender vendor customer shopper passenger tourist traveler visitor spectator onlooker
    fan teenager teen adult model bride groom speaker reader fisherman businessman gentleman coach
    team crowd audience family couple friend owner trainer performer actor actress leader hunter
    magician wizard witch mermaid astronaut scientist mechanic judge detective
    """
)
"""What people are called by what they do: anybody may be one."""

PEOPLE |= ROLES
ANIMALS = _words(
    """
    animal dog cat horse cow sheep bird fish elephant bear zebra giraffe lion tiger monkey rabbit
    mouse pig goat duck puppy kitten pony bull calf ox lamb chicken goose owl parrot eagle seagull
    pigeon rooster hen penguin swan shark insect bee ant butterfly beetle snake frog turtle deer fox
    wolf camel whale dolphin squirrel hamster hedgehog
    macaw flamingo peacock ostrich lizard crab bison buffalo ram donkey moose panda koala kangaroo hippo
    rhino leopard cheetah crow crane stork hummingbird dragonfly cub foal goat cattle
    """
)

_SYNONYMS = """
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
    man boy guy gentleman king prince groom|woman lady girl queen princess bride|
    player batter catcher pitcher hitter fielder athlete umpire|chef cook baker|teenager teen boy girl kid|
    skateboarder skater rider athlete|snowboarder skier rider athlete|surfer rider swimmer athlete|
    biker cyclist bicyclist motorcyclist rider driver|officer policeman cop guard soldier|
    firefighter fireman worker|team crowd audience family couple|
    box crate package carton|rug carpet mat|sign symbol icon|window pane|door gate
    """

SYNONYMS = tuple(_words(each) for each in _SYNONYMS.split("|"))
"""Nouns of a group may name the same thing."""

_KINDS = """
    person people someone adult human = man men woman women boy girl child children kid baby lady guy
        king queen prince princess|
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

ANYBODY = _words(
    """
    man men woman women boy girl child children person people kid lady guy someone adult human baby father
    mother husband wife dad mom male female gentleman king queen prince princess
    """
)
"""People who may be called by any of ROLES, and the other way round."""
