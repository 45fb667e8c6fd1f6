"""Multi-head, multi-query and grouped-query attention, over the tokens themselves or over a memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from everyformer.cache import Cache
from everyformer.context import Context
from everyformer.contracts import Mixer, Norm, Normaliser, Position, ScorePart, ScoreStep, Slots
from everyformer.errors import BadInput, DoesNotFit
from everyformer.masks import Full, Mask
from everyformer.mixers.attend import Taps, attend
from everyformer.mixers.attended import Attended
from everyformer.mixers.lowering import Listed, Lowered, Sparse, lower, lower_memory
from everyformer.mixers.sight import Sight
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens, unpack
from everyformer.units import Units, at

Pair = tuple[Tensor | None, Tensor | None]
"""What the queries and what the keys have of something."""


class _Attention(Mixer):
    """What attention over tokens and over a memory share: the shape of the heads, what is done to the scores, and the taps."""

    def __init__(
        self,
        width: int,
        heads: int,
        key_heads: int | None,
        head_width: int | None,
        scale: float | None,
        temperature: float,
        dropout: float,
        normaliser: Spec[Normaliser] | None,
        steps: tuple[Spec[ScoreStep], ...],
        slots: Spec[Slots] | None,
    ) -> None:
        super().__init__()
        if heads < 1:
            raise ValueError(f"heads is at least 1; given {heads}")
        if head_width is None and width % heads:
            raise ValueError(f"width {width} is not a multiple of heads {heads}; give head_width or other heads")
        self.heads, self.key_heads = heads, key_heads or heads
        if heads % self.key_heads:
            raise ValueError(f"heads {heads} is not a multiple of key_heads {self.key_heads}")
        if not temperature or scale == 0:
            raise ValueError(
                f"scale and temperature are not 0; given {scale} and {temperature}; attention that is nearly uniform has a "
                "scale such as 1e-6, and one that is nearly hard a temperature such as 1e-6"
            )
        self.head_width = head_width or width // heads
        self.scale = (self.head_width**-0.5 if scale is None else scale) / temperature
        self.dropout = dropout
        self.normaliser: Normaliser | None = self.make("normaliser", normaliser, heads, self.head_width)
        self.steps = self.make("steps", steps, heads, self.head_width)
        self.slots: Slots | None = self.make("slots", slots, self.key_heads, self.head_width)
        self.placed = any(each.placed for each in self._scored())
        for each in self._scored():
            lost, gained = ScorePart.capabilities - each.capabilities, each.capabilities - ScorePart.capabilities
            self.capabilities = (self.capabilities - lost - {"attended"}) | gained
        self.taps = Taps(self)

    def _scored(self) -> list[ScorePart]:
        return [each for each in (self.normaliser, *self.steps, self.slots) if each is not None]

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight, context: Context) -> Tensor:
        if self.slots is not None:
            more = self.slots(key, value)
            sight = sight.widened(self.slots.count, query)
            key, value = torch.cat((more[0], key), 2), torch.cat((more[1], value), 2)
        return attend(
            query, key, value, lowered=sight.lowered, scale=self.scale, bias=sight.bias, mass=sight.mass, places=sight.places,
            dropout=self.dropout if self.training else 0.0, taps=self.taps, normaliser=self.normaliser, steps=self.steps,
            context=context,
        )  # fmt: skip

    def split(self, x: Float[Tensor, "B N E"], heads: int) -> Float[Tensor, "B H N K"]:
        """Heads apart."""
        return x.unflatten(-1, (heads, self.head_width)).transpose(1, 2)

    def head_units(self, **blocks: tuple[int, ...]) -> Units:
        """Its heads, those that share a key as one: what the maps named in `blocks` hold of each in blocks of these sizes."""
        places = {
            f"{name}.{kind}": (0, at(self.key_heads, *sizes))
            for name, sizes in blocks.items()
            for kind in ("weight", "bias")
        }
        places["output.weight"] = 1, at(self.key_heads, self.heads * self.head_width)
        shared = {"key_heads": 1} if self.key_heads < self.heads else {}
        options = {"heads": self.heads // self.key_heads, **shared}
        return Units("heads", self.key_heads, options, places, "output", {"head_width": self.head_width})

    def extra_repr(self) -> str:
        """Heads and their width."""
        return f"heads={self.heads}, key_heads={self.key_heads}, head_width={self.head_width}"


@part("mixers")
class Attention(_Attention):
    """Scaled dot-product attention of the tokens over themselves (Vaswani et al., 2017, section 3.2).

    `key_heads` fewer than `heads` share keys and values (Shazeer, 2019; Ainslie et al., 2023). `mask` is joined with
    the mask of the place. `scale` replaces 1/sqrt(K); `temperature` divides it. `normaliser` stands in for softmax,
    `steps` change scores and weights, `slots` are keys and values beside the tokens' own: parts of the room `scores`.
    A sparse mask is worked by blocks, and the scores that it forbids are never formed.
    """

    capabilities = frozenset({"causal", "masked", "padding", "packed", "incremental", "weights", "attended"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        key_heads: int | None = None,
        head_width: int | None = None,
        bias: bool = True,
        output_bias: bool | None = None,
        positions: Spec[Position] | None = None,
        query_key_norm: Spec[Norm] | None = None,
        mask: Mask = Full(),  # noqa: B008
        scale: float | None = None,
        temperature: float = 1.0,
        dropout: float = 0.0,
        normaliser: Spec[Normaliser] | None = None,
        steps: tuple[Spec[ScoreStep], ...] = (),
        slots: Spec[Slots] | None = None,
    ) -> None:
        super().__init__(width, heads, key_heads, head_width, scale, temperature, dropout, normaliser, steps, slots)
        inner = self.heads * self.head_width
        self.sizes = inner, self.key_heads * self.head_width, self.key_heads * self.head_width
        self.qkv = nn.Linear(width, sum(self.sizes), bias=bias)
        self.output = nn.Linear(inner, width, bias=bias if output_bias is None else output_bias)
        self.positions: Position | None = self.make("positions", positions, inner, heads)
        if self.positions is not None:
            self.positions.stands_in("attention")
        self.query_key_norm = None
        if query_key_norm is not None:
            self.query_key_norm = self.make("query_key_norm", (query_key_norm, query_key_norm), self.head_width)
        self.mask = mask

    def units(self) -> Units:
        """Its heads."""
        return self.head_units(qkv=self.sizes)

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from those that it may see."""
        context = context or Context()
        projected = self.project(tokens)
        if tokens.lengths is None:
            return self.output(self._mix(projected, tokens, context))
        if context.asked:
            whole = unpack(tokens, projected)
            return self.output(self._mix(whole.values, whole, context)[whole.mask][None])
        groups = context.groups(tokens)
        if not groups.shapes:
            return torch.zeros_like(tokens.values)
        mixed = [self._mix(each.values, each, context) for each in groups.tokens(tokens, projected)]
        return self.output(groups.together(mixed))

    def project(self, tokens: Tokens) -> Float[Tensor, "B N E"]:
        """Queries, keys and values of all heads."""
        return self.qkv(tokens.values)

    def operands(self, qkv: Float[Tensor, "B N E"]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, N, K), keys (B, G, N, K) and values (B, P, N, K), not yet turned by where they stand."""
        query, key, value = qkv.split(self.sizes, -1)
        query, key = self.split(query, self.heads), self.split(key, self.key_heads)
        if self.query_key_norm is not None:
            query, key = self.query_key_norm[0](query), self.query_key_norm[1](key)
        return query, key, self.split(value, -1)

    def _mix(self, qkv: Tensor, tokens: Tokens, context: Context) -> Tensor:
        context = context.layer(self) if "attended" in self.capabilities else context
        query, key, value = self.operands(qkv)
        positions = self.positions if self.positions is not None else context.positions
        places = tokens.places if positions is not None or self.placed else None
        key_places = None
        if positions is not None:
            query, key = positions.rotate(query, places, context), positions.rotate(key, places, context)
        if context.cache is not None:
            key, value, key_places = self._remember(key, value, places, tokens, positions, context)
            if positions is not None:
                context.cache.moves[self] = partial(self._moved, positions)
            if tokens.weights is not None:
                raise BadInput("merged tokens cannot be decoded with a cache; generate without one")

        def call(query: Tensor, key: Tensor, value: Tensor, lowered: Lowered, places: Pair, mass: Pair) -> Tensor:
            bias = self._biased(positions, query, places, context)
            return self._attend(
                query, key, value, Sight(lowered, bias, mass[1], places if self.placed else None), context
            )

        lowered = lower(context.mask & self.mask, tokens, context).spread(self.heads)
        if isinstance(lowered, Sparse) and not self._plain(positions, tokens):
            lowered = lowered.rest
        key_places = places if key_places is None else key_places
        attended = None
        if context.asked and "attended" in self.capabilities:
            form = partial(self._bias, positions, query, (places, key_places), tokens.weights, context)
            attended = Attended(query, key, lowered, self.scale, form, tokens)
            context.show(attended)
        mass = tokens.weights, tokens.weights
        mixed = self._by_blocks(call, lowered, query, key, value, (places, key_places), mass)
        if context.cache is not None and context.cache.looks and attended is not None:
            context.cache.advance(tokens, attended)
        return mixed.transpose(1, 2).flatten(2)

    def _bias(
        self, positions: Position | None, query: Tensor, places: Pair, mass: Tensor | None, context: Context
    ) -> Tensor | None:
        """All that is added to the scores."""
        bias = self._biased(positions, query, places, context)
        if mass is None:
            return bias
        heavy = mass.clamp(min=1e-6).log()[:, None, None, :]
        return heavy if bias is None else bias + heavy

    def _biased(self, positions: Position | None, query: Tensor, places: Pair, context: Context) -> Tensor | None:
        """What the positions add to the scores; of each key head by itself, where the places of its keys are its own."""
        if positions is None:
            return None
        queries, keys = places
        if keys is None or keys.ndim == 3:
            return positions.bias(query, queries, keys, self.scale, context)
        found = [
            positions.bias(query, queries, each, self.scale, context.replace(lowered={})) for each in keys.unbind(1)
        ]
        if found[0] is None:
            return None
        heads = [each.expand(-1, self.heads, -1, -1).chunk(len(found), 1)[i] for i, each in enumerate(found)]
        return torch.cat(heads, 1)

    def _by_blocks(
        self,
        call: Callable[..., Tensor],
        lowered: Lowered,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *along: Pair,
    ) -> Float[Tensor, "B H N V"]:
        """`call(query, key, value, lowered, *pairs)`, for each group of blocks where the mask lists them, else once.

        `along` is what the queries and the keys have of something; pieces of it are the pairs.
        """
        if isinstance(lowered, Listed):
            if not self.taps.watched and all(each.piecewise for each in self._scored()):
                return lowered.gathered.attend(
                    lambda q, k, v, allowed, *pairs: call(q, k, v, Lowered(allowed=allowed), *pairs),
                    query, key, value, *(queries for queries, _ in along),
                )  # fmt: skip
            lowered = lowered.dense
        return call(query, key, value, lowered, *along)

    def _plain(self, positions: Position | None, tokens: Tokens) -> bool:
        """Whether nothing is asked but softmax of the products."""
        biased = tokens.weights is not None or (positions is not None and type(positions).bias is not Position.bias)
        dropped = self.training and self.dropout > 0
        return not (biased or dropped or self._scored() or self.taps.watched)

    def _remember(
        self,
        key: Tensor,
        value: Tensor,
        places: Tensor | None,
        tokens: Tokens,
        positions: Position | None,
        context: Context,
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The keys, values and places of all tokens so far, once those of this pass are kept."""
        new = {"key": key, "value": value}
        if places is not None:
            new["places"] = places.expand(key.shape[0], -1, -1)[:, None]
        kept = context.cache.extend(self, **new)
        places = kept.get("places")
        return kept["key"], kept["value"], places[:, 0] if places is not None and places.shape[1] == 1 else places

    def _moved(self, positions: Position, kept: dict[str, Tensor], by: Tensor) -> dict[str, Tensor]:
        """What is kept of tokens that now stand `by` places later."""
        key = positions.rotate(kept["key"], by[..., None], Context())
        return {"key": key, "places": kept["places"] + by[:, None, :, None]}


@part("mixers")
class CrossAttention(_Attention):
    """Attention of the tokens over a memory in the context, an encoder's output (Vaswani et al., section 3.2.3).

    `memory` names it; `memory_width` is its width where that differs from the tokens'. Where `context.seen` names the
    memory, each token looks only at what it may see there.
    """

    capabilities = frozenset({"memory", "masked", "padding", "packed", "incremental", "causal"})

    def __init__(
        self,
        width: int,
        *,
        heads: int = 8,
        key_heads: int | None = None,
        head_width: int | None = None,
        memory: str = "encoder",
        memory_width: int | None = None,
        bias: bool = True,
        output_bias: bool | None = None,
        scale: float | None = None,
        temperature: float = 1.0,
        dropout: float = 0.0,
        normaliser: Spec[Normaliser] | None = None,
        steps: tuple[Spec[ScoreStep], ...] = (),
        slots: Spec[Slots] | None = None,
    ) -> None:
        super().__init__(width, heads, key_heads, head_width, scale, temperature, dropout, normaliser, steps, slots)
        self.memory = memory
        self.query = nn.Linear(width, self.heads * self.head_width, bias=bias)
        self.key_value = nn.Linear(memory_width or width, 2 * self.key_heads * self.head_width, bias=bias)
        self.output = nn.Linear(
            self.heads * self.head_width, width, bias=bias if output_bias is None else output_bias
        )  # fmt: skip

    def units(self) -> Units:
        """Its heads."""
        keys = self.key_heads * self.head_width
        return self.head_units(query=(self.heads * self.head_width,), key_value=(keys, keys))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N D"]:
        """What each token takes from the memory."""
        context = context or Context()
        memory = context.read(self.memory)
        query = self.project(tokens)
        if tokens.lengths is not None or memory.lengths is not None:
            return self.output(self._packed(query, tokens, memory, context))
        key, value, lowered = self._memory(memory, context)
        mixed = self.output(self._mix(query, key, value, self._sight(lowered, tokens, memory), context))
        if context.cache is not None and context.cache.memories is not None:
            self._listen(query, tokens, key, lowered, context.cache)
        return mixed

    def project(self, tokens: Tokens) -> Float[Tensor, "B N E"]:
        """The queries of all heads."""
        return self.query(tokens.values)

    def keys_values(self, memory: Tokens) -> tuple[Float[Tensor, "B G M K"], Float[Tensor, "B G M K"]]:
        """The keys and the values of a memory."""
        key, value = self.key_value(memory.values).chunk(2, -1)
        return self.split(key, self.key_heads), self.split(value, self.key_heads)

    def _memory(self, memory: Tokens, context: Context) -> tuple[Tensor, Tensor, Lowered]:
        kept = None if context.cache is None else context.cache.states.get(self)
        if kept is None:
            kept = dict(zip(("key", "value"), self.keys_values(memory), strict=True))
            if context.cache is not None:
                context.cache.states[self] = kept
        real = kept.get("real")
        if real is None:
            return kept["key"], kept["value"], lower_memory(memory, context.seen.get(self.memory))
        return kept["key"], kept["value"], Lowered(allowed=real[:, :, None]).spread(self.heads)

    def _listen(self, query: Tensor, tokens: Tokens, key: Tensor, lowered: Lowered, cache: Cache) -> None:
        """Tell the cache what the tokens of the memory received of each key head's queries."""
        if self._scored():
            raise DoesNotFit(
                f"{type(self._scored()[0]).__name__} changes what a memory receives, and no policy for memories knows how",
                "policy",
            )
        weights = Attended(self.split(query, self.heads), key, lowered, self.scale, lambda: None).weights()
        weights = weights if tokens.mask is None else weights * tokens.mask[:, None, :, None]
        got = weights.unflatten(1, (self.key_heads, -1)).sum((2, 3))
        allowed = lowered.explicit(key.shape[2], key.device)
        real = torch.ones_like(got, dtype=torch.bool)
        if allowed is not None:
            real = real & allowed[:, :: max(1, allowed.shape[1] // self.key_heads), 0]
        cache.listen(self, got, real, cache.memories)

    def _sight(self, lowered: Lowered, tokens: Tokens, memory: Tokens) -> Sight:
        """What the tokens know of the memory."""
        return Sight(lowered, places=(tokens.places, memory.places) if self.placed else None)

    def _mix(self, query: Tensor, key: Tensor, value: Tensor, sight: Sight, context: Context) -> Tensor:
        mixed = self._attend(self.split(query, self.heads), key, value, sight, context)
        return mixed.transpose(1, 2).flatten(2)

    def _packed(self, query: Tensor, tokens: Tokens, memory: Tokens, context: Context) -> Tensor:
        """Queries, memory or both are packed: the s-th sequence attends to the s-th memory."""
        batch = memory if memory.lengths is None else unpack(memory)
        key, value = self.keys_values(batch)
        lowered = lower_memory(batch, context.seen.get(self.memory))
        if tokens.lengths is None:
            return self._mix(query, key, value, self._sight(lowered, tokens, batch), context)
        rows = unpack(tokens, query)
        mixed = self._mix(rows.values, key, value, self._sight(lowered, rows, batch), context)
        return mixed[rows.mask][None]
