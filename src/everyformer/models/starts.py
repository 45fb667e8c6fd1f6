"""How the weights of a model start."""

from __future__ import annotations

from torch import nn

from everyformer.contracts import Position
from everyformer.mixers import Attention, CrossAttention
from everyformer.registry import Part, part


class Start(Part):
    """Base: `apply_to(module)` sets the weights of every linear, embedding and convolution that has no start of its own."""

    def apply_to(self, root: nn.Module, depth: int = 1) -> None:
        """Set the weights inside `root`; `depth` is the number of residual layers of the model."""
        for path, module in root.named_modules():
            if getattr(module, "own_init", False):
                continue
            if isinstance(module, (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d)):
                self.weight(module, path, depth)
                if getattr(module, "bias", None) is not None:
                    nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def weight(self, module: nn.Module, path: str, depth: int) -> None:
        """Set the weight of one module."""
        raise NotImplementedError


@part("models")
class Torch(Start):
    """PyTorch's own."""

    def apply_to(self, root: nn.Module, depth: int = 1) -> None:
        """Leave the weights as PyTorch made them."""


@part("models")
class Normal(Start):
    """Truncated normal; `scaled` divides the last map of each residual layer by sqrt(layers) (GPT-2, section 2.3)."""

    def __init__(self, *, std: float = 0.02, scaled: bool = False) -> None:
        super().__init__()
        self.std, self.scaled = std, scaled

    def weight(self, module: nn.Module, path: str, depth: int) -> None:
        """Set the weight of one module."""
        last = self.scaled and path.rsplit(".", 1)[-1] in ("output", "down")
        std = self.std / depth**0.5 if last else self.std
        nn.init.trunc_normal_(module.weight, std=std, a=-3 * std, b=3 * std)  # type: ignore[arg-type]


@part("models")
class Xavier(Start):
    """Glorot uniform, a convolution as the linear map that it is; tables normal with 1/sqrt(D) (Vaswani et al.'s code)."""

    def weight(self, module: nn.Module, path: str, depth: int) -> None:
        """Set the weight of one module; the three maps of `qkv` each on their own."""
        weight: nn.Parameter = module.weight  # type: ignore[assignment]
        if isinstance(module, nn.Embedding):
            nn.init.normal_(weight, std=module.embedding_dim**-0.5)
        elif path.endswith(("qkv", "key_value", "query_key")):
            for each in weight.data.split(weight.shape[1], 0):
                nn.init.xavier_uniform_(each)
        else:
            nn.init.xavier_uniform_(weight.data.flatten(1))


@part("models")
class ByWidth(Start):
    """Normal with 1/sqrt(D) of the D that a map reads, over sqrt(2) for the first of an MLP; of the last of each residual layer
    1/sqrt(D) of the D that it writes, over sqrt(layers); tables with 0.02 (Radford et al., CLIP, 2021, their code).
    """

    def weight(self, module: nn.Module, path: str, depth: int) -> None:
        """Set the weight of one module."""
        weight: nn.Parameter = module.weight  # type: ignore[assignment]
        name = path.rsplit(".", 1)[-1]
        if isinstance(module, nn.Embedding):
            std = 0.02
        elif name in ("output", "down"):
            std = (len(weight) * depth) ** -0.5
        else:
            std = (weight[0].numel() * (2 if name == "up" else 1)) ** -0.5
        nn.init.normal_(weight, std=std)


@part("models")
class FanIn(Start):
    """Normal with 1/sqrt(inputs), tables with 1 (Raffel et al., T5, 2020, their Mesh TensorFlow code).

    Queries start such that the scores do as in scaled attention, whatever the attention's own scale.
    """

    def apply_to(self, root: nn.Module, depth: int = 1) -> None:
        """Set the weights inside `root`."""
        super().apply_to(root, depth)
        for module in root.modules():
            if isinstance(module, (Attention, CrossAttention)):
                whole = getattr(module, "qkv", getattr(module, "query", None))
                if isinstance(whole, nn.Linear):
                    queries = whole.weight.data[: module.heads * module.head_width]
                    queries.mul_(module.head_width**-0.5 / module.scale)
            elif isinstance(module, Position):
                for table in module.parameters():
                    nn.init.normal_(table, std=module.place[0] ** -0.5)

    def weight(self, module: nn.Module, path: str, depth: int) -> None:
        """Set the weight of one module."""
        weight: nn.Parameter = module.weight  # type: ignore[assignment]
        std = 1.0 if isinstance(module, nn.Embedding) else weight[0].numel() ** -0.5
        nn.init.normal_(weight, std=std)
