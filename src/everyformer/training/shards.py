"""A run whose weights, gradients and optimiser are cut over several processes (FSDP2; Zhao et al., 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from everyformer.contracts import Backbone
from everyformer.errors import EveryformerError, RunFailed
from everyformer.training.tensor_parallel import share_out

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.strategies import Strategy

    from everyformer.recipe import Training

FOLDER = "shards"
"""Where in a checkpoint the pieces lie, a file of safetensors for each process."""


def strategy_of(training: Training) -> Strategy | str:
    """What Lightning spreads a run with: 'fsdp' cuts it, all else goes by Lightning's own name.

    Where processes share parts, what is left of their number cuts the weights, whole ones as well as shares.
    """
    count = training.tensor_parallel
    if training.strategy != "fsdp" and count == 1:
        return training.strategy
    from lightning_fabric.strategies import ModelParallelStrategy

    rest = training.devices * training.nodes // count
    return ModelParallelStrategy(
        partial(_shard, offload=training.offload), data_parallel_size=rest, tensor_parallel_size=count
    )


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """What is cut by itself: the bodies that stand in lists."""
    return [m for path, m in module.named_modules() if isinstance(m, Backbone) and path.rpartition(".")[2].isdigit()]


def _shard(module: nn.Module, mesh: Any, *, offload: bool) -> nn.Module:
    """Cut each block by itself, so that one at a time is whole, then what is left; shares may wait in the host's memory."""
    from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard

    policy = CPUOffloadPolicy(pin_memory=torch.cuda.is_available()) if offload else OffloadPolicy()

    if mesh["tensor_parallel"].size() > 1:
        share_out(module.model, mesh["tensor_parallel"])
    for block in blocks_of(module):
        fully_shard(block, mesh=mesh["data_parallel"], offload_policy=policy)
    fully_shard(module, mesh=mesh["data_parallel"], offload_policy=policy)
    return module


def cut(tensors: Mapping[str, Tensor]) -> bool:
    """Whether some of the tensors are cut over processes."""
    return any(hasattr(tensor, "full_tensor") for tensor in tensors.values())


def like(tensor: Tensor, model: Any) -> Tensor:
    """A whole tensor cut as `model` is."""
    if not hasattr(model, "full_tensor") or hasattr(tensor, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements, src_data_rank=None)


def save(folder: Path, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Every process writes its pieces of 'group/name' into `folder` (torch.distributed.checkpoint, in safetensors)."""
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    flat = {f"{group}/{name}": tensor for group, named in tensors.items() for name, tensor in named.items()}
    try:
        dcp.save(
            flat, storage_writer=dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True), no_dist=_alone()
        )
    except CheckpointException as error:
        cause = next((failure[0] for failure in error.failures.values() if isinstance(failure[0], OSError)), error)
        raise cause from error


def load(folder: Path, models: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """The tensors by group and name, each cut as the one of `models` whose name and shape it has, else whole.

    The number of processes need not be that which wrote them.
    """
    import torch.distributed.checkpoint as dcp

    reader = dcp.HuggingFaceStorageReader(str(folder))
    flat: dict[str, Tensor] = {}
    for key, held in reader.read_metadata().state_dict_metadata.items():
        model = next((models[part] for part in key.split("/") if part in models), None)
        fits = model is not None and model.shape == held.size
        flat[key] = (
            torch.empty_like(model, dtype=held.properties.dtype) if fits else torch.empty(held.size, dtype=held.properties.dtype)
        )  # fmt: skip
    dcp.load(flat, storage_reader=reader, no_dist=_alone())
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in flat.items():
        group, _, name = key.partition("/")
        found.setdefault(group, {})[name] = value
    return found


def _alone() -> bool:
    return not torch.distributed.is_initialized()


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """Say what it means when another process of the run is gone."""
    try:
        yield
    except RuntimeError as error:
        told = any(sign in str(error).lower() for sign in ("gloo", "nccl", "connection closed", "connection reset"))
        if fabric.world_size == 1 or isinstance(error, EveryformerError) or not told:
            raise
        raise RunFailed(
            f"process {fabric.global_rank} of {fabric.world_size} has lost another one, which was killed or failed; what was "
            "saved before is intact. Go on with resume (--resume)"
        ) from error
