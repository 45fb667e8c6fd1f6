"""Promise 21: what is exported or compiled takes any batch and any length, or any height and width."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

from everyformer.errors import BadInput
from everyformer.interop.graph import GRAPH, to_onnx, to_program
from support.agreement import close
from support.rooms import vocabulary_of
from support.systems import model_of, systems, tiny

WIDELY_USED = (
    "bart", "beit", "bert", "bloom", "cct", "convnext", "deit", "gemma", "gpt", "gpt-neox", "llama", "longformer",
    "modernbert", "segformer", "swin", "t5", "transformer", "vit", "wav2vec2", "whisper",
)  # fmt: skip
QUICK = ("bert", "gpt", "vit")
SLOW = {*systems()} - {*WIDELY_USED}
REST = tuple(each for each in WIDELY_USED if each not in QUICK)


def given(model: nn.Module, axes: dict[str, tuple[int | None, ...]], batch: int, step: int) -> dict[str, torch.Tensor]:
    """Random inputs of that batch; where sizes are open, texts are `step` shorter than the example, and the rest longer."""
    generator = torch.Generator().manual_seed(step)
    example, found = model.example(1), {}
    for name, sizes in axes.items():
        if name in ("mask", "target_mask"):
            continue
        whole = not example[name].is_floating_point()
        open_sizes = [max(size - step, 1) if whole else size + 8 * step for size in example[name].shape[1:]]
        shape = [batch, *(new if size is None else size for size, new in zip(sizes[1:], open_sizes))]
        found[name] = (
            torch.randint(0, vocabulary_of(model), shape, generator=generator).to(example[name].dtype)
            if whole
            else torch.randn(shape, generator=generator)
        )
    masks = {"mask": "inputs", "target_mask": "target"}
    found |= {name: torch.ones(found[of].shape[:2], dtype=torch.bool) for name, of in masks.items() if name in axes}
    return {name: found[name] for name in axes}


def answered(model: nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    answer = model(**inputs)
    return answer if isinstance(answer, torch.Tensor) else answer.values


@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=pytest.mark.slow if each in SLOW else ()) for each in systems()]
)
def test_every_system_exports_and_answers_the_same_at_other_sizes(name):
    model = model_of(tiny(name)).eval()
    program, axes = to_program(model)
    run = program.module()
    assert all(sizes[0] is None for sizes in axes.values()), "any batch"
    for step, batch in enumerate((1, 5, 20)):
        inputs = given(model, axes, batch, step)
        try:
            answered(model, inputs)
        except BadInput:  # longer than the design is made for
            inputs = given(model, axes, batch, 0)
        answers = []
        for each in (lambda given: run(*given.values()), lambda given: answered(model, given)):
            torch.manual_seed(step)  # some draw what they look at
            answers.append(each(inputs))
        close(*answers, f"a batch of {batch}")


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(each, marks=pytest.mark.slow) for each in REST)])
def test_twenty_sizes_are_compiled_at_most_twice(name):
    model = model_of(tiny(name)).eval()
    axes = {key: (None,) * value.dim() for key, value in model.example(1).items()}
    if "inputs" in axes and len(axes["inputs"]) > 2:
        axes["inputs"] = (None, *model.example(1)["inputs"].shape[1:])
    torch.compiler.reset()
    counter = CompileCounterWithBackend("eager")
    compiled = torch.compile(model, backend=counter, fullgraph=True, dynamic=True)
    for i in range(20):
        inputs = given(model, axes, 2 + i % 7, i // 2 % 8)
        close(answered(compiled, inputs), answered(model, inputs), f"size {i}")
    assert counter.frame_count <= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", [each for each in WIDELY_USED if each not in ("longformer", "swin")])
def test_onnx_runtime_answers_the_same_at_other_sizes(name, tmp_path):
    """Four of them, with padding, in tests/interop. ONNX has no stable sort, which Longformer's marks need."""
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = model_of(tiny(name)).eval()
    axes = to_onnx(model, tmp_path)
    session = runtime.InferenceSession(tmp_path / GRAPH, providers=["CPUExecutionProvider"])
    for step, batch in enumerate((1, 5, 20)):
        inputs = given(model, axes, batch, step)
        (answer,) = session.run(["answer"], {key: value.numpy() for key, value in inputs.items()})
        torch.testing.assert_close(torch.from_numpy(answer), answered(model, inputs), atol=1e-4, rtol=1e-4)
