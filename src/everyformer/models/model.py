"""Raw input, embedding, backbone, head, answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from everyformer.context import Context
from everyformer.contracts import Backbone, Embedding, Head, MapHead, Residual
from everyformer.embeddings.tables import Rows, Table
from everyformer.errors import BadInput, DoesNotFit, UnknownName
from everyformer.models.mixed import by_size
from everyformer.models.starts import Start, Torch
from everyformer.registry import Part, part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


class Root(Part):
    """What whole models share: how weights start and are tied, and one pass with a cache."""

    system: str = ""
    tokenizer: Any = None
    """What makes ids of text, where the model was loaded with one."""

    def __call__(self, *inputs: Any, sizes: Tensor | None = None, **fields: Any) -> Any:
        """The answer; to pictures of several `sizes` (B, 2), padded on the right and at the bottom, that to each alone."""
        if sizes is None:
            return super().__call__(*inputs, **fields)
        if fields.pop("context", None) is not None:
            raise BadInput("a context belongs to pictures of one size; give those of each size by themselves")
        return by_size(super().__call__, sizes, *inputs, **fields)

    def begin(self, start: Spec[Start]) -> None:
        """Start the weights, then tie what is tied; the last act of a constructor."""
        object.__setattr__(self, "_start", start.build())
        self.start(self)
        self.tie()

    def start(self, module: nn.Module) -> None:
        """Start the weights of a part of this model."""
        depth = sum(isinstance(m, Residual) for m in self.modules())
        self._start.apply_to(module, max(depth, 1))  # type: ignore[operator]

    def tie(self) -> None:
        """Make tied heads use the table of the embedding again."""

    def states(self, target: Tensor, context: Context, **fields: Any) -> Tokens:
        """The tokens that the head makes the next ones of."""
        raise NotImplementedError

    def decode(self, target: Tensor, context: Context, *, last: bool = False, **fields: Any) -> Tensor:
        """Logits (B, N, V) of the next token after each of `target`, which may be packed where `fields` has its `lengths`.

        `last`: after the last one of each sequence alone, (B, 1, V).
        """
        return self.speak(self.states(target, context, **fields), context, last=last)

    def speak(self, states: Tokens, context: Context, *, last: bool = False) -> Tensor:
        """The logits (B, N, V) of `states`, or of the last of each sequence, (B, 1, V)."""
        return self.head(final(states) if last else states, context)  # type: ignore[operator]

    def share(self, head: nn.Module, embedding: nn.Module) -> None:
        """Tie one head to one embedding."""
        if not getattr(head, "tied", False):
            return
        table = getattr(embedding, "table", None)
        if not isinstance(table, (nn.Embedding, Table)):
            raise DoesNotFit(
                f"a tied head needs an embedding with a table; {type(embedding).__name__} has none", "head"
            )
        project: Any = head.project
        shape = (table.vocabulary, table.width) if isinstance(table, Table) else tuple(table.weight.shape)
        if shape != (project.out_features, project.in_features):
            raise DoesNotFit(
                f"a tied head of {(project.out_features, project.in_features)} and a table of {shape}; "
                "give both the same vocabulary and width",
                "head",
            )
        if isinstance(table, Table):
            head.project = Rows(table, project.bias)
            return
        project.weight = table.weight


def enter(embedding: Embedding, inputs: Tensor, context: Context, fields: Mapping[str, Any]) -> Tokens:
    """Raw input as tokens, in the format of the weights; a field that the embedding does not take is refused by name."""
    for name in fields:
        if name not in embedding.fields:
            raise UnknownName(f"field of a batch for {type(embedding).__name__}", name, ("inputs", *embedding.fields))
    weight = next(embedding.parameters(), None)
    if weight is not None and inputs.is_floating_point():
        inputs = inputs.to(weight.dtype)
    return embedding(inputs, context, **fields)


def run(backbone: nn.Module, tokens: Tokens, context: Context) -> Tokens:
    """One pass through a backbone; the cache, if any, has then seen the tokens."""
    context.lowered.clear()
    if context.levels is not None:
        context.levels.clear()
    cache = context.cache
    if cache is not None and cache.gathers:
        context = context.replace(gathered=[])
    after = backbone(tokens, context)
    if cache is not None:
        cache.advance(tokens, context.gathered if cache.gathers else None)
    return after


def final(tokens: Tokens) -> Tokens:
    """The last token of each sequence alone, for a head that looks at each by itself."""
    return Tokens(tokens.values[:, -1:])


@part("models")
class Model(Root):
    """embedding, backbone, head; `reversible` normalises a raw series and undoes it on the answer."""

    def __init__(
        self,
        *,
        width: int,
        embedding: Spec[Embedding],
        backbone: Spec[Backbone],
        head: Spec[Head] | None = None,
        reversible: Spec[Any] | None = None,
        start: Spec[Start] = spec(Torch),  # noqa: B008
    ) -> None:
        super().__init__()
        self.embedding = self.make("embedding", embedding, width)
        self.backbone = self.make("backbone", backbone, width)
        gives = self.backbone.gives or width
        several = head is not None and isinstance(head.part, type) and issubclass(head.part, MapHead)
        self.head = self.make("head", head, (self.backbone.widths or (gives,)) if several else gives)
        self.reversible = self.make("reversible", reversible)
        self.begin(start)

    def tie(self) -> None:
        """Make a tied head use the table of the embedding."""
        if self.head is not None:
            self.share(self.head, self.embedding)

    def forward(self, inputs: Tensor, *, context: Context | None = None, **fields: Any) -> Any:
        """The answer to raw `inputs`; `fields` is what else the embedding takes (mask, lengths, segments, ...)."""
        context = context or Context()
        if isinstance(self.head, MapHead) and context.levels is None:
            context = context.replace(levels={})
        kept = None
        if self.reversible is not None:
            inputs, kept = self.reversible(inputs)
        tokens = run(self.backbone, enter(self.embedding, inputs, context, fields), context)
        answer = tokens if self.head is None else self.head(tokens, context)
        return answer if self.reversible is None else self.reversible.restore(answer, kept)

    def features(self, inputs: Tensor, *, context: Context | None = None, **fields: Any) -> Tokens:
        """The tokens before the head."""
        context = context or Context()
        if self.reversible is not None:
            inputs, _ = self.reversible(inputs)
        return run(self.backbone, enter(self.embedding, inputs, context, fields), context)

    def stages(self, inputs: Tensor, *, context: Context | None = None, **fields: Any) -> dict[str, Tokens]:
        """The tokens after each level of the backbone by its path: stages of a pyramid, blocks of an encoder."""
        levels: dict[nn.Module, Tokens] = {}
        self.features(inputs, context=(context or Context()).replace(levels=levels), **fields)
        paths = {module: path for path, module in self.named_modules()}
        return {paths[module]: tokens for module, tokens in levels.items()}

    def prepare(self, context: Context | None = None) -> Context:
        """The context that generation begins with."""
        return context or Context()

    def states(self, target: Tensor, context: Context, **fields: Any) -> Tokens:
        """The tokens that the head makes the next ones of."""
        return self.features(target, context=context, **fields)

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """A batch that the model takes."""
        return self.embedding.example(batch)
