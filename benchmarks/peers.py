"""What other libraries need before they are imported here."""

from __future__ import annotations

import torch


def torchvision_operators() -> torch.library.Library | None:
    """Define the operators that torchvision's Python part names at import, where its compiled part does not load.

    timm imports torchvision, which has no CPU build for every torch; timm's models need none of these operators.
    """
    if hasattr(torch.ops.torchvision, "nms"):
        return None
    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    boxes = "Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width"
    library.define(f"roi_align({boxes}, int sampling_ratio, bool aligned) -> Tensor")
    for name in ("roi_pool", "ps_roi_pool"):
        library.define(f"{name}({boxes}) -> (Tensor, Tensor)")
    library.define(f"ps_roi_align({boxes}, int sampling_ratio) -> (Tensor, Tensor)")
    return library
