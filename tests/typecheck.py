"""The type checker of the tests: beartype, with an int accepted where a float is meant (PEP 484)."""

import typing
from collections.abc import Callable
from typing import Any

from beartype import BeartypeConf, beartype

_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with its arguments and result checked; Protocols in its signature become checkable."""
    for hint in getattr(function, "__annotations__", {}).values():
        for part in (hint, *typing.get_args(hint)):
            if isinstance(part, type) and getattr(part, "_is_protocol", False):
                typing.runtime_checkable(part)
    return _checked(function)
