"""Vision backbones against timm's and Hugging Face's own, with the same weights: forward pass and training step.

    python -m benchmarks.vision [--repeats 7] [--only swin pvt]

Every row of the tables is measured whose system is registered; a new one needs one line. Each repeat times one after the
other, in turns who is first, in processor time of one thread; the figure is the median of the ratios, ours over theirs.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import nn

import everyformer as ef
from benchmarks.abstraction import compared, forward, step
from benchmarks.paired import write
from everyformer.interop.live import from_transformers
from everyformer.interop.timm import from_timm

BATCH, CLASSES, IMAGE = 2, 10, 224

TIMM: dict[str, tuple[str, dict[str, Any]]] = {
    "cait": ("cait_xxs24_224", {"depth": 2}),
    "coat": ("coat_lite_mini", {"serial_depths": (1, 1, 1, 1)}),
    "convmixer": ("ConvMixer", {"dim": 768, "depth": 2, "kernel_size": 7, "patch_size": 7}),
    "convnext": ("convnext_tiny", {"depths": (1, 1, 1, 1)}),
    "deit": ("deit_tiny_patch16_224", {"depth": 4}),
    "hiera": ("hiera_tiny_224", {"stages": (1, 1, 1, 1)}),
    "maxvit": ("maxvit_tiny_tf_224", {"depths": (1, 1, 1, 1)}),
    "mlp-mixer": ("MlpMixer", {"num_blocks": 4, "embed_dim": 512}),
    "pit": ("pit_ti_224", {"depth": [1, 1, 1]}),
    "poolformer": ("poolformer_s12", {}),
    "pvt-v2": ("pvt_v2_b1", {"depths": (1, 1, 1, 1)}),
    "swin": ("swin_tiny_patch4_window7_224", {"depths": (2, 1, 1, 1)}),
    "swin-v2": ("swinv2_tiny_window8_256", {"depths": (2, 1, 1, 1), "img_size": 256}),
    "tnt": ("tnt_s_legacy_patch16_224", {"depth": 2}),
    "twins": ("twins_svt_small", {"depths": (2, 2, 2, 2)}),
    "vit": ("vit_tiny_patch16_224", {"depth": 4}),
    "xcit": ("xcit_nano_12_p16_224", {"depth": 2}),
}
"""timm's name or class for each system, and what makes it short."""
TRANSFORMERS: dict[str, tuple[str, dict[str, Any]]] = {
    "beit": (
        "BeitForImageClassification",
        {"num_hidden_layers": 2, "use_relative_position_bias": True, "use_absolute_position_embeddings": False},
    ),
    "cvt": ("CvtForImageClassification", {"depth": [1, 2, 3]}),
    "pvt": ("PvtForImageClassification", {"depths": [1, 1, 1, 1]}),
    "segformer": ("SegformerForImageClassification", {"depths": [1, 1, 1, 1]}),
    "swin": ("SwinForImageClassification", {"depths": [2, 1, 1, 1]}),
}
"""Hugging Face's class for each system that timm does not have, and what makes it short."""


class Logits(nn.Module):
    """A model of theirs that answers with its logits alone."""

    def __init__(self, theirs: nn.Module) -> None:
        super().__init__()
        self.theirs = theirs

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        answer = self.theirs(pictures)
        return getattr(answer, "logits", answer)


def timm_model(name: str, options: dict[str, Any]) -> nn.Module:
    """A timm model with random weights."""
    import timm

    kind = getattr(timm.models, name, None)
    if isinstance(kind, type):
        return kind(num_classes=CLASSES, **options)
    return timm.create_model(name, num_classes=CLASSES, **options)


def hugging_face(name: str, options: dict[str, Any]) -> nn.Module:
    """A Hugging Face model with random weights, with its fused attention where it has one."""
    import transformers

    kind = getattr(transformers, name)
    return kind(kind.config_class(num_labels=CLASSES, **options))


def ours_of(theirs: nn.Module, library: str) -> nn.Module:
    """Our model with their weights."""
    return (from_timm if library == "timm" else from_transformers)(theirs)


def measure(system: str, library: str, theirs: nn.Module, image: int, repeats: int) -> list[dict[str, Any]]:
    """Forward pass and training step of one system."""
    ours = ours_of(theirs.eval(), library)
    other = Logits(theirs)
    batch, labels = torch.randn(BATCH, 3, image, image), torch.randint(CLASSES, (BATCH,))
    with torch.no_grad():
        gap = (ours(batch) - other(batch)).abs().max().item()
    assert gap <= 1e-4, f"{system}: the two differ by {gap}"
    found = []
    for kind, act in {"forward": forward, "training step": step}.items():
        inputs = (batch,) if kind == "forward" else (batch, labels)
        acts = act(ours.train(kind != "forward"), *inputs), act(other.train(kind != "forward"), *inputs)
        found.append({"system": system, "against": library, "what": kind, **compared(acts, repeats), "gap": gap})
        print(found[-1], flush=True)
    return found


def main() -> None:
    """Measure, print and write `benchmarks/vision.json`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=None)
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    lines = []
    for library, table, make in (("timm", TIMM, timm_model), ("transformers", TRANSFORMERS, hugging_face)):
        for system, (name, options) in table.items():
            if system in ef.systems() and (given.only is None or system in given.only):
                image = options.get("img_size", IMAGE)
                lines += measure(system, library, make(name, options), image, given.repeats)
    slowest = max(line["ratio"] for line in lines)
    write(__file__, "timm", "transformers", batch=BATCH, repeats=given.repeats, slowest=slowest, lines=lines)
    print(f"largest ratio, ours over theirs: {slowest}")


if __name__ == "__main__":
    main()
