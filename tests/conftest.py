"""What holds for every test: shapes are checked, one thread a worker, no network."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from jaxtyping import install_import_hook

from tests import typecheck

if not any(name.startswith("patchclip.") for name in sys.modules):
    install_import_hook("patchclip", f"{typecheck.__name__}.check")

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as shells start what runs in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

_LOCAL = ("127.", "::1", "0.0.0.0", "localhost", "::")


def _is_local(host: Any) -> bool:
    return host in (None, "", b"", socket.gethostname()) or str(host).startswith(_LOCAL)


@pytest.fixture(autouse=True)
def _patient() -> None:
    """What failed in another test is forgotten."""
    from patchclip.data import _patience

    _patience.forget()


@pytest.fixture(autouse=True, scope="session")
def _no_network() -> Iterator[None]:
    """A test that reaches for another machine fails, whatever the library makes of the exception."""
    patch = pytest.MonkeyPatch()

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def connect(self: socket.socket, address: Any) -> Any:
            if isinstance(address, tuple) and not _is_local(address[0]):
                pytest.fail(f"a test connects to {address}: tests must not need a network", pytrace=True)
            return original(self, address)

        return connect

    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **options: Any) -> Any:
        if not _is_local(host):
            pytest.fail(f"a test looks up {host!r}: tests must not need a network", pytrace=True)
        return resolve(host, *rest, **options)

    patch.setattr(socket.socket, "connect", guarded(socket.socket.connect))
    patch.setattr(socket.socket, "connect_ex", guarded(socket.socket.connect_ex))
    patch.setattr(socket, "getaddrinfo", getaddrinfo)
    yield
    patch.undo()
