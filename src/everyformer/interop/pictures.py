"""How a checkpoint wants its pictures, from preprocessor_config.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.errors import BadInput, DoesNotFit
from everyformer.jsons import read_json

FILE = "preprocessor_config.json"
_ONLY: dict[str, Any] = {"do_rescale": True, "do_pad": None, "crop_pct": None, "do_flip_channel_order": None}
"""Settings of which there is one value here; none is the same as false."""


@dataclass(frozen=True)
class Pictures:
    """Pictures of any size brought to one size, cut in the middle, their values shifted and scaled."""

    size: tuple[int, int] | int | None
    """Height and width, or the shorter side alone; None leaves them as they are."""
    crop: tuple[int, int] | None
    resample: int
    scale: float
    mean: list[float] | None
    std: list[float] | None

    @classmethod
    def read(cls, folder: Path) -> Pictures | None:
        """What the file in a folder says; None where there is none, or it speaks of sound."""
        if not (folder / FILE).is_file():
            return None
        said = read_json(folder / FILE)
        if "sampling_rate" in said:
            return None
        for name, value in _ONLY.items():
            if (said.get(name, value) or None) != (value or None):
                raise DoesNotFit(f"{FILE} has {name}={said[name]!r}, which pictures are not read with here")
        normal = said.get("do_normalize", True)
        return cls(
            _size(said.get("size")) if said.get("do_resize", True) else None,
            _sides(said.get("crop_size")) if said.get("do_center_crop") else None,
            int(said.get("resample", 2)),
            float(said.get("rescale_factor", 1 / 255)),
            said.get("image_mean") if normal else None,
            said.get("image_std") if normal else None,
        )

    def __call__(self, pictures: Sequence[Any], channels: int = 3) -> Float[Tensor, "B C Y X"]:
        """Files, bytes, arrays or PIL pictures as a batch."""
        from everyformer.data.pictures import decode

        arrays = [self._array(decode(each), channels) for each in pictures]
        if len({each.shape for each in arrays}) > 1:
            raise BadInput(f"pictures of several sizes, and {FILE} brings them to none; give them one by one")
        values = torch.from_numpy(np.stack(arrays)).float() * self.scale
        if self.mean is None or self.std is None:
            return values
        mean, std = (torch.tensor(each).view(1, -1, 1, 1) for each in (self.mean, self.std))
        return (values - mean) / std

    def _array(self, picture: Any, channels: int) -> np.ndarray:
        from PIL import Image

        picture = picture.convert("L" if channels == 1 else "RGB")
        width, height = picture.size
        if self.size is not None:
            short = self.size if isinstance(self.size, int) else None
            to = (
                self.size
                if short is None
                else tuple(int(short * side / min(width, height)) for side in (height, width))
            )
            picture = picture.resize((to[1], to[0]), Image.Resampling(self.resample))  # type: ignore[index]
        array = np.asarray(picture).reshape(picture.height, picture.width, channels)
        if self.crop is not None:
            high, wide = self.crop
            if high > picture.height or wide > picture.width:
                raise BadInput(
                    f"a picture of {picture.width}x{picture.height} is smaller than the {wide}x{high} that are cut out"
                )
            top, left = (picture.height - high) // 2, (picture.width - wide) // 2
            array = array[top : top + high, left : left + wide]
        return array.transpose(2, 0, 1)


def _size(said: Any) -> tuple[int, int] | int | None:
    if isinstance(said, Mapping) and set(said) == {"shortest_edge"}:
        return int(said["shortest_edge"])
    return _sides(said)


def _sides(said: Any) -> tuple[int, int] | None:
    """Height and width; a number is both."""
    if said is None or isinstance(said, int):
        return None if said is None else (said, said)
    if isinstance(said, Mapping) and {"height", "width"} <= set(said):
        return int(said["height"]), int(said["width"])
    raise DoesNotFit(f"{FILE} has a size {said!r}; known are a number, height and width, and shortest_edge")
