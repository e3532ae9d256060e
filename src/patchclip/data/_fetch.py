"""Brings files here, from this machine or from behind any address that fsspec opens."""

import fcntl
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from typing import Any, TypeVar
from uuid import uuid4

from patchclip.data._decode import UnusableError
from patchclip.data._paths import default_cache, is_url, open_filesystem
from patchclip.errors import DataError

log = logging.getLogger(__name__)

_PAUSES = (0.5, 2.0)  # seconds before the second and the third attempt at an address
_FINAL = (FileNotFoundError, PermissionError, IsADirectoryError)  # another attempt would not help

_T = TypeVar("_T")


def read_file(path: str) -> bytes:
    """The bytes of a local or remote file; an address is asked up to three times.

    Raises:
        UnusableError: It cannot be read, for whatever reason.
    """
    try:
        if not is_url(path):
            return Path(path).read_bytes()
        fs, inner = open_filesystem(path)
        return bytes(_persist(lambda: fs.cat_file(inner), path))
    except FileNotFoundError as error:
        raise UnusableError("the image file does not exist") from error
    except DataError as error:
        raise UnusableError(str(error)) from error
    except Exception as error:  # clients of addresses raise types of their own
        raise UnusableError(f"{path!r} cannot be read ({_reason(error)})") from error


def localise(path: str, cache: Path | None) -> Path:
    """A local file with the content of `path`; an address is downloaded once, under a name of its version.

    Processes that ask for the same address at once wait for the one that downloads it.

    Args:
        path: A local path, which is returned as it is, or an address.
        cache: Folder for downloads; None for `default_cache()`.

    Raises:
        DataError: The download failed three times or is incomplete.
    """
    if not is_url(path):
        return Path(path)
    fs, inner = open_filesystem(path)
    if "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,)):
        return Path(inner)
    try:
        return _persist(lambda: _cached(fs, path, inner, cache), path)
    except Exception as error:  # clients of addresses raise types of their own
        raise DataError(
            f"{path!r} cannot be downloaded ({_reason(error)}): check address and access"
        ) from error


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _persist(action: Callable[[], _T], path: str) -> _T:
    """The result of an action on an address that may fail twice before it succeeds."""
    for pause in _PAUSES:
        try:
            return action()
        except _FINAL:
            raise
        except Exception as error:  # clients of addresses raise types of their own
            log.info("%s failed (%s): the next attempt is in %g s", path, _reason(error), pause)
        sleep(pause)
    return action()


def _cached(fs: Any, path: str, inner: str, cache: Path | None) -> Path:
    version = hashlib.sha256(f"{path} {fs.ukey(inner)}".encode()).hexdigest()[:24]
    target = (cache or default_cache()) / "shards" / f"{version}-{inner.rsplit('/', 1)[-1]}"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(target):
            if not target.exists():
                _download(fs, inner, target)
    return target


@contextmanager
def _one_at_a_time(target: Path) -> Iterator[None]:
    """Lets one process of this machine make a file while the others wait, where the file system has locks.

    Where it has none each process makes the file under a name of its own, which costs time and no more.
    """
    lock = target.with_name(f"{target.name}.lock")
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            log.info("%s cannot be locked (%s): each process downloads it for itself", lock, error)
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


def _download(fs: Any, inner: str, target: Path) -> None:
    """Fetches a file completely before it gets its name, so that a cut download is never used."""
    part = target.with_name(f"{target.name}.{uuid4().hex}.part")
    try:
        fs.get_file(inner, str(part))
        size = fs.info(inner).get("size")
        if size is not None and part.stat().st_size != size:
            raise OSError(f"{part.stat().st_size} of {size} bytes arrived")
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)
    log.info("downloaded %s to %s", inner, target)
