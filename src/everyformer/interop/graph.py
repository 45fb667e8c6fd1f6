"""Graphs that run without this library: torch.export and ONNX, of any batch, length, height and width."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config

from everyformer.contracts import Mixer
from everyformer.errors import DoesNotFit, EveryformerError

PROGRAM, GRAPH = "model.pt2", "model.onnx"
Axes = dict[str, tuple[int | None, ...]]
"""For each input its sizes, None for one that may be any."""
_REFUSED = (EveryformerError, AssertionError, IndexError, RuntimeError, ValueError)
"""What parts, guards, tables and kernels say to sizes that they do not take."""


class _InOrder(nn.Module):
    """A model whose inputs come in order, and whose answer is a tensor."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *given: Tensor) -> Tensor:
        """The model's answer, the values where it answers with tokens."""
        answer = self.model(**dict(zip(self.names, given, strict=True)))
        return answer if isinstance(answer, Tensor) else answer.values


@torch.no_grad()
def to_program(model: nn.Module) -> tuple[ExportedProgram, Axes]:
    """A model as a program of torch.export, whose inputs come in the order of the axes that are returned with it.

    The batch may be of any size, or the model is refused with the path of the part that fixes it; so may every other
    axis, unless a part fixes one: then all of them are as in the model's example.
    """
    given = _example(model)
    whole = _InOrder(model, tuple(given)).eval()
    failed: Exception | None = None
    closed = any(isinstance(each, Mixer) and each.cuts_maps for each in model.modules())
    for others, stands_out in ((Dim.AUTO, True), (Dim.AUTO, False), (Dim.STATIC, True))[2 * closed :]:
        axes = tuple({i: others if i else Dim.DYNAMIC for i in range(each.dim())} for each in given.values())
        try:
            # Where sizes of one do not stand out, no rule for them is written into the graph, and some graphs need none.
            with _config.patch(backed_size_oblivious=not stands_out):  # type: ignore[attr-defined]
                program = torch.export.export(whole, tuple(given.values()), dynamic_shapes=(axes,))
        except EveryformerError:
            raise
        except Exception as error:
            failed = failed or error
            continue
        traced = {node.name: node.meta["val"] for node in program.graph.nodes if node.op == "placeholder"}
        shapes = [traced[name].shape for name in program.graph_signature.user_inputs]
        found = {name: tuple(_fixed(size) for size in shape) for name, shape in zip(given, shapes, strict=True)}
        if others is Dim.STATIC or _answers(whole, program, given, found):
            return program, found
    assert failed is not None
    told = str(failed).strip().splitlines()[0] if str(failed).strip() else type(failed).__name__
    raise DoesNotFit(f"torch.export cannot follow this part: {told}", _where(model, failed)) from failed


def _answers(whole: nn.Module, program: ExportedProgram, given: dict[str, Tensor], axes: Axes) -> bool:
    """Whether a program answers what its model does: one alone, and two of other sizes, texts that are one shorter too."""
    run, answered = program.module(), 0
    tried = [(1, 1.0, 0), (2, 0.5, 0), (2, 1.5, 0), (2, 2.0, 0)]
    if not any(each.is_floating_point() for each in given.values()):
        tried.append((2, 1.0, 1))
    for batch, times, less in tried:
        inputs = []
        for (name, each), sizes in zip(given.items(), axes.values(), strict=True):
            pairs = zip(each.shape[1:], sizes[1:])
            shape = [batch, *(int(old * times) - less if size is None else size for old, size in pairs)]
            inputs.append(each.new_ones(shape) if name.endswith("mask") else each.new_zeros(shape))
        try:
            whole(*inputs)
        except _REFUSED:
            continue
        try:
            run(*inputs)
        except _REFUSED:
            return False
        answered += 1
    return answered > 1


def to_torch(model: nn.Module, folder: Path) -> Axes:
    """Write model.pt2, which `torch.export.load` opens."""
    program, axes = to_program(model)
    folder.mkdir(parents=True, exist_ok=True)
    torch.export.save(program, folder / PROGRAM)
    return axes


@torch.no_grad()
def to_onnx(model: nn.Module, folder: Path) -> Axes:
    """Write model.onnx, its inputs under their names."""
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise EveryformerError("ONNX needs packages of its own; install everyformer[onnx]") from None
    program, axes = to_program(model)
    made = torch.onnx.export(program, input_names=list(axes), output_names=["answer"], dynamo=True, verbose=False)
    assert made is not None
    folder.mkdir(parents=True, exist_ok=True)
    made.save(folder / GRAPH)
    return axes


def _example(model: Any) -> dict[str, Tensor]:
    """A batch that the model takes, with a mask where it takes one and a graph can follow what is done with it.

    A mixer that does not take padding is called once for each length, which no graph can do: batches of one length then.
    """
    batch: dict[str, Tensor] = model.example(3)
    if any("padding" not in each.capabilities for each in model.modules() if isinstance(each, Mixer)):
        return batch
    reads = next((part for name in ("embedding", "source") if (part := getattr(model, name, None)) is not None), None)
    embeddings = [("mask", "inputs", reads)] if reads is not None else []
    if "target" in batch:
        embeddings.append(("target_mask", "target", model.into))
    masks = {
        name: torch.ones(batch[of].shape[:2], dtype=torch.bool)
        for name, of, embedding in embeddings
        if "mask" in embedding.fields
    }
    return {**batch, **masks}


def _fixed(size: Any) -> int | None:
    """A size, or None for a symbol; one that was found out to be fixed is a symbol that prints as its number."""
    return int(str(size)) if str(size).isdigit() else None


def _where(model: nn.Module, error: BaseException) -> str:
    """The path of the innermost part that was at work when an error came up."""
    paths = {id(module): path for path, module in model.named_modules()}
    found, trace = "", error.__traceback__
    while trace is not None:
        found = paths.get(id(trace.tb_frame.f_locals.get("self")), found)
        trace = trace.tb_next
    return found
