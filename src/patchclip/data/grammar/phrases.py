"""Noun phrases of a caption and what stands between them, by word lists: a small grammar of English.

    caption   = (phrase | relation | verb | other word | punctuation)*
    phrase    = [determiner] modifier* head          "a | small red | fire truck"
    modifier  = attribute of a known kind, other adjective, participle, possessive

It prefers to miss a phrase over reading one wrongly: `clean` says that nothing about a phrase is doubtful.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

from patchclip.data.grammar import lexicon
from patchclip.data.grammar.relations import INFLECTED, NOUNS_IN_ING, OPPOSITES
from patchclip.data.grammar.words import Word, is_latin, words_of

_ADJECTIVE = re.compile(r"..(?:al|ous|ful|less|ive|ic|ish|able|ible|ular)$")
_MOST_HEAD = 3
_RELATIONS = {
    word: sorted((name.split() for name in OPPOSITES if name.split()[0] == word), key=len, reverse=True)
    for word in {name.split()[0] for name in OPPOSITES}
}
_KINDS: dict[str, tuple[str, ...]] = {
    word: tuple(kind for kind, groups in lexicon.ATTRIBUTES.items() if any(word in each for each in groups))
    for groups in lexicon.ATTRIBUTES.values()
    for group in groups
    for word in group
}


@dataclass(frozen=True)
class Phrase:
    """A noun phrase.

    Attributes:
        first: number of its first word in the caption.
        words: all of it, the determiner included.
        determiner: lower case, "" where it has none.
        attributes: words of a known kind before the head.
        head: the noun, up to three words ("fire truck").
        form: "one" (singular with a determiner), "many" (plural), "mass" (bare singular), "tag" (bare,
            behind a comma), "bare" (bare singular at the beginning), "name" (with capital letters).
        clean: nothing about it is doubtful.
        before: lower-case word before it in the same part of the sentence, "" at its beginning.
        after: lower-case word after it in the same part of the sentence, "" at its end.
    """

    first: int
    words: tuple[Word, ...]
    determiner: str
    attributes: tuple[Word, ...]
    head: tuple[Word, ...]
    form: str
    clean: bool
    before: str
    after: str

    @property
    def start(self) -> int:
        return self.words[0].start

    @property
    def stop(self) -> int:
        return self.words[-1].stop

    @property
    def names_object(self) -> bool:
        """Whether it surely names an object of its own."""
        sure = self.clean and self.form != "tag" and self.after != "of"
        return sure and self.head[-1].lower not in lexicon.BACKDROPS

    @property
    def noun(self) -> str:
        """The head in lower case, words separated by one space."""
        return " ".join(word.lower for word in self.head)


@dataclass(frozen=True)
class Relation:
    """A relation of the lexicon: "to the left of"."""

    name: str
    first: int
    start: int
    stop: int


@dataclass(frozen=True)
class Caption:
    """A caption and its parts, in their order."""

    text: str
    words: tuple[Word, ...]
    phrases: tuple[Phrase, ...]
    relations: tuple[Relation, ...]

    def joined(self, i: int) -> bool:
        """Whether only white space stands between word i and the word after it."""
        return self.text[self.words[i].stop : self.words[i + 1].start].isspace()

    def phrase_at(self, word: int) -> Phrase | None:
        """The phrase that begins with a word."""
        return next((each for each in self.phrases if each.first == word), None)


def kinds(word: str) -> tuple[str, ...]:
    """The kinds of attribute that a lower-case word can be."""
    return _KINDS.get(word, ())


@lru_cache(maxsize=4096)
def parse(text: str) -> Caption:
    """Finds the phrases and relations of a caption."""
    words = words_of(text)
    reading = Caption(text, words, (), ())
    phrases, relations = [], []
    i = 0
    while i < len(words):
        relation = _relation(reading, i)
        phrase = None if relation else _phrase(reading, i)
        if relation:
            relations.append(relation)
            i += len(relation.name.split())
        elif phrase:
            phrases.append(phrase)
            i += len(phrase.words)
        else:
            i += 1
    return Caption(text, words, tuple(phrases), tuple(relations))


def plural(noun: str) -> bool:
    """Whether a lower-case noun looks plural."""
    if noun in lexicon.BARE_PLURALS:
        return True
    return len(noun) > 2 and noun.endswith("s") and noun not in lexicon.SINGULAR_IN_S and noun[-2:] != "ss"


def stem(word: str) -> str:
    """A lower-case noun without the ending of its plural."""
    for ending, instead in (("ies", "y"), ("ves", "f"), ("ches", "ch"), ("shes", "sh"), ("xes", "x")):
        if word.endswith(ending) and len(word) > 4:
            return word.removesuffix(ending) + instead
    return word[:-1] if plural(word) and word.endswith("s") else word


def _relation(caption: Caption, i: int) -> Relation | None:
    words = caption.words
    for name in _RELATIONS.get(words[i].lower, ()):
        found = words[i : i + len(name)]
        if [word.lower for word in found] == name and _unbroken(caption, i, i + len(name)):
            return Relation(" ".join(name), i, found[0].start, found[-1].stop)
    return None


def _unbroken(caption: Caption, start: int, stop: int) -> bool:
    return all(caption.joined(i) for i in range(start, stop - 1))


def _phrase(caption: Caption, i: int) -> Phrase | None:
    words = caption.words
    first = words[i].lower
    determiner = first if first in lexicon.DETERMINERS else ""
    start = i + bool(determiner)
    stop = start
    while stop < len(words) and (stop == i or caption.joined(stop - 1)):
        if not _goes_on(caption, start, stop):
            break
        stop += 1
    if stop == start:
        return None
    body = words[start:stop]
    size = _modifiers(body)
    head = body[size:]
    attributes = tuple(word for word in body[:size] if kinds(word.lower))
    before = words[i - 1].lower if i and caption.joined(i - 1) else ""
    after = words[stop].lower if stop < len(words) and caption.joined(stop - 1) else ""
    form, clean = _form(caption, i, determiner, attributes, head)
    clean = clean and not _doubtful(body, head, before, after)
    return Phrase(i, words[i:stop], determiner, attributes, head, form, clean, before, after)


def _goes_on(caption: Caption, start: int, i: int) -> bool:
    """Whether word i belongs to the noun phrase whose words behind the determiner begin at `start`."""
    words, word = caption.words, caption.words[i].lower
    following = words[i + 1].lower if i + 1 < len(words) and caption.joined(i) else ""
    if word == "and" and i > start and kinds(words[i - 1].lower) == ("colour",) == kinds(following):
        return True
    if (word, following) == ("close", "up") or (word == "up" and i > start and words[i - 1].lower == "close"):
        return True
    if word in lexicon.FUNCTION or word in lexicon.DETERMINERS or word.endswith("ly"):
        return False
    if kinds(word) or word in lexicon.ADJECTIVES:
        return True
    if _relation(caption, i):
        return False
    if word in NOUNS_IN_ING:
        return True
    modified = all(
        (_modifies(each.lower) or _is_participle(each.lower)) and "material" not in kinds(each.lower)
        for each in words[start:i]
    )
    if word.endswith(("ing", "ed")) and len(word) > 4 and (word in INFLECTED or not plural(word)):
        return modified and _is_noun_like(following) and (i > start or _may_open(caption, i, following))
    if word in INFLECTED:  # "watch" is a noun behind "a", a verb behind "people"
        behind = start > 0 and words[start - 1].lower in lexicon.DETERMINERS
        return modified and behind and INFLECTED[word][1] == 0
    return True


def _may_open(caption: Caption, i: int, following: str) -> bool:
    """Whether a participle may begin a phrase: "hanging clothes", but not "holding two cups", "is eating"."""
    before = caption.words[i - 1].lower if i and caption.joined(i - 1) else ""
    if before in lexicon.DETERMINERS:
        return True
    return following not in lexicon.NUMBERS and (
        not before or before in lexicon.FUNCTION - lexicon.AUXILIARIES
    )


def _is_noun_like(word: str) -> bool:
    return bool(word) and word not in lexicon.FUNCTION and word not in lexicon.DETERMINERS


def _modifies(word: str) -> bool:
    """Whether a word before a noun is not part of it."""
    return (
        bool(kinds(word))
        or word in lexicon.ADJECTIVES
        or word == "and"
        or word.endswith(("'s", "’s", "s’"))
        or (_is_participle(word) and word.endswith("ed"))
    )


def _is_participle(word: str) -> bool:
    """Whether a word ends like a participle; those in "ing" belong to the noun ("washing machine")."""
    return word.endswith(("ing", "ed")) and word not in NOUNS_IN_ING and len(word) > 4


def _modifiers(body: tuple[Word, ...]) -> int:
    """How many words stand before the head, which has at least one."""
    for i, word in enumerate(body[:-1]):
        name = word.text[0].isupper() and word.start > 0
        if name or not _modifies(word.lower) or f"{word.lower} {body[i + 1].lower}" in lexicon.FIXED:
            return i
    return len(body) - 1


def _form(
    caption: Caption, i: int, determiner: str, attributes: tuple[Word, ...], head: tuple[Word, ...]
) -> tuple[str, bool]:
    """The form of a phrase, and whether it is certain."""
    noun = head[-1].lower
    many = plural(noun)
    capital = [word.text[:1].isupper() and word.start > 0 for word in head]
    if any(capital):
        return "name", all(capital) and not determiner and not attributes and len(noun) > 2
    if determiner in lexicon.SINGULAR:
        return "one", not many
    if determiner in lexicon.PLURAL or any(word.lower in lexicon.NUMBERS for word in attributes):
        return "many", many
    if not determiner and i and not caption.joined(i - 1):
        return "tag", True
    if many or determiner:
        return ("many" if many else "one"), True
    return ("mass" if i else "bare"), True


def _doubtful(body: tuple[Word, ...], head: tuple[Word, ...], before: str, after: str) -> bool:
    noun = head[-1].lower
    adjective = _ADJECTIVE.search(noun) and noun not in lexicon.NOUNS_LIKE_ADJECTIVES
    odd = bool(adjective) or any(
        not is_latin(word.text.replace("-", "")) or len(word.text) < 2 for word in head
    )
    bare = _modifies(noun) and noun not in lexicon.NOUNS_TOO
    open_end = after in INFLECTED and INFLECTED[after][1] == 0 and not plural(noun)
    return odd or bare or open_end or len(head) > _MOST_HEAD or (before in ("of", "as") and len(body) > 4)
