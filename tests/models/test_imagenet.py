"""The classes of ImageNet."""

from patchclip.models import imagenet


def test_ids_names_and_prompts() -> None:
    ids, names = imagenet.wordnet_ids(), imagenet.classnames()
    assert (len(ids), len(names), len(set(ids))) == (1000, 1000, 1000)
    assert list(ids) == sorted(ids), "a label is the rank of the id, as a class folder's is"
    assert {ids[i]: names[i] for i in (0, 207, 999)} == {
        "n01440764": "tench",
        "n02099601": "Golden Retriever",
        "n15075141": "toilet paper",
    }
    assert len(imagenet.templates()) == 80
    assert all(template.count("{c}") == 1 for template in imagenet.templates())


def test_lemmas_of_the_larger_set() -> None:
    lemmas = imagenet.lemmas()
    assert len(lemmas) == 21841
    assert {wordnet_id: lemmas[wordnet_id] for wordnet_id in ("n01440764", "n00005787")} == {
        "n01440764": "tench",
        "n00005787": "benthos",
    }
    assert len(set(lemmas.values())) == len(lemmas), "no two classes tie for every image"
    assert lemmas["n10499857"] == "queen: the wife or widow of a king"
    assert lemmas["n10499355"] == "queen, queen regnant, female monarch"
    assert lemmas["n02129604"] == "tiger"
    assert set(imagenet.wordnet_ids()) - set(lemmas) == {"n04399382"}, "the teddy bear, not in ImageNet-21k"
