"""What a part of each room is: the base classes, and how a place makes up for what a mixer cannot do by itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.errors import BadInput, DoesNotFit
from everyformer.grids import as_map
from everyformer.masks import Mask
from everyformer.registry import Part, parts
from everyformer.tokens import Tokens, pack, spread

if TYPE_CHECKING:
    from everyformer.specs import Spec


class Embedding(Part):
    """Base of embeddings: `forward(inputs, context, **fields)` turns raw input into Tokens."""

    gives_grid: bool = False
    """Whether the tokens fill a grid, for the parts that need one."""
    fields: ClassVar[tuple[str, ...]] = ()
    """What else of a batch `forward` takes by name."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        named = inspect.signature(cls.forward).parameters
        cls.fields = tuple(name for name in named if name not in ("self", "inputs", "context"))

    def forward(self, inputs: Tensor, context: Context | None = None, **fields: Any) -> Tokens:
        """Tokens of a raw input; `fields` are what else a batch holds for it (mask, lengths, segments, ...)."""
        raise NotImplementedError

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """A batch that this embedding takes, for counting FLOPs and for contract tests."""
        raise NotImplementedError


class Position(Part):
    """Base of positions: each does one of adding to values, rotating queries and keys, and biasing scores.

    Built with the width of the vectors it meets (of all heads together) and the number of heads.
    """

    stands: str = "attention embedding"
    """Where it can stand: 'embedding' (it adds) or 'attention' (it rotates or biases)."""

    def stands_in(self, place: str) -> None:
        """Refuse a place where this part would do nothing."""
        if place not in self.stands.split():
            raise DoesNotFit(f"{type(self).__name__} stands in {self.stands}, not in {place}", "positions")

    def forward(self, tokens: Tokens) -> Float[Tensor, "#B N D"] | None:
        """What an embedding adds: `add`, called so that hooks on this module see it."""
        return self.add(tokens)

    def add(self, tokens: Tokens) -> Float[Tensor, "#B N D"] | None:
        """What is added to the values, (1 or B, N, D), prefix tokens left out; None for nothing."""
        return None

    def rotate(
        self, x: Float[Tensor, "B H N K"], places: Shaped[Tensor, "#B N k"], context: Context
    ) -> Float[Tensor, "B H N K"]:
        """Queries or keys turned by where they stand."""
        return x

    def bias(
        self,
        query: Float[Tensor, "B H N K"],
        query_places: Shaped[Tensor, "#B N k"],
        key_places: Shaped[Tensor, "#B M k"],
        scale: float,
        context: Context,
    ) -> Float[Tensor, "#B H N M"] | None:
        """What is added to the scaled scores; None for nothing."""
        return None


@dataclass(frozen=True)
class Scored:
    """What the scores that a step is given belong to."""

    query: Float[Tensor, "B H N K"]
    key: Float[Tensor, "B H M K"]
    allowed: Bool[Tensor, "#B 1 #N M"] | None
    """Which keys each query may see; None where all are."""
    context: Context
    places: tuple[Shaped[Tensor, "#B N k"], Shaped[Tensor, "#B M k"]] | None = None
    """Where the queries and the keys stand, for a step that is `placed`; None where the attention does not tell."""


class ScorePart(Part):
    """Base of what works on the scores of attention; built with the number of heads and the width of one.

    `capabilities` are those that an attention keeps with this part in it, and 'ordered' where the part makes it so.
    """

    capabilities = frozenset({"causal", "masked", "padding", "packed", "incremental", "weights"})
    piecewise: bool = True
    """Whether it may be given the scores of some queries, with all keys that those may see, instead of all at once."""
    derivative: bool = True
    """Whether its gradient is its derivative; that of what rounds is passed on as if it did not."""
    placed: bool = False
    """Whether it asks where queries and keys stand."""

    def __init__(self, heads: int, width: int) -> None:
        super().__init__()


class Normaliser(ScorePart):
    """Base of what stands in for softmax: `forward(scores, allowed)` gives weights, 0 where nothing is allowed."""

    def forward(
        self, scores: Float[Tensor, "B H N M"], allowed: Bool[Tensor, "#B 1 #N M"] | None = None
    ) -> Float[Tensor, "B H N M"]:
        """The weights."""
        raise NotImplementedError


class ScoreStep(ScorePart):
    """Base of steps around the normaliser: any of adding, multiplying, mixing heads, handing on and taking over.

    Scores are given before the mask, and weights are masked again afterwards.
    """

    def scores(self, scores: Float[Tensor, "B H N M"], at: Scored) -> Float[Tensor, "B H N M"]:
        """The scores that are normalised."""
        return scores

    def weights(self, weights: Float[Tensor, "B H N M"], at: Scored) -> Float[Tensor, "B H N M"]:
        """The weights that the values are taken with."""
        return weights


class Slots(ScorePart):
    """Base of keys and values beside those of the tokens, which every query sees; built with the key heads."""

    count: int

    def forward(
        self, key: Float[Tensor, "B G M K"], value: Float[Tensor, "B G M K"]
    ) -> tuple[Float[Tensor, "B G S K"], Float[Tensor, "B G S K"]]:
        """Their keys and values, for the batch, device and type of those of the tokens."""
        raise NotImplementedError


class Norm(Part):
    """Base of norms: `forward(values)` gives values of the same shape."""

    counts: bool = False
    """Whether it counts tokens in training, and so is called with their mask besides: padding is not counted."""
    capabilities = frozenset({"causal", "masked"})
    together: bool = False
    """Whether it takes its statistics from all tokens of a sample; the others take each token by itself."""


def normalise(norm: nn.Module, tokens: Tokens) -> Float[Tensor, "B N D"]:
    """The values of tokens, normalised."""
    return norm(tokens.values, tokens.mask) if getattr(norm, "counts", False) else norm(tokens.values)


class FeedForward(Part):
    """Base of feedforwards: `forward(tokens, context)` gives what is added to each token, from itself alone."""

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        raise NotImplementedError


class Projection(Part):
    """Base of projections: `forward(values)` turns (B, N, D) into (B, N, E); built with both widths."""

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """The projected values."""
        raise NotImplementedError


class LinearMap(Projection):
    """Base of what stands for a linear map W x + b in another form; built with inputs, outputs and whether it has a bias."""

    linear_map = True
    learns: ClassVar[bool] = True
    """Whether training can change the matrix that it stands for."""
    bias: Tensor | None

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    @property
    def weight(self) -> Float[Tensor, "E D"]:
        """The matrix that it stands for."""
        raise NotImplementedError

    def take(self, weight: Float[Tensor, "E D"]) -> None:
        """Stand for this matrix, as nearly as the form can."""
        raise NotImplementedError

    def inherit(self, old: nn.Module) -> None:
        """Stand for the map of an nn.Linear or of another form, as nearly as this one can."""
        with torch.no_grad():
            self.take(old.weight)  # type: ignore[arg-type]
            if self.bias is not None:
                self.bias.copy_(old.bias)  # type: ignore[arg-type]

    def plain(self) -> nn.Linear:
        """The nn.Linear that does the same."""
        weight = self.weight
        made = nn.Linear(self.in_features, self.out_features, self.bias is not None, weight.device, weight.dtype)
        with torch.no_grad():
            made.weight.copy_(weight)
            if self.bias is not None:
                made.bias.copy_(self.bias)
        return made

    def forward(self, values: Float[Tensor, "... D"]) -> Float[Tensor, "... E"]:
        """The mapped values."""
        return F.linear(values, self.weight, self.bias)


class Router(Part):
    """Base of routers: `forward(tokens, context)` gives the weight of each expert for each token, zero for most.

    Built with a width and a number of experts. Capabilities: as of a mixer, for the choice of a token's experts.
    """

    room = "feedforward"
    each: float
    """How many experts a token goes to, on average."""

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N E"]:
        """The weight of each expert for each token."""
        raise NotImplementedError


class Residual(Part):
    """Base of residuals: how the update of a layer is normalised and added; built with a width."""

    def forward(self, tokens: Tokens, layer: Layer, context: Context) -> Tokens:
        """The tokens with the update of `layer` added."""
        raise NotImplementedError


class Backbone(Part):
    """Base of backbones and of blocks: `forward(tokens, context)` gives Tokens."""

    leads: int = 0
    """How many leading tokens (class, distillation) it has nothing to do without."""
    gives: int | None = None
    """The width of the tokens that it gives; None: the width that it takes."""
    incremental: bool = True
    """Whether it hands the cache of its place on, so that tokens may come one by one."""
    sees_all: bool = False
    """Whether every token changes every other in it, so that it stands under no mask."""
    widths: tuple[int, ...] = ()
    """The width of each of its levels (stages of a pyramid, blocks of an encoder), which it puts into `context.levels`."""

    def chain(self, name: str, specs: tuple[Spec[Any], ...], width: int) -> nn.ModuleList:
        """Build the bodies of the option `name`, each at the width that the one before gives; this one gives the last's."""
        built = nn.ModuleList()
        widths = []
        for i, each in enumerate(specs):
            built.append(self.make(f"{name}.{i}", each, width))
            width = getattr(built[-1], "gives", None) or width
            widths.append(width)
        self.gives, self.widths = width, tuple(widths)
        return built

    @property
    def reads(self) -> bool:
        """Whether a reduction here asks for what the mixer before it attended with."""
        return False

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """The tokens after the body."""
        raise NotImplementedError


class Transition(Part):
    """Base of what stands between stages: built with the width that it takes and the width that it gives."""

    leading: bool = False
    """Whether leading tokens pass it too; the others refuse them."""

    def __call__(self, tokens: Tokens, context: Context | None = None) -> Tokens:
        """Tokens on another grid and of another width."""
        if tokens.prefix and not self.leading:
            raise BadInput(
                f"{tokens.prefix} leading tokens cannot pass {type(self).__name__}; "
                "put them in front in the last stage (first=1), or take DepthwiseMerging"
            )
        return super().__call__(tokens, context)


class Reduction(Backbone):
    """Base of reductions: `forward(tokens, context)` gives fewer Tokens, which know where each source token went.

    It stands in a list of blocks, or in a block between mixer and feedforward.
    """

    gives_grid: bool = False
    """Whether the tokens that it gives fill a grid."""
    wants_attention: bool = False
    """Whether it looks at what the attention before it attended with, where there is one."""
    needs_attention: bool = False
    """Whether it is lost without that."""
    asked: bool = False
    """Whether the last token says which stay, to be answered itself and no other: then it may stand in a causal place."""

    @property
    def reads(self) -> bool:
        """Whether a reduction here asks for what the mixer before it attended with."""
        return self.wants_attention or self.needs_attention


class Head(Part):
    """Base of heads: `forward(tokens, context)` gives the answer."""

    leads: int = 0
    """How many leading tokens (class, distillation) it cannot do without."""
    needs_grid: bool = False
    """Whether the tokens must fill a grid."""

    def forward(self, tokens: Tokens, context: Context | None = None) -> Tensor:
        """The answer."""
        raise NotImplementedError


class MapHead(Head):
    """Base of heads that read the maps of several levels of the body; built with the widths of all of them.

    `levels` says which, counted from the first (-1 the last); without it all are read.
    """

    needs_grid = True

    def __init__(self, widths: tuple[int, ...], levels: tuple[int, ...] | None = None) -> None:
        super().__init__()
        self.levels = tuple(range(len(widths))) if levels is None else levels
        if not self.levels or not all(-len(widths) <= each < len(widths) for each in self.levels):
            raise DoesNotFit(f"the body has {len(widths)} levels (0 to {len(widths) - 1}); given {levels}", "levels")
        self.widths = tuple(widths[each] for each in self.levels)

    def read(self, tokens: Tokens, context: Context | None) -> list[Tokens]:
        """The levels that it reads; a body without levels has its end alone."""
        given = [tokens] if context is None or not context.levels else list(context.levels.values())
        return [given[each] for each in self.levels]

    def maps(self, tokens: Tokens, context: Context | None) -> list[Float[Tensor, "B C Y X"]]:
        """The same as maps, leading tokens left out."""
        return [as_map(each) for each in self.read(tokens, context)]

    def for_levels(self, name: str, norm: Spec[Norm] | None) -> nn.ModuleList | None:
        """A norm for each level that it reads, where there are any."""
        return None if norm is None else nn.ModuleList(self.make(name, norm, width) for width in self.widths)


def normed(norms: nn.ModuleList | None, maps: list[Float[Tensor, "B C Y X"]]) -> list[Float[Tensor, "B C Y X"]]:
    """Maps, each normalised by its own norm, where there are any."""
    if norms is None:
        return maps
    return [norm(each.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for norm, each in zip(norms, maps, strict=True)]


Layer = Callable[[Tokens], Tensor]
"""What a residual goes around: tokens into their update."""


class Mixer(Part):
    """Base of mixers: `forward(tokens, context)` gives what is added to each token, (B, N, D)."""

    room = "mixers"
    cuts_maps: bool = False
    """Whether it works on parts of a map that depend on how its sides divide: a graph of it is of maps of one size."""

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """The update of each token."""
        raise NotImplementedError


def mix(mixer: Mixer, tokens: Tokens, context: Context) -> Float[Tensor, "B N D"]:
    """Call a mixer; padding and packing that it does not take by itself are kept away from it.

    Such a mixer is called once for each group of sequences of equal length, without their padding.
    """
    if context.attended is not None:
        context.attended.clear()
    if tokens.lengths is not None and "packed" not in mixer.capabilities:
        return _by_length(mixer, tokens, context)
    if tokens.mask is not None and "padding" not in mixer.capabilities:
        packed = pack(tokens)
        return spread(_by_length(mixer, packed, context), tokens.mask)
    return mixer(tokens, context)


def _by_length(mixer: Mixer, packed: Tokens, context: Context) -> Tensor:
    groups = context.groups(packed)
    if not groups.shapes:
        return torch.zeros_like(packed.values)
    return groups.together([mixer(each, context) for each in groups.tokens(packed)])


def require(mixer: Mixer | Router | Norm, mask: Mask, path: str) -> None:
    """Refuse a mixer, a router of experts or a norm that cannot stand under the mask of its place, naming those that can."""
    if mask.needs is None or mask.needs in mixer.capabilities or "memory" in mixer.capabilities:
        return
    if mask.needs == "causal" and "masked" in mixer.capabilities:
        return
    fitting = [name for name, cls in parts(mixer.room).items() if mask.needs in getattr(cls, "capabilities", ())]
    raise DoesNotFit(
        f"the place is {mask!r} and {type(mixer).__name__} is not '{mask.needs}'; what fits here: {', '.join(fitting)}",
        path,
    )


def require_places(blocks: Iterable[Any], mask: Mask) -> None:
    """Refuse a reduction in a list of blocks where it cannot work, and what cannot work after it."""
    shown = gridless = False
    inside, asked = "/", ""
    for i, block in enumerate(blocks):
        for path, module in block.named_modules(prefix=f"blocks.{i}"):
            name = type(module).__name__
            if mask.needs is not None and getattr(module, "sees_all", False):
                raise DoesNotFit(f"the place is {mask!r}, and {name} lets every token change every other", path)
            if gridless and ("grid" in getattr(module, "capabilities", ()) or getattr(module, "needs_grid", False)):
                raise DoesNotFit(
                    f"{name} needs a grid, and the reduction before it leaves none; put reduction.Restore between them",
                    path,
                )
            if isinstance(module, Reduction) and not path.startswith(inside):
                inside = f"{path}."
                if mask.needs is not None and not (module.asked or mask.needs in module.capabilities):
                    raise DoesNotFit(f"the place is {mask!r}, and {name} lets later tokens change earlier ones", path)
                if mask.needs is not None and asked and module.gives_grid:
                    raise DoesNotFit(
                        f"what {asked} leaves is answered at the last token alone; nothing is undone", path
                    )
                asked = name if module.asked else asked
                if module.needs_attention and not shown:
                    raise DoesNotFit(f"{name} reads the attention before it, and here is none; put it further on", path)
                gridless, shown = not module.gives_grid, False
            elif isinstance(module, Mixer):
                shown = "attended" in module.capabilities
