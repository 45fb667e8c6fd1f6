"""Evidence for what stands around the mixer, on digits and with nothing but a clock."""

from __future__ import annotations

from functools import partial

import torch

import everyformer as ef
from everyformer.backbones import fold
from everyformer.costs import processor_seconds
from everyformer.data import find_task
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.evidence.pictures import LONGER
from everyformer.evidence.runs import arrays, logistic_regression, scored, trained
from everyformer.models import unpadded
from everyformer.recipe import load_recipe

_SMALL = {"patch": 2, "width": 64, "depth": 2, "heads": 4}
_CRATE = {"system": "crate", **_SMALL, "patch": 4}
_TWICE = "data.image=16"
"""Digits at twice their size: CRATE normalises each patch before anything else, and of one of 2x2 pixels nothing is left of how
bright it was (logistic regression on such patches is right 0.89 times on the validation part, on patches of 4x4 0.96).
"""
_UNIFIED = {"system": "unified-normalization", **_SMALL, "ratio": 2.0, "warmup": 100}


def _logistic() -> float:
    return logistic_regression(*arrays(find_task("image-classification").open(**load_recipe("digits").data)))


@evidence("crate", kind="learns", claim="Test accuracy on digits is above logistic regression on pixels.")
def crate_learns() -> Finding:
    """120 epochs of the digits recipe, at twice the size."""
    ours, baseline = scored("digits", *LONGER, _TWICE, design=_CRATE)["metrics"]["accuracy"], _logistic()
    held = ours > baseline
    return Finding(
        verdict(held), f"{ours:.4f} against {baseline:.4f}", {"crate": ours, "logistic_regression": baseline}
    )


@evidence(
    "crate", kind="claim", claim="Along the layers the coding rate falls and the tokens become sparser (figures 3, 4)."
)
def crate_compresses() -> Finding:
    """Four layers trained on digits: the coding rate of the normed tokens before each layer, zeros after each."""
    with trained("digits", *LONGER, _TWICE, design={**_CRATE, "depth": 4}) as run:
        model, rates, zeros = run.model.eval(), [], []
        task = find_task("image-classification").open(**load_recipe("digits", (_TWICE,)).data)
        for block in model.backbone.blocks:
            block.mixer.subspace.register_forward_hook(
                lambda m, given, out: rates.append(_coding_rate(out.unflatten(-1, (4, -1))))
            )
            block.feedforward.register_forward_hook(
                lambda m, given, out: zeros.append(float((out == 0).float().mean()))
            )
        with torch.no_grad():
            model(task.batch("test", list(range(64)))["inputs"])
    falls = rates[-1] < rates[0]
    held = falls and zeros[-1] > zeros[0]
    finding = f"coding rate {', '.join(f'{r:.1f}' for r in rates)}; zeros {', '.join(f'{z:.0%}' for z in zeros)}"
    return Finding(verdict(held), finding, {"rates": rates, "zeros": zeros})


def _coding_rate(heads: torch.Tensor, eps: float = 0.1) -> float:
    """The mean over pictures of equation 8, with tokens of length one, as the authors measure it."""
    unit = torch.nn.functional.normalize(heads, dim=-1).transpose(1, 2)
    count, width = unit.shape[-2:]
    inside = torch.eye(count) + width / (count * eps) * unit @ unit.mT
    return float(0.5 * torch.logdet(inside).sum(1).mean())


@evidence(
    "unified-normalization", kind="learns", claim="Test accuracy on digits is above logistic regression on pixels."
)
def unified_learns() -> Finding:
    """120 epochs of the digits recipe."""
    ours, baseline = scored("digits", *LONGER, design=_UNIFIED)["metrics"]["accuracy"], _logistic()
    held = ours > baseline
    return Finding(
        verdict(held), f"{ours:.4f} against {baseline:.4f}", {"unified": ours, "logistic_regression": baseline}
    )


@evidence(
    "unified-normalization",
    kind="claim",
    claim="Accuracy is on par with layer normalisation, and folded it is faster in use (section 1: 31 % at best, on a GPU).",
)
def unified_is_faster() -> Finding:
    """Accuracy after 120 epochs within a point; processor time of a ViT of width 192 on 32 pictures, in turns."""
    ours = scored("digits", *LONGER, design=_UNIFIED)["metrics"]["accuracy"]
    theirs = scored("digits", *LONGER, design={"system": "vit", **_SMALL, "ratio": 2.0})["metrics"]["accuracy"]
    options = {"image": 64, "patch": 8, "classes": 10, "width": 192, "depth": 6, "heads": 3}
    plain = ef.create("vit", seed=0, **options).eval()
    folded = fold(ef.create("unified-normalization", seed=0, **options).eval())
    pictures = torch.randn(32, 3, 64, 64)
    fast, slow = (
        1000 * each for each in processor_seconds(lambda: folded(pictures), lambda: plain(pictures), repeats=30)
    )
    held = ours > theirs - 0.01 and fast < slow
    finding = f"accuracy {ours:.4f} against {theirs:.4f}; {fast:.1f} ms folded, {slow:.1f} ms with layer norms ({fast / slow - 1:+.1%})"
    return Finding(
        verdict(held), finding, {"unified": ours, "layer norm": theirs, "folded ms": fast, "layer norm ms": slow}
    )


@evidence(
    "memoryformer",
    kind="claim",
    claim="Without linear maps a forward pass costs a fraction of the arithmetic (table 2), and less time.",
)
def memoryformer_is_fast() -> Finding:
    """FLOPs on the meta device, and processor time in turns, of six layers of width 512 on 8 x 128 tokens."""
    from everyformer.costs import flops, on_meta

    options = {"vocabulary": 256, "width": 512, "depth": 6, "heads": 8}
    tables, plain = ef.design("memoryformer", **options), ef.design("gpt", length=128, **options)
    batch = {"inputs": torch.randint(256, (8, 128), generator=torch.Generator().manual_seed(0))}
    counted = [flops(on_meta(each), batch)["backbone"] for each in (tables, plain)]
    models = [each.build(seed=0).eval() for each in (tables, plain)]
    ours, theirs = (1000 * each for each in processor_seconds(*(partial(each, **batch) for each in models)))
    held = counted[0] < 0.5 * counted[1] and ours < theirs
    finding = (
        f"{counted[0] / counted[1]:.1%} of the FLOPs of GPT; {ours:.0f} ms against {theirs:.0f} ms on this processor"
    )
    return Finding(verdict(held), finding, {"flops": counted, "memoryformer ms": ours, "gpt ms": theirs})


@evidence(
    "bytetransformer",
    kind="claim",
    claim="Without its padding a batch of texts is worked in less time, in about its share of real tokens (section IV.D).",
)
def bytetransformer_is_faster() -> Finding:
    """BERT mini on 16 texts of up to 256 words, 0.6 of that on average, and on texts of one length, where nothing is gained."""
    model = ef.design("bert", "mini").set("head", None).build(seed=0).eval()
    chance = torch.Generator().manual_seed(0)
    ids = torch.randint(1000, 2000, (16, 256), generator=chance)
    lengths = torch.randint(52, 257, (16,), generator=chance)
    lengths[0] = 256
    mask = torch.arange(256) < lengths[:, None]
    packed = unpadded(model)
    with torch.no_grad():
        off = float((packed(ids, mask=mask).values - model(ids, mask=mask).values)[mask].abs().max())
    slow, fast = processor_seconds(partial(model, ids, mask=mask), partial(packed, ids, mask=mask))
    full = torch.ones_like(mask)
    even, same = processor_seconds(partial(model, ids, mask=full), partial(packed, ids, mask=full))
    share = float(mask.float().mean())
    return Finding(
        verdict(slow / fast > 0.8 / share and off < 1e-5),
        f"{slow / fast:.2f} times as fast where {share:.0%} of the tokens are real, {even / same:.2f} where all are; "
        f"answers differ by {off:.0e}",
        {"times as fast": slow / fast, "at one length": even / same, "real": share, "off": off},
    )
