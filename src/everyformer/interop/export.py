"""The way out to the Hugging Face format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from everyformer.interop.family import back


def to_folder(
    model: nn.Module, folder: Path, *, top: str | None = None, config: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write config.json and model.safetensors, which `from_pretrained` of transformers opens, and return the config.

    `top` names their class; else it is the first that can hold the design. `config` holds what a config says beside the
    design: token ids, names of classes. A design that they have no class for is refused with the path of what differs.
    """
    from safetensors.torch import save_file

    said, tensors = back(model, top)
    kind = str(next(iter(tensors.values())).dtype).removeprefix("torch.")
    inner = {
        name: {**config[name], **value}
        for name, value in said.items()
        if config and name.endswith("_config") and isinstance(config.get(name), dict)
    }
    said = {
        **(config or {}),
        **said,
        **inner,
        **{name: config[name] for name in ("id2label", "label2id") if config and name in config},
        "dtype": kind,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(said, indent=2) + "\n")
    save_file(
        {name: each.cpu().contiguous() for name, each in tensors.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    return said
