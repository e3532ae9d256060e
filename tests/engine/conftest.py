from pathlib import Path

import pytest

from tests.engine._tiny import write_pairs


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar of 45 pictures of coloured shapes with their captions."""
    return write_pairs(tmp_path_factory.mktemp("pairs") / "shapes.tar")
