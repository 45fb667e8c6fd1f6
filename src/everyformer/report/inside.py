"""What a model does with one sample, gathered for a page: attention, lens, attributions, kept tokens, parts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from everyformer.backbones import Encoder
from everyformer.contracts import Backbone
from everyformer.costs import flops, on_meta, parameters
from everyformer.designs import design_of, parts_at, tree_lines
from everyformer.errors import BadInput, DoesNotFit, EveryformerError
from everyformer.heads import BoxQueries
from everyformer.interpret import (
    Gradient,
    InputXGradient,
    IntegratedGradients,
    Occlusion,
    atman,
    attention,
    attribute,
    attribute_generation,
    logit_lens,
    record,
    rollout,
)
from everyformer.interpret.attribution import first_embedding, token_norms, token_sums
from everyformer.interpret.taps import Point
from everyformer.mixers.attend import Tap
from everyformer.models import Seq2Seq
from everyformer.report.packing import bits_to_drop, coarser, deflated, levels, pooled, shrunk, signed, thumbnail
from everyformer.report.queries import queried, sure
from everyformer.tokens import Tokens

SIDE = 512
"""Rows and columns of a map at most; of more tokens several stand in one cell."""
ROOM = 19_000_000
"""Characters that all maps may take where no picture is shown."""
PIXEL = 5
"""Characters that a number of a picture takes, with the attributions over it and what queries say of it."""
NEURONS = 1_000_000
"""Queries and keys, in numbers, that a page holds; those of the first tokens are shown."""
COLUMNS = 256
"""Tokens in the table of the lens; the last ones are shown."""
LONG = 1.0
"""Seconds of a pass that is timed once only."""
COUNTED = 128
"""Tokens for which methods of many passes are tried."""


@dataclass
class Sample:
    """One sample for a model, and the names by which a person knows what is in it."""

    model: nn.Module
    batch: Mapping[str, Tensor]
    title: str = ""
    words: Sequence[str] | None = None
    """The tokens of the source."""
    target: Sequence[str] | None = None
    """The tokens of the target that goes in."""
    generated: Tensor | None = None
    """The ids that an encoder-decoder said after the first of its target."""
    name: Callable[[int], str] = str
    """The name of an answer: a class, or a token of the vocabulary."""
    layers: Sequence[int] | None = None
    """The layers whose attention is kept, counted from 0; None for all."""

    def __post_init__(self) -> None:
        if len(self.batch["inputs"]) != 1:
            raise BadInput(f"a page shows one sample; given {len(self.batch['inputs'])}")
        self.model.eval()
        embedding = first_embedding(self.model)
        self.stages: dict[str, Any] = {}
        with ExitStack() as hooks, torch.no_grad(), record(self.model, embedding) as seen:
            for path, module in self.model.named_modules():
                if _is_block(module):
                    hooks.callback(Point(path, module, False).watch(partial(self._note, path)).remove)
            self.answer = self.model(**self.batch)
        boxes = isinstance(getattr(self.model, "head", None), BoxQueries)
        self.sure = sure(self.answer[0, :, :-4].softmax(-1)) if boxes else None
        """How sure each query is of a thing, where they say boxes."""
        self.first = seen.tokens(embedding, 0)

    def _note(self, path: str, tokens: Any) -> None:
        """How many tokens there are after a block, and where each source token is, where a reduction noted that."""
        if isinstance(tokens, Tokens) and tokens.origin is not None:
            into = tokens.origin[0]
            if into.dim() == 2:  # shares of several: the largest, where there is any
                into = into.argmax(-1).masked_fill(into.sum(-1) <= 0, -1)
            self.stages[path] = {"count": tokens.count, "origin": into.tolist()}

    @property
    def kind(self) -> str:
        """'text', 'image' or 'series', by what goes in; a spectrogram is an image where its tokens fill a grid."""
        inputs = self.batch["inputs"]
        if not inputs.is_floating_point():
            return "text"
        return "image" if inputs.dim() == 4 or self.first.grid is not None else "series"

    def row(self, said: Tensor) -> Tensor:
        """What is said as one row of logits a sample: those of the last token; of a map their mean over its cells; where
        queries say boxes, those of the one that is surest of a thing, the last of them for none.
        """
        if self.sure is not None:
            return said[:, int(self.sure.argmax()), :-4]
        if said.dim() == 4:
            return said.mean((2, 3))
        return said[:, -1] if said.dim() == 3 else said

    @property
    def best(self) -> int:
        """The class or token that is said."""
        row = self.row(self.answer)[0]
        return int((row if self.sure is None else row[:-1]).argmax())


def _is_block(module: nn.Module) -> bool:
    return (isinstance(module, Backbone) and not isinstance(module, Encoder)) or getattr(
        module, "room", ""
    ) == "reduction"


def gather(sample: Sample) -> dict[str, Any]:
    """Everything a page shows. A view that the model has not got is left out, and `notes` says why."""
    views: dict[str, Any] = {}
    notes: dict[str, str] = {}
    for name, make in VIEWS.items():
        try:
            views[name] = make(sample)
        except EveryformerError as error:
            notes[name] = str(error)
    first, picture = sample.first, _shown(sample)
    return {
        "title": sample.title, "kind": sample.kind, "sides": _sides(sample), "grid": first.grid, "prefix": first.prefix,
        "picture": None if picture is None else signed(picture), "answer": _said(sample), "views": views, "notes": notes,
    }  # fmt: skip


def _sides(sample: Sample) -> dict[str, list[str]]:
    """Names of the tokens of source and target."""
    first = sample.first
    lead = ["class"] if first.prefix == 1 else [f"lead {i}" for i in range(first.prefix)]
    count = first.count - first.prefix
    if sample.words is not None and len(sample.words) == count:
        words = list(sample.words)
    elif first.grid is not None and len(first.grid) == 2:
        words = [f"{i // first.grid[1]},{i % first.grid[1]}" for i in range(count)]
    else:
        words = [str(i) for i in range(count)]
    return {"source": [*lead, *words], **({} if sample.target is None else {"target": list(sample.target)})}


def _shown(sample: Sample) -> Tensor | None:
    """What goes in, as numbers: a picture (C, Y, X), not larger than is drawn, a spectrogram or series (T, C)."""
    inputs = sample.batch["inputs"]
    if not inputs.is_floating_point():
        return None
    return shrunk(inputs[0], SIDE) if inputs.dim() == 4 else inputs[0]


def _said(sample: Sample) -> list[tuple[str, float]] | None:
    """The likeliest classes, next tokens or things, with their probabilities."""
    if not isinstance(sample.answer, Tensor) or sample.kind == "series":
        return None
    if sample.sure is not None:
        kinds = sample.answer[0, :, :-5].argmax(-1)
        surest = sample.sure.argsort(descending=True)[:5].tolist()
        return [(sample.name(int(kinds[i])), round(float(sample.sure[i]), 5)) for i in surest]
    row = sample.row(sample.answer)[0]
    return _best(sample, row, 5) if len(row) > 1 else None


def _best(sample: Sample, logits: Tensor, count: int) -> list[tuple[str, float]]:
    share, which = logits.float().softmax(-1).topk(min(count, logits.shape[-1]))
    return [(sample.name(i), round(p, 5)) for i, p in zip(which.tolist(), share.tolist())]


def attention_view(sample: Sample) -> dict[str, Any]:
    """The weights of every attention, in whole steps; `side` tokens stand in a cell where there are many."""

    def small(weights: Tensor) -> Any:
        side = math.ceil(max(weights.shape[-2:]) / SIDE)
        return levels(pooled(weights, side)), side, list(weights.shape)

    seen = attention(sample.model, "weights", layers=sample.layers, keep=small, **sample.batch)
    found = [(path, *each) for path in seen for each in seen.calls(path)]
    picture = _shown(sample)
    room = ROOM if picture is None else ROOM - PIXEL * picture.numel()
    bits = bits_to_drop([values for _, values, _, _ in found], room)
    return {"step": 2.0 ** (bits - 14), "maps": [_map(path, v, bits, *rest) for path, v, *rest in found]}


def _map(path: str, values: Any, bits: int, side: int, full: list[int]) -> dict[str, Any]:
    from_decoder = path.startswith("decoder.")
    return {
        "path": path.removesuffix(".weights"), "shape": list(values.shape), "full": full, "side": side,
        "rows": "target" if from_decoder else "source",
        "columns": "target" if from_decoder and ".cross." not in path else "source",
        "small": thumbnail(values), "data": deflated(coarser(values, bits)),
    }  # fmt: skip


def neuron_view(sample: Sample) -> dict[str, Any]:
    """Queries and keys of every attention, for the first tokens where there is no room for all."""
    seen = attention(sample.model, "queries", "keys", layers=sample.layers, **sample.batch)
    layers = [path.removesuffix(".queries") for path in seen if path.endswith(".queries")]
    total = sum(x[0].numel() for x in seen.values())
    share = min(1.0, NEURONS / max(total, 1))
    found = {}
    for path in layers:
        query, key = (seen[f"{path}.{name}"][0] for name in ("queries", "keys"))
        mixer = sample.model.get_submodule(path)
        found[path] = {
            "query": signed(query[:, : max(1, int(query.shape[1] * share))]),
            "key": signed(key[:, : max(1, int(key.shape[1] * share))]),
            "scale": float(getattr(mixer, "scale", query.shape[-1] ** -0.5)),
        }
    return found


def lens_view(sample: Sample) -> dict[str, Any]:
    """What the head says of the stream before the first block and after each."""
    said = logit_lens(sample.model, **sample.batch)
    one = next(iter(said.values()))
    if sample.kind == "series":
        return {"kind": "series", "layers": {path: signed(each[0]) for path, each in said.items()}}
    if one.dim() != 3:
        return {
            "kind": "classes",
            "layers": {path: _best(sample, sample.row(each)[0], 5) for path, each in said.items()},
        }
    start = max(0, one.shape[1] - COLUMNS)
    layers = {path: [_best(sample, row, 3) for row in each[0, start:]] for path, each in said.items()}
    return {"kind": "tokens", "start": start, "layers": layers}


def tokens_view(sample: Sample) -> dict[str, Any]:
    """Where each source token is after each block, where tokens are dropped or merged on the way."""
    if not sample.stages:
        raise DoesNotFit("none are dropped or merged on the way")
    return sample.stages


def attribution_view(sample: Sample) -> dict[str, Any]:
    """How much each token, pixel or number that goes in counts for what the model says."""
    if sample.kind == "series":
        return _for_series(sample)
    if isinstance(sample.model, Seq2Seq):
        return _for_pairs(sample)
    best = sample.best

    def score(said: Tensor) -> Tensor:
        row = sample.row(said)
        return (row.log_softmax(-1) if row.shape[-1] > 1 else row)[:, best]

    methods: dict[str, Any] = {"gradient": Gradient(), "input x gradient": InputXGradient()}
    few = sample.first.count <= COUNTED
    if few:
        methods |= {"integrated gradients": IntegratedGradients(), "occlusion": Occlusion(_patch(sample))}
    found, left_out = {}, {}
    for name, method in methods.items():
        try:
            (values,) = attribute(sample.model, sample.batch, score, method)
        except BadInput as error:
            left_out[name] = str(error)
            continue
        if sample.kind == "text":
            found[name] = signed(token_norms(values) if name == "gradient" else token_sums(values))
        else:
            found[name] = signed(_over_channels(values, name))
    by_token: dict[str, Callable[[], Tensor]] = {}
    if sample.first.count <= SIDE:
        by_token["attention rollout"] = lambda: _rolled(sample)
    if few:
        by_token["AtMan"] = lambda: atman(sample.model, sample.batch, score)
    for name, make in by_token.items():
        try:
            found[name] = signed(make())
        except EveryformerError as error:
            left_out[name] = str(error)
    return {"kind": sample.kind, "for": sample.name(best), "methods": found, "left out": left_out}


def _over_channels(values: Tensor, name: str) -> Tensor:
    channels = shrunk(values[0], SIDE) if values.dim() == 4 else values
    return channels.abs().sum(0) if name == "gradient" else channels.sum(0)


def _patch(sample: Sample) -> int:
    grid = sample.first.grid
    return max(1, sample.batch["inputs"].shape[-2] // grid[0]) if grid else 4


def _rolled(sample: Sample) -> Tensor:
    passed = rollout(sample.model, **sample.batch)[0]
    if sample.answer.dim() == 3 and sample.sure is None:
        return passed[-1]
    return passed[0] if sample.first.prefix or sample.kind == "text" else passed.mean(0)


def _for_series(sample: Sample) -> dict[str, Any]:
    (values,) = attribute(sample.model, sample.batch, lambda said: said.flatten(1).mean(1), InputXGradient())
    return {
        "kind": "series", "for": "the mean of the forecast", "methods": {"input x gradient": signed(values[0])}, "left out": {},
    }  # fmt: skip


def _for_pairs(sample: Sample) -> dict[str, Any]:
    if sample.generated is None or not len(sample.generated):
        raise BadInput("attribution of an encoder-decoder goes with what it generated; the page was made without")
    bos = int(sample.batch["target"][0, 0])
    methods: dict[str, Any] = {"gradient": Gradient(), "input x gradient": InputXGradient()}
    if sample.first.count * len(sample.generated) <= COUNTED:
        methods["integrated gradients"] = IntegratedGradients(20, within=0.05)
    inputs = sample.batch["inputs"]
    found = {
        name: signed(attribute_generation(sample.model, inputs, sample.generated, bos=bos, method=method).values)
        for name, method in methods.items()
    }
    return {
        "kind": "pairs", "for": "each generated token", "methods": found, "left out": {},
        "columns": [sample.name(i) for i in sample.generated.tolist()],
    }  # fmt: skip


def parts_view(sample: Sample) -> list[dict[str, Any]]:
    """The design as a tree, each part with its parameters, FLOPs for this sample, and milliseconds."""
    model, design = sample.model, design_of(sample.model)
    paths = {id(module): path for path, module in model.named_modules()}
    spent = timed(model, sample.batch)
    try:
        counted = flops(on_meta(design), sample.batch)
    except (RuntimeError, NotImplementedError, EveryformerError):
        counted = {}
    rows = []
    for depth, label, path, spec, times in tree_lines(design):
        first = [module for _, _, module in parts_at(model, path)]
        places = [paths[id(m)] for m in first]
        many = [_next(place, path, i) for place in places for i in range(times)]
        rows.append(
            {
                "depth": depth, "label": label, "part": spec.part.__name__, "times": times,
                "options": ", ".join(f"{n}={v!r}" for n, v in spec.options.items() if isinstance(v, (int, float, str, bool))),
                "parameters": sum(map(parameters, first)) * times,
                "flops": sum(counted.get(place, 0) for place in many),
                "ms": sum(spent.get(place, 0.0) for place in many) * 1000,
            }
        )  # fmt: skip
    return rows


def _next(place: str, path: str, further: int) -> str:
    """The place of a part's equal neighbour further on in its list."""
    if further == 0:
        return place
    steps = place.split(".")
    at = len(path.split(".")) - 1
    return ".".join([*steps[:at], str(int(steps[at]) + further), *steps[at + 1 :]])


def timed(model: nn.Module, batch: Mapping[str, Tensor], passes: int = 3) -> dict[str, float]:
    """Seconds that each module takes, the least of some passes, of one where it is long; a module called several times has their sum."""
    best: dict[str, float] = {}
    for _ in range(passes):
        if best.get("", 0.0) > LONG:
            break
        spent: dict[str, float] = {}
        handles = []
        for path, module in model.named_modules():
            started: list[float] = []

            def begin(*_: Any, started: list[float] = started) -> None:
                started.append(time.perf_counter())

            def end(*_: Any, started: list[float] = started, path: str = path, spent: dict[str, float] = spent) -> None:
                spent[path] = spent.get(path, 0.0) + time.perf_counter() - started.pop()

            if not isinstance(module, Tap):
                handles += [module.register_forward_pre_hook(begin), module.register_forward_hook(end)]
        try:
            with torch.no_grad():
                model(**batch)
        finally:
            for handle in handles:
                handle.remove()
        best = {path: min(seconds, best.get(path, seconds)) for path, seconds in spent.items()}
    return best


VIEWS: dict[str, Callable[[Sample], Any]] = {
    "attention": attention_view,
    "neurons": neuron_view,
    "queries": lambda sample: queried(sample.model, sample.batch, sample.name),
    "lens": lens_view,
    "tokens": tokens_view,
    "attribution": attribution_view,
    "parts": parts_view,
}
"""The views of a page."""
