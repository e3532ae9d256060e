"""Relations and actions of the grammar of captions, what excludes each, and the forms of verbs."""

import re

OPPOSITES: dict[str, tuple[str, ...]] = {
    "to the left of": ("to the right of",),
    "to the right of": ("to the left of",),
    "on the left of": ("on the right of",),
    "on the right of": ("on the left of",),
    "on the left side of": ("on the right side of",),
    "on the right side of": ("on the left side of",),
    "left of": ("right of",),
    "right of": ("left of",),
    "above": ("below", "underneath"),
    "over": ("under", "beneath"),
    "below": ("above",),
    "under": ("above", "on top of"),
    "beneath": ("above", "on top of"),
    "underneath": ("above", "on top of"),
    "in front of": ("behind",),
    "behind": ("in front of",),
    "on top of": ("underneath", "in front of"),
    "inside of": ("outside of",),
    "outside of": ("inside of",),
    "inside": ("outside",),
    "outside": ("inside",),
    "next to": ("on top of", "inside"),
    "beside": ("on top of", "inside"),
    "near": ("on top of", "inside"),
    "between": ("behind", "underneath"),
    "into": ("out of",),
    "out of": ("into",),
    "onto": ("off",),
    "toward": ("away from",),
    "towards": ("away from",),
    "away from": ("towards",),
    "on": ("under", "behind"),
    "in": ("behind", "under"),
}
"""Relation -> relations that are false where it is true."""

TWO_WAY = frozenset(("outside", "outside of", "next to", "beside", "near", "between", "toward", "towards"))
"""Relations that are false the other way round."""

POSTURES = (
    ("sit",),
    ("stand",),
    ("lie", "sleep", "rest"),
    ("walk",),
    ("run",),
    ("jump",),
    ("kneel", "crouch"),
)
"""What one does at a time, groups that mean nearly the same."""

ACTIONS: dict[str, tuple[str, ...]] = {
    "ride": ("push", "wash", "chase"),
    "drive": ("push", "wash"),
    "hold": ("throw", "kick"),
    "carry": ("throw", "kick"),
    "eat": ("throw", "sell"),
    "wear": ("sell", "wash"),
    "push": ("pull", "ride"),
    "pull": ("push", "ride"),
    "throw": ("catch",),
    "catch": ("throw",),
    "chase": ("feed", "wash"),
    "feed": ("chase", "wash"),
    "wash": ("push", "sell"),
    "kick": ("catch", "hold"),
    "read": ("burn", "sell"),
    "open": ("close",),
    "close": ("open",),
}
"""What one does with a thing -> what one does not do with it at the same time."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VERBS = _words(
    """
    sit stand lie lay walk run jump ride hold carry eat drink wear look watch play throw catch kick
    hit swing push pull drive fly swim climb ski surf skate sleep rest lean hang park stop wait talk
    speak read write cut cook bake wash clean brush open close show contain feature include cover
    fill surround top make take get give put use smile laugh cry pose perform dance sing chase feed
    graze cross turn move go come leave enter face point reach touch hug kiss pet lick bite sniff
    fall float sail travel pass work sell buy prepare serve display decorate attach tie bend kneel
    crouch squat stretch lift raise grab try attempt stare gaze peer glow shine burn blow grow bloom
    lead follow line mount seat place dress see say tell help paint draw wave juggle bow shrug golf
    row bike cycle hike camp fish shop dine travel build fix repair roll slide hover perch land
    descend ascend
    """
)
"""Base forms; `forms` inflects them."""

_IRREGULAR = """
    sit sits sitting sat sat|stand stands standing stood stood|lie lies lying lay lain|
    lay lays laying laid laid|run runs running ran run|ride rides riding rode ridden|
    hold holds holding held held|eat eats eating ate eaten|drink drinks drinking drank drunk|
    wear wears wearing wore worn|throw throws throwing threw thrown|see sees seeing saw seen|
    catch catches catching caught caught|drive drives driving drove driven|cut cuts cutting cut cut|
    fly flies flying flew flown|swim swims swimming swam swum|sleep sleeps sleeping slept slept|
    read reads reading read read|make makes making made made|take takes taking took taken|
    feed feeds feeding fed fed|hang hangs hanging hung hung|lead leads leading led led|
    swing swings swinging swung swung|tie ties tying tied tied|hit hits hitting hit hit|
    put puts putting put put|get gets getting got gotten|give gives giving gave given|
    grow grows growing grew grown|blow blows blowing blew blown|draw draws drawing drew drawn|
    write writes writing wrote written|speak speaks speaking spoke spoken|go goes going went gone|
    build builds building built built|kneel kneels kneeling knelt knelt|
    pet pets petting petted petted|squat squats squatting squatted squatted|
    sell sells selling sold sold|tell tells telling told told|fall falls falling fell fallen|
    sing sings singing sang sung|come comes coming came come|buy buys buying bought bought|
    bite bites biting bit bitten|bend bends bending bent bent|say says saying said said|
    slide slides sliding slid slid|shine shines shining shone shone
"""
"""Base form, third person, -ing form, past, participle."""


NOUNS_IN_ING = _words(
    """
    building ring king wing string ceiling clothing painting railing wedding evening morning pudding
    frosting icing thing spring swing sling crossing drawing parking dressing topping wrapping
    filling opening landing lightning darling sibling herring earring sewing being red bed seed weed
    shed sled feed breed reed steed
    """
)
"""Nouns that end like a participle."""

_FORMS = {words[0]: tuple(words) for words in (row.split() for row in _IRREGULAR.split("|"))}


def forms(verb: str) -> tuple[str, ...]:
    """Base form, third person, -ing form, past and participle of a verb."""
    if verb in _FORMS:
        return _FORMS[verb]
    third = "es" if verb.endswith(("s", "sh", "ch", "x", "z")) else "s"
    if verb.endswith("e"):
        return verb, f"{verb}s", f"{verb[:-1]}ing", f"{verb}d", f"{verb}d"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return verb, f"{verb[:-1]}ies", f"{verb}ing", f"{verb[:-1]}ied", f"{verb[:-1]}ied"
    last = verb[-1] if re.fullmatch(r"[^aeiou]*[aeiou][bdglmnprt]", verb) else ""
    return verb, verb + third, f"{verb}{last}ing", f"{verb}{last}ed", f"{verb}{last}ed"


INFLECTED: dict[str, tuple[str, int]] = {
    form: (verb, number) for verb in sorted(VERBS) for number, form in reversed(list(enumerate(forms(verb))))
}
"""Form -> its verb and its place among the forms."""
