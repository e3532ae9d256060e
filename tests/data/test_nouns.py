"""Nouns of captions in prompts: which nouns are found, and how often they are shown."""

from collections import Counter
from itertools import islice

import pytest

from patchclip.data._order import draws
from patchclip.data.nouns import PROMPTS, NounPrompts, nouns
from patchclip.data.pairs import open_pairs
from patchclip.data.stream import PairStream, StreamOptions
from patchclip.data.transforms import train_transform
from patchclip.errors import ConfigError
from tests.data._make import Bytes, ListSource, read_captions

LABELLED = """
A man riding a wave on top of a surfboard.|man,wave,surfboard
Two dogs are playing with a frisbee in the grass.|dogs,frisbee,grass
A plate of food with broccoli, rice and chicken.|plate,food,broccoli,rice,chicken
A kitchen with a stove, microwave and refrigerator.|kitchen,stove,microwave,refrigerator
A woman in a red dress holding an umbrella in the rain|woman,dress,umbrella,rain
Several people are flying kites at the beach.|people,kites,beach
A black cat sitting on top of a laptop computer.|cat,laptop computer
The bathroom has a white toilet and a sink.|bathroom,toilet,sink
A group of young men playing a game of soccer.|men,game,soccer
a stop sign on a pole next to a street|stop sign,pole,street
A giraffe eating leaves from a tall tree.|giraffe,leaves,tree
A large passenger jet flying through a cloudy sky.|passenger jet,sky
An old clock tower in the middle of a city.|clock tower,city
A baseball player swings his bat at the ball.|baseball player,bat,ball
Three zebras graze in a field near some trees.|zebras,field,trees
A teddy bear sitting on a bed with pillows.|teddy bear,bed,pillows
A person skiing down a snow covered slope.|person,slope
A double decker bus driving down a busy street.|double decker bus,street
A vase filled with flowers sitting on a wooden table.|vase,flowers,table
A young girl brushing her teeth in front of a mirror.|girl,teeth,mirror
A slice of pizza and a glass of beer on a table.|slice,pizza,glass,beer,table
A fire hydrant is covered in snow beside the sidewalk.|fire hydrant,snow,sidewalk
A train traveling down tracks next to a station platform.|train,tracks,station platform
Man in suit talking on a cell phone outside an office building.|man,suit,cell phone,office building
Boats are docked in the harbor under a bridge.|boats,harbor,bridge
A couple of elephants walking across a dusty road.|elephants,road
A bowl of fresh fruit including apples, bananas and oranges.|bowl,fruit,apples,bananas,oranges
A child wearing a helmet rides a skateboard down the ramp.|child,helmet,skateboard,ramp
A living room with a couch, a television and a rug.|living room,couch,television,rug
A man and a woman posing for a picture with a horse.|man,woman,horse
the sunset over the mountains and lake in autumn|sunset,mountains,lake,autumn
vintage illustration of a red rose with green leaves on white background|rose,leaves
aerial view of the city skyline at night|city skyline
dog running through the snow with a stick in its mouth|dog,snow,stick,mouth
actor attends the premiere of his new film in London|actor,premiere,film,london
close up of a honey bee on a yellow sunflower|honey bee,sunflower
silhouette of a fisherman in a boat at sunrise|fisherman,boat,sunrise
Modern living room interior with large windows and wooden floor|living room interior,windows,floor
How to make homemade strawberry jam|strawberry jam
a cup of coffee and a croissant on the terrace of a cafe|cup,coffee,croissant,terrace,cafe
"""
"""Captions in the manner of COCO and of alternative texts, with what a person names in them; written here."""


def test_nouns_that_a_person_names_are_found_and_few_others() -> None:
    right = wrong = missed = 0
    for line in LABELLED.strip().splitlines():
        caption, named = line.split("|")
        found, expected = set(nouns(caption)), set(named.split(","))
        right += len(found & expected)
        wrong += len(found - expected)
        missed += len(expected - found)
    assert right + missed == 124
    assert right / (right + wrong) > 0.92  # "dusty road" for "road" counts as wrong and missed
    assert right / (right + missed) > 0.92


@pytest.mark.parametrize(
    "caption, expected",
    [
        ("a fire truck and two fire trucks", ("fire truck", "fire trucks")),
        ("a dog, a Dog and another dog", ("dog",)),
        ("a  small\n red\tmug", ("mug",)),
        ("a photo of a group of people", ("people",)),
        ("a fish", ("fish",)),
        ("a photo", ()),
        ("running quickly", ()),
        ("", ()),
        ("!!! 123 \ud800", ()),
    ],
)
def test_cases(caption: str, expected: tuple[str, ...]) -> None:
    assert nouns(caption) == expected


def test_the_prompts_are_those_of_the_paper() -> None:
    assert len(set(PROMPTS)) == 7
    assert all(prompt.count("{}") == 1 for prompt in PROMPTS)
    assert NounPrompts().texts("a dog on a bed") == (
        *("itap of a dog.", "a bad photo of the dog.", "a origami dog.", "a photo of the large dog."),
        *("a dog in a video game.", "art of the dog.", "a photo of the small dog."),
        *(prompt.replace("{}", "bed") for prompt in PROMPTS),
    )
    assert NounPrompts(prompts=("{}",)).texts("a dog on a bed") == ("dog", "bed")


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_captions_is_replaced_by_each_of_its_texts_alike(share: float) -> None:
    prompts, caption, count = NounPrompts(share), "a dog on a bed", 2000
    found = Counter(prompts.choose(caption, draws(5, epoch, 3)[1]) for epoch in range(count))
    deviation = (count * share * (1 - share)) ** 0.5
    assert abs(count - found.pop(caption, 0) - share * count) <= 4 * deviation
    texts = prompts.texts(caption)
    assert set(found) == (set(texts) if share else set())
    even = share * count / len(texts)
    assert all(abs(number - even) < 5 * even**0.5 for number in found.values())


def test_a_caption_without_nouns_stays() -> None:
    assert {NounPrompts(1.0).choose("running quickly", draw) for draw in range(20)} == {"running quickly"}


def test_which_caption_says_nothing_about_whether_a_noun_is_shown() -> None:
    """Both are decided by one number."""
    draw = [draws(0, epoch, 0)[1] for epoch in range(3000)]
    prompted = [NounPrompts(0.5).choose("a dog", each) != "a dog" for each in draw]
    for captions in (2, 5):
        by_caption = [
            [p for p, d in zip(prompted, draw, strict=True) if d % captions == i] for i in range(captions)
        ]
        assert all(abs(sum(each) / len(each) - 0.5) < 0.09 for each in by_caption)


def texts_of(share: float, start: int = 0, steps: int = 6, workers: int = 0) -> list[str]:
    source = ListSource([(f"a dog on a bed {i}", f"a cat by a lake {i}") for i in range(10)])
    options = StreamOptions(batch_size=5, seed=2, nouns=share, workers=workers)
    stream = PairStream(source, train_transform(8, "light"), Bytes(), options)
    return [text for batch in islice(stream.batches(start), steps) for text in read_captions(batch.tokens)]


def test_a_stream_shows_nouns_and_goes_on_where_it_stopped() -> None:
    plain, all_nouns, half = texts_of(0.0), texts_of(1.0), texts_of(0.5)
    assert len(plain) == len(half) == 30
    assert not set(plain) & set(all_nouns)
    assert {text in each for text, *each in zip(half, plain, all_nouns, strict=True)} == {True}
    assert 5 < sum(text in all_nouns for text in half) < 25
    assert texts_of(0.5, start=2, steps=4) == half[10:]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_workers_show_the_same_nouns() -> None:
    assert texts_of(0.5, steps=3, workers=1) == texts_of(0.5, steps=3)


def test_most_of_the_shipped_captions_have_nouns() -> None:
    source = open_pairs("samples")
    captions = [source.texts(i)[0] for i in range(0, len(source), 37)]
    found = [nouns(caption) for caption in captions]
    assert len(captions) > 100
    assert sum(map(bool, found)) > 0.8 * len(captions)
    for caption, each in zip(captions, found, strict=True):
        assert all(word in caption.lower() for noun in each for word in noun.split())


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_other_shares_are_refused(share: float) -> None:
    for build in (lambda: NounPrompts(share), lambda: StreamOptions(batch_size=1, nouns=share)):
        with pytest.raises(ConfigError, match=rf"nouns={share} must be in \[0, 1\]"):
            build()


@pytest.mark.parametrize("prompts", [(), ("a photo",), ("{} and {}",)])
def test_prompts_without_a_place_for_the_noun_are_refused(prompts: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match=r"must each hold .* once"):
        NounPrompts(prompts=prompts)
