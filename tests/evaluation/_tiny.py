"""A table as a module, so that it can be told from another by its weights."""

import torch
from PIL import Image
from torch import Tensor, nn

from ._fakes import TableEncoder, picture

COUNT = 10


class TinyEncoder(TableEncoder):
    """A table whose rows are the weights of a module, so that it can be told from another by them."""

    def __init__(self, shift: float = 0.0) -> None:
        rows = torch.eye(COUNT) + shift
        super().__init__(rows, {f"t{i}": rows[i] for i in range(COUNT)})
        self.model = nn.Linear(COUNT, COUNT, bias=False)
        self.model.weight.data = rows
        self.model.eval()
        self.precision = "fp32"
        self.tokenizer = self.tokens
        self.kind = "cpu"

    def tokens(self, texts: list[str]) -> Tensor:
        """Texts outside of the table become their lengths."""
        known = self.vocabulary
        return torch.tensor([[known.index(text) if text in known else len(text)] for text in texts])


class Next:
    """The picture with the next number."""

    name = "next"

    def __call__(self, image: Image.Image, index: int) -> Image.Image:
        return picture((index + 1) % COUNT)
