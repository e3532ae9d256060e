"""Words for captions: articles, nouns and the English word list."""

from __future__ import annotations

import os
import re


def words(text: str) -> frozenset[str]:
    """Return the set of the words of a text."""
    return frozenset(text.split())


MASS = words(
    "rice bread bacon broccoli garlic sushi butter salt honey ice popcorn sake ginger seedling fire "
    "water money luggage furniture clothing tempura oden dango lettuce celery corn fruit food sand "
    "snow rain grass lightning music mail confetti tofu milk wheat moss asparagus ivy parsley "
    "spaghetti cheese"
)
NAMES = words(
    "ape sole cane mare mele pare onda rosa porta lampada park mark sue pat frank rob bill grant "
    "chase drew may june karat mo md peter ray carol jack dale re"
)
ALSO_ENGLISH = words(
    "american christmas halloween easter christian chinese french german italian japanese russian "
    "egyptian african indian tv pc usb cd dvd lcd mp tux penguin yoga volleyball basketball monday "
    "sunday english latin buddha jesus santa"
)


def art(noun: str) -> str:
    """Put the article before a noun ('an apple'); plurals and mass nouns stay alone."""
    parts = noun.lower().split()
    if not parts or parts[0] in ("a", "an", "the", "one", "two", "three", "some") or re.match(r"\d", noun):
        return noun
    last = parts[-1]
    if " of " in noun.lower():
        last = noun.lower().split(" of ")[0].split()[-1]
    if last in MASS or (last.endswith("s") and not last.endswith(("ss", "us", "is", "as", "bus"))):
        return noun
    vowel = parts[0][0] in "aeiou" and not re.match(r"(uni|use|eu|one|uk)", parts[0])
    return ("an " if vowel or parts[0] in ("hour", "hourglass", "x-ray") else "a ") + noun


def noun_of(caption: str) -> str:
    """Return the noun of a caption that is just an article and a noun of up to three words, else ''."""
    match = re.match(r"^(?:an?|the|some) ([a-z][a-z \-]{2,22})[.!]?$", caption.strip().lower())
    noun = match[1] if match and len(match[1].split()) <= 3 else ""
    adjective = r"\b(big|small|very|large|little|huge|tiny|old|happy|piece|pair|emblems?)\b"
    return "" if re.search(adjective, noun) else noun


def vocabulary(cache: str) -> frozenset[str]:
    """Return the English words of the word list, without those that are names in titles."""
    path = os.path.join(cache, "x", "wamerican", "usr/share/dict/american-english")
    with open(path, encoding="utf8") as lines:
        return frozenset(w.strip() for w in lines if "'" not in w and w[0].islower()) - NAMES | ALSO_ENGLISH
