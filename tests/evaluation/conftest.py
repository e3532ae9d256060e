import pytest
import torch


@pytest.fixture
def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
