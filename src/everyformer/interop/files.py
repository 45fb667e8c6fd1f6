"""Checkpoints on disk: safetensors alone, one file or many; nothing in them is run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor

from everyformer.errors import BadInput
from everyformer.jsons import read_json

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


class Weights(Mapping[str, Tensor]):
    """The tensors of a checkpoint by name, read when they are asked for; `shapes` are known before."""

    def __init__(self, folder: Path) -> None:
        from safetensors import SafetensorError, safe_open

        self._held = ExitStack()
        self._files: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for path in _files(folder):
            try:
                file = self._held.enter_context(safe_open(path, "pt"))
            except (SafetensorError, OSError) as error:
                raise BadInput(f"'{path}' is truncated or damaged: {error}; fetch it again") from None
            for name in file.keys():  # noqa: SIM118
                self._files[name] = file
                self.shapes[name] = tuple(file.get_slice(name).get_shape())

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def close(self) -> None:
        """Close the files."""
        self._held.close()
        self._files = {}


def fetch(name: str) -> Path:
    """The folder of a checkpoint: a path, or what the Hugging Face hub has under an id."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise BadInput(f"'{name}' is a file; give the folder that holds config.json and {ONE}")
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise BadInput(f"no folder '{name}'; give a folder with config.json and {ONE}, or the id of a model on the hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt"]))
    except HFValidationError:
        raise BadInput(f"no folder '{name}', and no model on the hub has such an id") from None
    except Exception as error:
        told = str(error).splitlines()[0]
        raise BadInput(f"no folder '{name}', and the hub did not give it: {type(error).__name__}: {told}") from None


def _files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        named = read_json(folder / INDEX).get("weight_map")
        if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
            raise BadInput(f"'{folder / INDEX}' has no 'weight_map' of tensors to files")
        shards = list(dict.fromkeys(named.values()))
        for shard in shards:
            if Path(shard).name != shard or "\\" in shard or not shard.endswith(".safetensors"):
                raise BadInput(f"'{INDEX}' names '{shard}'; a shard is a safetensors file in the same folder")
            if not (folder / shard).is_file():
                raise BadInput(f"'{INDEX}' names '{shard}', which is not in '{folder}'")
        return [folder / shard for shard in shards]
    if (folder / ONE).is_file():
        return [folder / ONE]
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise BadInput(
            f"'{folder}' has its weights as a pickle ({', '.join(pickles)}), which could run any code when it is read; "
            f"give a copy in safetensors ({ONE}), as `save_pretrained` writes it"
        )
    raise BadInput(f"'{folder}' has no {ONE} and no {INDEX}")
