"""The guards of conftest.py guard."""

import socket

import pytest
import torch
from _pytest.outcomes import Failed

from patchclip.contracts import Patches


def test_shapes_of_public_signatures_are_checked() -> None:
    with pytest.raises(Exception, match="features"):
        Patches(features=torch.zeros(2, 3), grid=(1, 3))


@pytest.mark.parametrize("host", ["198.51.100.7", "2001:db8::1"])
def test_connecting_to_another_machine_fails(host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as link, pytest.raises(Failed, match="must not need a network"):
        link.connect((host, 80))


def test_looking_up_another_machine_fails() -> None:
    with pytest.raises(Failed, match="must not need a network"):
        socket.create_connection(("example.org", 80))


def test_this_machine_may_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_one_thread_a_worker() -> None:
    assert torch.get_num_threads() == 1
