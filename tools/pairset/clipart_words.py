"""Lists for the clipart: folders left out, classes by folder, words that say nothing."""

from __future__ import annotations

import re

from tools.pairset.words import words

SKIP = re.compile(
    r"^(computer/(icons|folders|buttons|diagrams)|shapes|special|logos|buttons|decorations|unsorted/duplicates|"
    r"signs_and_symbols/(map_symbols|led)|geography|recreation/games/cards|people/clothing/pantyhose)"
)
NO_TITLE = re.compile(r"(?i)clipart by|collection|theme|various|cliparts|submission|sibmission")
DROP = words("clipart clip art icon md svg image picture png by draft new openclipart")
NO_END = words("the a an of and or with in on bw for")
SMALL_WORDS = words("the a of and with in is on")
EMPTY_TITLES = words("people head advertising work untitled drawing")
EMPTY_KEYWORDS = words("unsorted hash icon sign symbol")
CLASSES = (
    ("animals/birds", "bird"),
    ("animals/bugs", "insect"),
    ("animals/fish", "fish"),
    ("animals/dinosaurs", "dinosaur"),
    ("animals/mammals/horses", "horse"),
    ("animals/mammals/big_cats", "big cat"),
    ("animals/mammals/housecats", "cat"),
    ("animals/mammals/bears", "bear"),
    ("animals/mammals/dogs", "dog"),
    ("food/fruit", "fruit"),
    ("food/vegetables", "vegetable"),
    ("food/desserts", "dessert"),
    ("food/beverages", "drink"),
    ("food/breads_and_carbs", "bread"),
    ("food/meats_and_eggs", "meat"),
    ("plants/trees", "tree"),
    ("plants/flowers", "flower"),
    ("buildings/homes", "house"),
    ("buildings/furniture", "furniture"),
    ("recreation/music", "musical instrument"),
    ("recreation/sports", "sports equipment"),
    ("recreation/toys", "toy"),
    ("recreation/games/chess", "chess piece"),
    ("recreation/holiday", "holiday object"),
    ("recreation/party", "party object"),
    ("transportation/boating", "boat"),
    ("transportation/vehicles", "car"),
    ("transportation/roadsigns", "road sign"),
    ("tools/weapons", "weapon"),
    ("tools", "tool"),
    ("computer/hardware", "computer hardware"),
    ("office/telephone", "telephone"),
    ("education/books", "book"),
    ("people/smilies", "smiley face"),
    ("people/clothing/hats", "hat"),
    ("people/bodypart", "body part"),
    ("people/stickmen", "stick figure"),
    ("signs_and_symbols/flags", "flag"),
    ("signs_and_symbols/clocks", "clock"),
    ("signs_and_symbols/weather", "weather symbol"),
    ("electronics/bulb", "light bulb"),
    ("electronics/battery", "battery"),
)
PLAIN = {
    "bear",
    "big cat",
    "bird",
    "boat",
    "book",
    "car",
    "cat",
    "clock",
    "dinosaur",
    "dog",
    "fish",
    "flower",
    "fruit",
    "hat",
    "horse",
    "house",
    "insect",
    "road sign",
    "smiley face",
    "stick figure",
    "telephone",
    "tree",
    "vegetable",
}
