"""What tests of the segmenter share."""

import jaxtyping
import pytest


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arguments of wrong types reach the library, as they do outside the tests."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
