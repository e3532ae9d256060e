"""Command line of the pair set builder."""

from __future__ import annotations

import argparse
import json

from tools.pairset.build import build
from tools.pairset.fetch import fetch


def main() -> None:
    """Fetch the packages, build the set and print its counts."""
    parser = argparse.ArgumentParser(prog="python -m tools.pairset", description=__doc__)
    parser.add_argument("--cache", required=True, help="folder for about 600 MB of downloads")
    parser.add_argument("--out", required=True, help="folder to write train/, test/ and extra/ to")
    parser.add_argument("--no-fetch", action="store_true", help="use the cache as it is")
    options = parser.parse_args()
    if not options.no_fetch:
        fetch(options.cache)
    print(json.dumps(build(options.cache, options.out), indent=1))


if __name__ == "__main__":
    main()
