"""Evidence for what is read out of a model half-way: by its own decoder, by geometry, by the bytes under its tokens."""

from __future__ import annotations

import math
from functools import cache
from statistics import mean
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import everyformer as ef
from everyformer.data.tasks.language import LanguageModelling
from everyformer.evidence.decoders import SHORT, shakespeare
from everyformer.evidence.descent import descend, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.runs import trained
from everyformer.generation import next_byte
from everyformer.interpret import decoder_lens, geometry, record
from everyformer.recipe import load_recipe

_COUNT = 8


def _hops(generator: torch.Generator, count: int = 64) -> tuple[Tensor, Tensor]:
    """Eight pointers after the number of times (0, 1, 2) that they are followed, and where that leads."""
    pointers = torch.randint(0, _COUNT, (count, _COUNT), generator=generator)
    hops = torch.randint(0, 3, (count, 1), generator=generator)
    once = pointers.gather(1, pointers)
    ends = torch.where(hops == 0, pointers, torch.where(hops == 1, once, pointers.gather(1, once)))
    return torch.cat((hops + _COUNT, pointers), 1), ends


@evidence(
    "decoderlens",
    kind="claim",
    claim="Subtasks are solved at low or middle layers of the encoder, where the decoder reads them already (abstract).",
)
def decoder_lens_by_depth() -> Finding:
    """An encoder of four layers and a decoder of one learn to follow pointers once, twice or not at all."""
    design = ef.design(
        "transformer", vocabulary=_COUNT + 4, width=64, hidden=128, depth=4, heads=4, dropout=0.0, pre_norm=True
    )
    for block in (3, 2, 1):
        design = design.remove(f"decoder.blocks.{block}")
    model: Any = design.build(seed=0)
    generator = torch.Generator().manual_seed(0)

    def loss(step: int) -> Tensor:
        inputs, ends = _hops(generator)
        said = model(inputs=inputs, target=F.pad(ends[:, :-1], (1, 0), value=_COUNT + 3))
        return F.cross_entropy(said.flatten(0, 1), ends.flatten())

    descend(model, loss, 1500, lr=2e-3, rate=warmed(100), weight_decay=0.01)
    inputs, ends = _hops(torch.Generator().manual_seed(1), 300)
    lens = decoder_lens(model, inputs, bos=_COUNT + 3, eos=None, pad=0, max_tokens=_COUNT)
    figures = {}
    for hops in range(3):
        asked = inputs[:, 0] == hops + _COUNT
        right = [(torch.tensor(said)[asked] == ends[asked]).float().mean().item() for said in lens.values()]
        figures[f"{hops} hops"] = right
    solved = [next((i for i, share in enumerate(each) if share > 0.9), _COUNT) for each in figures.values()]
    held = solved[0] < solved[2] < _COUNT and solved == sorted(solved)
    finding = "; ".join(f"{name}: {', '.join(f'{x:.2f}' for x in each)}" for name, each in figures.items())
    return Finding(verdict(held), f"right before the first layer and after each: {finding}", figures)


@cache
def _writer() -> nn.Module:
    with trained("shakespeare", "design.system=gpt", "design.size=nano", *SHORT) as run:
        return run.model.eval()


@evidence(
    "hidden-geometry",
    kind="claim",
    claim="Positions lie on a smooth curve of few dimensions, all but orthogonal to contexts (section 3).",
)
def positions_are_smooth() -> Finding:
    """The stream before the third of four layers, of 256 texts of 64 characters; and of a model that has learnt nothing."""
    ids = shakespeare().batch("valid", list(range(256)))["inputs"]
    fresh = ef.create("gpt", "nano", vocabulary=shakespeare().facts["vocabulary"], seed=1).eval()
    figures = {}
    for name, model in {"trained": _writer(), "untrained": fresh}.items():
        with torch.no_grad(), record(model, "backbone.blocks.1") as seen:
            model(ids)
        found = geometry(seen["backbone.blocks.1"])
        figures[name] = {
            "rank": found.rank(), "smoothness": found.smoothness(), "incoherence": found.incoherence(),
        }  # fmt: skip
    ours, theirs = figures["trained"], figures["untrained"]
    holds = ours["rank"] <= 10 and ours["smoothness"] > 0.9 > theirs["smoothness"] and ours["incoherence"] < 0.2
    finding = "; ".join(
        f"{name}: {each['rank']} directions hold 95 %, {each['smoothness']:.0%} of the energy in 10 frequencies, mean cosine "
        f"{each['incoherence']:.2f}"
        for name, each in figures.items()
    )
    return Finding(verdict(holds), finding, figures)


@cache
def _of_tokens(vocabulary: int) -> tuple[nn.Module, Any]:
    """A small decoder of subwords of Shakespeare, and its vocabulary."""
    same = ("design.size=nano", *SHORT, "data.tokens=bpe", f"data.vocabulary={vocabulary}")
    with trained("shakespeare", *same) as run:
        return run.model.eval(), run.task.vocabulary  # type: ignore[attr-defined]


@cache
def _cuts() -> list[tuple[str, int]]:
    """The beginnings of 150 lines of the validation part, each cut anywhere, and the byte that follows."""
    data = load_recipe("shakespeare").data
    text = "".join(LanguageModelling.open(**data).vocabulary.decode(shakespeare().parts["valid"].tolist()))
    lines = [line for line in text.splitlines() if len(line) > 12]
    generator = torch.Generator().manual_seed(0)
    found = []
    for row in torch.randperm(len(lines), generator=generator)[:150].tolist():
        cut = int(torch.randint(2, len(lines[row]), (1,), generator=generator))
        found.append((lines[row][:cut], ord(lines[row][cut])))
    return found


def _pieces(vocabulary: Any) -> list[bytes]:
    """The bytes of each token; those that are no ASCII stand in no text here."""
    texts = [vocabulary.decode([i]) for i in range(vocabulary.size)]
    return [text.encode() if text.isascii() else b"" for text in texts]


def _exactly(model: nn.Module, vocabulary: Any, text: str) -> Tensor:
    def encode(piece: bytes) -> list[int]:
        return vocabulary.encode(piece.decode()).tolist()

    start = encode(b"\n")[0]
    return next_byte(model, text.encode(), tokens=_pieces(vocabulary), encode=encode, start=start)[:256]


@torch.no_grad()
def _shares(model: nn.Module, vocabulary: Any, ids: list[int]) -> Tensor:
    """The chances of the token after these."""
    start = vocabulary.encode("\n").tolist()
    return model(torch.tensor([[*start, *ids]]))[0, -1].double().softmax(-1)


def _after(shares: Tensor, pieces: list[bytes], rest: bytes = b"") -> Tensor:
    """The chances of the byte after `rest`, from tokens that begin with `rest` and go on."""
    chances = torch.zeros(256, dtype=torch.float64)
    for share, piece in zip(shares, pieces, strict=True):
        if len(piece) > len(rest) and piece.startswith(rest):
            chances[piece[len(rest)]] += share
    return chances


def _naively(model: nn.Module, vocabulary: Any, text: str) -> Tensor:
    """The first byte of the token after the encoded text."""
    chances = _after(_shares(model, vocabulary, vocabulary.encode(text).tolist()), _pieces(vocabulary))
    return chances / chances.sum()


def _healed(model: nn.Module, vocabulary: Any, text: str) -> Tensor:
    """The last token is taken back, and one that begins with its bytes, or is it, comes instead."""
    *ids, last = vocabulary.encode(text).tolist()
    pieces, before = _pieces(vocabulary), _shares(model, vocabulary, ids)
    chances = _after(before, pieces, pieces[last])
    chances = chances + before[last] * _naively(model, vocabulary, text)
    return chances / chances.sum()


def _bits(chances: list[Tensor]) -> float:
    """Mean bits for the byte that follows; a byte that was given no chance costs 20."""
    after = [following for _, following in _cuts()]
    return mean(min(20.0, -math.log2(max(float(each[byte]), 1e-30))) for each, byte in zip(chances, after, strict=True))


@evidence(
    "exact-byte-probabilities",
    kind="claim",
    claim="After a prompt that ends inside a word the exact chances are better than those of the next token and than token "
    "healing (table 1).",
)
def exact_after_any_byte() -> Finding:
    """Bits for the next byte of lines of Shakespeare cut anywhere; a decoder of 512 subwords."""
    model, vocabulary = _of_tokens(512)
    ways = {"exact": _exactly, "next token": _naively, "healed": _healed}
    figures = {name: _bits([way(model, vocabulary, text) for text, _ in _cuts()]) for name, way in ways.items()}
    held = figures["exact"] < min(figures["next token"], figures["healed"])
    finding = ", ".join(f"{name} {bits:.2f}" for name, bits in figures.items())
    return Finding(verdict(held), f"bits for the next byte: {finding}", figures)


@evidence(
    "exact-byte-probabilities",
    kind="claim",
    claim="Models of different vocabularies, put together byte by byte, are better than each (table 2).",
)
def exact_together() -> Finding:
    """The mean of the chances of a decoder of 512 subwords and of one of 384, on the same lines."""
    each = {str(size): [_exactly(*_of_tokens(size), text) for text, _ in _cuts()] for size in (384, 512)}
    figures = {name: _bits(chances) for name, chances in each.items()}
    figures["together"] = _bits([(one + other) / 2 for one, other in zip(*each.values(), strict=True)])
    best = min(figures["384"], figures["512"])
    held = figures["together"] < best
    finding = ", ".join(f"{name} {bits:.3f}" for name, bits in figures.items())
    return Finding(verdict(held), f"bits for the next byte: {finding}", figures)
