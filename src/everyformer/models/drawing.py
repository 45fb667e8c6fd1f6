"""Encoder-decoders that say a distribution of each step of a series to come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.distributions import Distribution

from everyformer.context import Context
from everyformer.contracts import Backbone, Embedding
from everyformer.errors import BadInput, DoesNotFit, UnknownName
from everyformer.heads.distributions import DistributionHead
from everyformer.models.model import Root, enter, run
from everyformer.models.scaling import MeanScale, Scaling
from everyformer.models.starts import Start, Torch
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens

_FIELDS = ("marks", "coming", "observed", "facts", "kinds")


@dataclass
class _Read:
    """What is known of a batch of series, and the steps that have come since."""

    series: Float[Tensor, "B T C"]
    """In units of each series."""
    middle: Float[Tensor, "B 1 C"]
    scale: Float[Tensor, "B 1 C"]
    whole: Float[Tensor, "B F"]
    """What is told with every step."""
    stamps: Float[Tensor, "B T K"] | None
    first: int
    """The first step to come."""
    context: Context
    memory: Tokens | None = None

    @property
    def ahead(self) -> int:
        """How many steps have come."""
        return self.series.shape[1] - self.first

    @property
    def future(self) -> Float[Tensor, "B S C"]:
        """The steps that have come, in their own units."""
        return self.series[:, self.first :] * self.scale + self.middle

    def grow(self, values: Float[Tensor, "B S C"]) -> None:
        """More steps come."""
        self.series = torch.cat((self.series, (values - self.middle) / self.scale), 1)


def features(variates: int, lags: tuple[int, ...], marks: int, facts: int, kinds: tuple[tuple[int, int], ...]) -> int:
    """How many numbers tell of a step; see `DrawingForecaster`."""
    return variates * (len(lags) + 2) + marks + facts + sum(width for _, width in kinds)


@part("models")
class DrawingForecaster(Root):
    """Says a distribution of each step to come, and forecasts step by step, each from what came of those before it
    (Salinas et al., DeepAR, 2020, section 3; as an encoder-decoder in Hugging Face transformers).

    A step is told as its values `lags` steps before, in units of the series, what is known of its time (`marks`), and what
    is known of the whole series: a vector for each of `kinds` (how many there are, width), `facts`, and the middle and
    scale of its values. Of the last `lookback` steps the encoder reads those that are told all their lags.
    """

    def __init__(
        self,
        *,
        width: int,
        variates: int,
        source: Spec[Embedding],
        encoder: Spec[Backbone],
        target: Spec[Embedding],
        decoder: Spec[Backbone],
        head: Spec[DistributionHead] | None,
        lookback: int,
        horizon: int,
        lags: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7),
        marks: int = 0,
        facts: int = 0,
        kinds: tuple[tuple[int, int], ...] = (),
        scaling: Spec[Scaling] = spec(MeanScale),  # noqa: B008
        start: Spec[Start] = spec(Torch),  # noqa: B008
    ) -> None:
        super().__init__()
        if horizon < 1 or not lags or min(lags) < 1 or lookback <= max(lags):
            raise ValueError(
                "the horizon and all lags are at least 1 step, and the lookback is longer than all lags; given "
                f"{horizon}, {lags} and {lookback}"
            )
        self.variates, self.lookback, self.horizon, self.lags = variates, lookback, horizon, tuple(lags)
        self.reads = lookback - max(lags)
        self.marks, self.facts = marks, facts
        self.kinds = nn.ModuleList(nn.Embedding(count, size) for count, size in kinds)
        self.scaling: Scaling = self.make("scaling", scaling)
        self.source: Embedding = self.make("source", source, width)
        self.encoder: Backbone = self.make("encoder", encoder, width)
        self.target: Embedding = self.make("target", target, width)
        self.decoder: Backbone = self.make("decoder", decoder, width)
        self.head: DistributionHead | None = self.make("head", head, width)
        self.begin(start)

    def forward(
        self,
        inputs: Float[Tensor, "B T C"],
        *,
        marks: Float[Tensor, "B T K"] | None = None,
        coming: Float[Tensor, "B S K"] | None = None,
        observed: Bool[Tensor, "B T C"] | None = None,
        facts: Float[Tensor, "B F"] | None = None,
        kinds: Int[Tensor, "B J"] | None = None,
        context: Context | None = None,
    ) -> Float[Tensor, "B S C"]:
        """The forecast: of each step the mean, given the means of the steps before."""
        given = {"marks": marks, "coming": coming, "observed": observed, "facts": facts, "kinds": kinds}
        return self._forecast(self._read(inputs, given, context), lambda said: said.mean)

    @torch.no_grad()
    def draw(
        self, inputs: Float[Tensor, "B T C"], *, samples: int = 100, context: Context | None = None, **given: Tensor
    ) -> Float[Tensor, "B samples S C"]:
        """Futures drawn step by step; `given` are the other fields of `forward`."""
        several = {name: each.repeat_interleave(samples, 0) for name, each in given.items()}
        read = self._read(inputs.repeat_interleave(samples, 0), several, context)
        return self._forecast(read, lambda said: said.sample()).unflatten(0, (-1, samples))

    def likely(
        self,
        inputs: Float[Tensor, "B T C"],
        future: Float[Tensor, "B S C"],
        *,
        context: Context | None = None,
        **given: Tensor,
    ) -> Distribution:
        """The distribution of each step to come, given the `future` before it; `given` are the other fields of `forward`."""
        return self._said(self._knowing(inputs, future, given, context), self.horizon)

    def steps(
        self,
        inputs: Float[Tensor, "B T C"],
        future: Float[Tensor, "B S C"],
        *,
        context: Context | None = None,
        **given: Tensor,
    ) -> Tokens:
        """The steps to come before the head, given the `future` before each; `given` are the other fields of `forward`."""
        return self._states(self._knowing(inputs, future, given, context), self.horizon)

    def _knowing(
        self, inputs: Tensor, future: Tensor, given: Mapping[str, Tensor | None], context: Context | None
    ) -> _Read:
        """What is known where all steps to come have come."""
        if future.shape[1:] != (self.horizon, self.variates):
            raise BadInput(
                f"the model forecasts {self.horizon} steps of {self.variates} variates; given a future of shape "
                f"{tuple(future.shape)}; build with the horizon and the variates of the data"
            )
        read = self._read(inputs, given, context)
        read.grow(future)
        return read

    def _read(self, inputs: Tensor, given: Mapping[str, Tensor | None], context: Context | None) -> _Read:
        """What is known, and what the encoder says of it."""
        if unknown := given.keys() - set(_FIELDS):
            raise UnknownName("field of a batch for DrawingForecaster", min(unknown), ("inputs", *_FIELDS))
        if inputs.dim() != 3 or inputs.shape[1] < self.lookback or inputs.shape[2] != self.variates:
            raise BadInput(
                f"expected series (B, {self.lookback} steps or more, {self.variates}): {self.reads} to read, and those that "
                f"lie before them by the longest lag; given a tensor of shape {tuple(inputs.shape)}"
            )
        stamps = self._stamps(inputs, given.get("marks"), given.get("coming"))
        facts, kinds = given.get("facts"), given.get("kinds")
        for name, found, count in (("facts", facts, self.facts), ("kinds", kinds, len(self.kinds))):
            if (0 if found is None else found.shape[-1]) != count:
                raise BadInput(
                    f"the model knows {count} {name} of a series; given {'none' if found is None else tuple(found.shape)}; "
                    f"give `{name}` of shape (B, {count}), or build with as many as there are"
                )
        observed = given.get("observed")
        seen = None if observed is None else observed[:, -self.reads :]
        middle, scale = self.scaling(inputs[:, -self.reads :], seen)
        whole = [] if kinds is None else [table(kinds[:, i]) for i, table in enumerate(self.kinds)]
        whole += [] if facts is None else [facts]
        whole += [middle[:, 0].abs().log1p(), scale[:, 0].log()]
        read = _Read(
            (inputs - middle) / scale,
            middle,
            scale,
            torch.cat(whole, -1),
            stamps,
            inputs.shape[1],
            context or Context(),
        )
        steps = enter(self.source, self._told(read, read.first - self.reads, self.reads), read.context, {})
        read.memory = run(self.encoder, steps, read.context)
        return read

    def _stamps(self, inputs: Tensor, marks: Tensor | None, coming: Tensor | None) -> Tensor | None:
        """The time stamps of all steps, those to come too."""
        if not self.marks:
            return None
        shapes = [None if each is None else tuple(each.shape[1:]) for each in (marks, coming)]
        if marks is None or coming is None or shapes != [(inputs.shape[1], self.marks), (self.horizon, self.marks)]:
            raise BadInput(
                f"expected {self.marks} time stamps a step: `marks` of {inputs.shape[1]} steps, and `coming` of the "
                f"{self.horizon} to come; given {shapes[0]} and {shapes[1]}"
            )
        return torch.cat((marks, coming), 1)

    def _told(self, read: _Read, first: int, count: int) -> Float[Tensor, "B M F"]:
        """What is told of `count` steps."""
        lagged = torch.stack([read.series[:, first - lag : first - lag + count] for lag in self.lags], -1).flatten(2)
        told = [lagged, read.whole[:, None].expand(-1, count, -1)]
        if read.stamps is not None:
            told.append(read.stamps[:, first : first + count])
        return torch.cat(told, -1)

    def _states(self, read: _Read, count: int) -> Tokens:
        """The first `count` steps to come, as the decoder leaves them."""
        assert read.memory is not None
        within = read.context.replace(memory={**read.context.memory, "encoder": read.memory}, lowered={})
        return run(self.decoder, enter(self.target, self._told(read, read.first, count), within, {}), within)

    def _said(self, read: _Read, count: int) -> Distribution:
        """The distributions of the first `count` steps to come."""
        if self.head is None:
            raise DoesNotFit(
                "without a head nothing is said of a step; give it heads.StudentTHead, or ask `steps`", "head"
            )
        return self.head.distribution(self.head(self._states(read, count), read.context), read.middle, read.scale)

    def _forecast(self, read: _Read, come: Callable[[Distribution], Tensor]) -> Float[Tensor, "B S C"]:
        """Step by step, what comes of what is said of each given the steps before."""
        while read.ahead < self.horizon:
            read.grow(come(self._said(read, read.ahead + 1))[:, -1:])
        return read.future

    def example(self, batch: int = 1) -> dict[str, Tensor]:
        """A batch that the model takes."""
        found = {"inputs": torch.zeros(batch, self.lookback, self.variates)}
        if self.marks:
            found |= {
                "marks": torch.zeros(batch, self.lookback, self.marks), "coming": torch.zeros(batch, self.horizon, self.marks),
            }  # fmt: skip
        if self.facts:
            found["facts"] = torch.zeros(batch, self.facts)
        if len(self.kinds):
            found["kinds"] = torch.zeros(batch, len(self.kinds), dtype=torch.long)
        return found
