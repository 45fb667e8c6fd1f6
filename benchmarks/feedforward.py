"""What feedforwards, norms and depth claim to save, in time and not in FLOPs alone, each beside the plain model in one run.

    python -m benchmarks.feedforward [--repeats 5]

Width 512, 8 x 128 tokens, processor time of one thread, forward passes in turns. A line says how many
times as fast as the plain model the design is.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

import everyformer as ef
from benchmarks.paired import in_turns, milliseconds, ratio, write
from everyformer.backbones import fold
from everyformer.context import Context
from everyformer.tokens import Tokens

WIDTH, HEADS, BATCH, COUNT, HIDDEN = 512, 8, 8, 128, 2048


def tokens() -> Tokens:
    """The same random tokens for all."""
    return Tokens(torch.randn(BATCH, COUNT, WIDTH, generator=torch.Generator().manual_seed(0)))


def of(spec: Any, given: Tokens | None = None) -> Callable[[], Any]:
    """One forward pass of a part."""
    torch.manual_seed(0)
    return passing(spec.build(WIDTH), given)


def passing(part: nn.Module, given: Tokens | None = None) -> Callable[[], Any]:
    """One forward pass of a built part."""
    whole = tokens() if given is None else given
    part.eval()
    return lambda: part(whole, Context())


def block(**options: Any) -> Any:
    """A pre-norm block."""
    given = {
        "mixer": ef.spec(ef.mixers.Attention, heads=HEADS),
        "feedforward": ef.spec(ef.feedforward.MLP, hidden=HIDDEN),
    }
    return ef.spec(ef.backbones.Block, **{**given, **options})


def adaptive(mean: float) -> Callable[[], Any]:
    """Learners with the hidden units of the plain MLP, of which a token takes `mean` of four, those of two numbers around it."""
    spec = ef.spec(
        ef.feedforward.Projected, projection=ef.spec(ef.feedforward.Adaptive, learners=4, hidden=HIDDEN // 4)
    )
    torch.manual_seed(0)
    part = spec.build(WIDTH)
    low, high = int(mean), int(mean + 0.999)
    gate = part.projection.gate[-1]
    nn.init.zeros_(gate.weight)
    gate.bias.data.copy_(torch.where((torch.arange(5) == low) | (torch.arange(5) == high), 0.0, -9.0))
    gate.weight.data[[low, high]] = torch.randn(2, gate.in_features, generator=torch.Generator().manual_seed(1))
    return passing(part)


def memory() -> Callable[[], Any]:
    """MemoryFormer's feedforward: tables for both maps."""
    layer = ef.feedforward.MemoryLayer
    return of(
        ef.spec(
            ef.feedforward.Projected, projection=ef.spec(layer, bits=8), back=ef.spec(layer, bits=10),
            hidden=WIDTH // 8 * 10, norm=ef.spec(ef.norms.LayerNorm),
        )
    )  # fmt: skip


def partial(values: int) -> Callable[[], Any]:
    """PartialFormer's layer, which is attention and feedforward in one."""
    steps = (ef.spec(ef.scores.HeadMLP, to=values),)
    mixer = ef.spec(ef.mixers.PartialAttention, heads=HEADS, value_heads=values, ratio=4, steps=steps)
    return of(block(mixer=mixer, feedforward=None))


def experts(chosen: int) -> Callable[[], Any]:
    """Eight experts of half the hidden units each."""
    expert = ef.spec(ef.feedforward.MLP, hidden=HIDDEN // 2)
    return of(ef.spec(ef.feedforward.Experts, count=8, expert=expert, router=ef.spec(ef.feedforward.TopK, k=chosen)))


def unified() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """Four blocks with unified norms, and the same with the norms folded into the maps after them."""
    layer = block(residual=ef.spec(ef.norms.PreNorm, norm=ef.spec(ef.norms.UnifiedNorm)))
    design = ef.Design(
        ef.spec(
            ef.models.Model, width=WIDTH,
            embedding=ef.spec(ef.embeddings.Patches, patch=4, image=32, channels=3),
            backbone=ef.spec(ef.backbones.Encoder, blocks=(layer,) * 4),
            head=ef.spec(ef.heads.ClassHead, classes=10, pool=ef.spec(ef.heads.Mean)),
        )
    )  # fmt: skip
    model = design.build(seed=0).train()
    for _ in range(3):
        model(torch.randn(4, 3, 32, 32))
    folded = fold(copy.deepcopy(model).eval())
    given = torch.randn(16, 3, 32, 32)
    return (lambda: model.eval()(given)), (lambda: folded(given))


def skipping(kept: int) -> Callable[[], Any]:
    """Twelve layers under gates of I3D, of which every sample keeps so many."""
    torch.manual_seed(0)
    part = ef.spec(ef.backbones.Skipping, blocks=(block(),) * 12).build(WIDTH)
    last = part.router.down
    nn.init.zeros_(last.weight)
    last.bias.data.copy_(torch.tensor([[9.0, 0.0]] * kept + [[0.0, 9.0]] * (12 - kept)).flatten())
    return passing(part)


def halting(bias: float) -> Callable[[], Any]:
    """A layer up to twelve times over; each token halts by itself, all of them after one turn where the bias is high."""
    spec = ef.spec(ef.backbones.AdaptiveLoop, blocks=(block(),), times=12, bias=bias)
    return of(spec)


def leaving() -> Callable[[], Any]:
    """Twelve layers that every sample leaves behind the fourth or the eighth, as a gate chooses."""
    torch.manual_seed(0)
    part = ef.spec(ef.backbones.ChosenDepth, blocks=(block(),) * 12, least=4).build(WIDTH)
    part.gate[[0, 4]] = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(1))
    part.bias.fill_(-torch.inf)[[0, 4]] = 0.0
    return passing(part)


def shared() -> tuple[Callable[[], Any], Callable[[], Any]]:
    """The Transformer base and Subformer base, translating 4 sentences of 32 words."""
    found = []
    for name in ("transformer", "subformer"):
        model = ef.create(name, "base", vocabulary=8000, seed=0).eval()
        ids = torch.randint(1, 8000, (4, 32), generator=torch.Generator().manual_seed(0))
        found.append(lambda model=model, ids=ids: model(ids, ids))
    return found[0], found[1]


def pairs() -> dict[str, tuple[Callable[[], Any], Callable[[], Any]]]:
    """What is compared: the plain model, and the design."""
    mlp = ef.spec(ef.feedforward.MLP, hidden=HIDDEN)
    stack = ef.spec(ef.backbones.Encoder, blocks=(block(),) * 12)
    looped = ef.spec(ef.backbones.Loop, blocks=(block(),), times=12)
    return {
        "acm, all four learners": (of(mlp), adaptive(4)),
        "acm, half of them on average": (of(mlp), adaptive(2)),
        "acm, one or none": (of(mlp), adaptive(0.5)),
        "memoryformer's tables": (of(mlp), memory()),
        "partialformer's layer, 8 heads": (of(block()), partial(8)),
        "partialformer's layer, 16 heads": (of(block()), partial(16)),
        "two of eight experts": (of(mlp.but(hidden=4 * HIDDEN)), experts(2)),
        "unified norm, folded": unified(),
        "subformer": shared(),
        "i3d, all 12 layers": (of(stack), skipping(12)),
        "i3d, 6 of 12 layers": (of(stack), skipping(6)),
        "early exit, after 4 or 8 of 12 layers": (of(stack), leaving()),
        "adaptive loop, all halt at once": (of(looped), halting(20.0)),
    }


def main() -> None:
    """Measure, print and write `benchmarks/feedforward.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for what, (plain, ours) in pairs().items():
        with torch.no_grad():
            seconds = in_turns({"plain": plain, "ours": ours}, options.repeats)
        line = {"what": what, "milliseconds": milliseconds(seconds), "times_as_fast": ratio(seconds, "plain", "ours")}
        lines.append(line)
        print(f"{what:<38}{line['times_as_fast']:>8.2f} times as fast")
    write(__file__, lines=lines, repeats=options.repeats)


if __name__ == "__main__":
    main()
