"""Evidence for depth that is learnt from other views alone, on rendered rooms seen from three places."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

import everyformer as ef
from everyformer.data.scenes import ORIGIN, Place, lens_of, render_views
from everyformer.data.tasks.depth import errors
from everyformer.designs import Design
from everyformer.evidence.descent import learn, warmed
from everyformer.evidence.harness import Finding, evidence, verdict
from everyformer.objectives import ViewSynthesis
from everyformer.specs import spec

_SIDE, _STEPS, _BATCH = 48, 500, 8
_TRAIN, _TEST = range(30_000, 30_300), range(40_000, 40_100)
_EYES: tuple[Place, ...] = (ORIGIN, (0.4, 0.0, 0.0), (-0.4, 0.0, 0.0))


@cache
def _rooms(seeds: range) -> tuple[Float[Tensor, "B E 3 Y X"], Float[Tensor, "B Y X"]]:
    """Pictures from all places, 0 to 1, and the depth of the first."""
    made = [render_views(seed, _EYES, side=_SIDE, pattern=0.4) for seed in seeds]
    pictures = torch.from_numpy(np.stack([[each.picture for each in views] for views in made]))
    depth = torch.from_numpy(np.stack([views[0].depth for views in made]))
    return pictures.permute(0, 1, 4, 2, 3).float() / 255, depth


def _design() -> Design:
    return ef.design(
        "lka-monodepth", image=_SIDE, widths=(16, 32, 48), depths=(1, 1, 1), heads=(1, 2, 4), reductions=(4, 2, 1),
        drop_path=0.0, hidden=(32, 24, 16), ratio=2.0, nearest=1.0, max_depth=16.0,
    )  # fmt: skip


def _learnt(design: Design) -> nn.Module:
    """A design that has seen rooms from three places, and no depth."""
    pictures, _ = _rooms(_TRAIN)
    poses = torch.stack([torch.cat((torch.eye(3), -torch.tensor(eye)[:, None]), 1) for eye in _EYES[1:]])
    lens = torch.from_numpy(lens_of(_SIDE)).float()
    model, objective = design.build(seed=0), ViewSynthesis()

    def batch(step: int) -> dict[str, Tensor]:
        chosen = torch.randint(len(pictures), (_BATCH,), generator=torch.Generator().manual_seed(step))
        views = pictures[chosen]
        return {
            "inputs": 2 * views[:, 0] - 1, "labels": views, "poses": poses.expand(_BATCH, -1, -1, -1),
            "lens": lens.expand(_BATCH, -1, -1),
        }  # fmt: skip

    return learn(model, objective, batch, _STEPS, lr=2e-3, rate=warmed(30), clip=1.0)


@cache
def _figures(of: str) -> dict[str, float]:
    """The errors on rooms that were not seen: of the design, or of it without one of its parts."""
    exchanged: dict[str, dict[str, Any]] = {
        "whole": {},
        "no gate": {"head.block.mixer": None},
        "bilinear": {"head.up": spec(ef.heads.Bilinear)},
    }
    design = _design()
    for path, other in exchanged[of].items():
        design = design.set(path, other)
    model = _learnt(design)
    pictures, depth = _rooms(_TEST)
    with torch.no_grad():
        said = torch.cat([model(2 * each - 1) for each in pictures[:, 0].split(50)])
    return errors(said[:, 0], depth)


@evidence(
    "lka-monodepth", kind="learns", claim="Pictures from three places alone teach depth far better than a constant."
)
def lka_monodepth_learns() -> Finding:
    """No depth is seen in training; both baselines are told that of the training part: its median, and its mean map."""
    ours, known, truth = _figures("whole"), _rooms(_TRAIN)[1], _rooms(_TEST)[1]
    median = errors(known.median().expand_as(truth), truth)
    mean = errors(known.mean(0).expand_as(truth), truth)
    found = (
        f"relative error {ours['abs_rel']:.4f} (delta1 {ours['delta1']:.3f}) against {median['abs_rel']:.4f} of the median, "
        f"{mean['abs_rel']:.4f} of the mean map"
    )
    holds = ours["abs_rel"] < 0.7 * median["abs_rel"]
    return Finding(verdict(holds), found, {"ours": ours, "median": median, "mean map": mean})


@evidence(
    "lka-monodepth",
    kind="claim",
    claim="Without its large kernel attention, or with bilinear up-sampling, the error is higher.",
)
def lka_monodepth_parts() -> Finding:
    """The same steps, one part exchanged."""
    found = {of: _figures(of)["abs_rel"] for of in ("whole", "no gate", "bilinear")}
    holds = found["whole"] < min(found["no gate"], found["bilinear"])
    return Finding(
        verdict(holds), f"relative error {', '.join(f'{value:.4f} {of}' for of, value in found.items())}", found
    )
