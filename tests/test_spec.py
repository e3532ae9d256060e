"""Methods with options as text: values, lists and tuples, messages."""

from typing import Any

import pytest

from patchclip import spec
from patchclip.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1,2]", [1, 2]),
        ("(1,2)", [1, 2]),
        ("( 1, 2 )", [1, 2]),
        ("(8,)", [8]),
        ("()", []),
        ("0.2", 0.2),
        ("1e-4", 1e-4),
        ("-2.5E+3", -2500.0),
        ("[1e-4, 2]", [1e-4, 2]),
        ("1e", "1e"),
        ("e4", "e4"),
        ("null", None),
        ("'(1)'", "(1)"),
        ("(1", "(1"),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert spec.name_and_options(f"pamr:dilations={text}") == ("pamr", {"dilations": value})


def test_commas_within_brackets_do_not_divide() -> None:
    assert spec.split("pamr:dilations=(1,2), bilateral,pamr:dilations=[1, 2]") == [
        *("pamr:dilations=(1,2)", "bilateral", "pamr:dilations=[1, 2]")
    ]


def test_a_method_within_an_option_has_its_own_options() -> None:
    inner = spec.inner("naclip:std=5+reduced=false")
    assert spec.name_and_options(inner) == ("naclip", {"std": 5, "reduced": False})
    assert spec.inner("pamr") == "pamr"


@pytest.mark.parametrize("text", ["[1,2]", "(1,2)"])
def test_lists_and_tuples_build_the_same(text: str) -> None:
    assert spec.build("refinement", f"pamr:dilations={text}").dilations == (1, 2)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("pamr:dilations=8", r"refinement/pamr: dilations=8 must be a list of int: write dilations=\[1,2\]"),
        ("pamr:dilations=abc", "dilations='abc' must be a list of int"),
        ("pamr:dilations=[a]", "must be a list of int"),
        ("pamr:dilations=[1.5]", "must be a list of int"),
        ("pamr:dilations=[true]", "must be a list of int"),
        ("pamr:dilations=(1,[)", "not YAML"),
        ("pamr:dilation", "must read NAME or NAME:key=value"),
        ("pamr:dilation=[1]", "did you mean 'dilations'"),
    ],
)
def test_bad_options(part: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spec.build("refinement", part)
