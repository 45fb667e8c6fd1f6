"""torch.export and ONNX: the same answers at other sizes, and what does not fit is named."""

import pytest
import torch
from torch import nn

import everyformer as ef
from everyformer.interop import to_onnx, to_torch
from everyformer.interop.graph import GRAPH, PROGRAM
from support.agreement import close
from support.systems import model_of, tiny


def texts(batch, length):
    given = torch.randint(1, 20, (batch, length), generator=torch.Generator().manual_seed(0))
    return {"inputs": given, "mask": torch.arange(length) < torch.arange(length - batch + 1, length + 1)[:, None]}


def pictures(batch, height, width):
    return {"inputs": torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(0))}


@pytest.mark.parametrize(
    ("name", "given", "open_axes"),
    [
        ("bert", texts(2, 9), {"inputs": (None, None), "mask": (None, None)}),
        ("llama", texts(5, 21), {"inputs": (None, None), "mask": (None, None)}),
        ("vit", pictures(2, 24, 16), {"inputs": (None, 3, None, None)}),
    ],
)
def test_a_program_answers_the_same_at_other_sizes(name, given, open_axes, tmp_path):
    model = model_of(tiny(name))
    assert to_torch(model, tmp_path) == open_axes
    program = torch.export.load(tmp_path / PROGRAM).module()
    close(program(*given.values()), model(**given), name)


@pytest.mark.parametrize(
    ("name", "given", "open_axes"),
    [
        ("bert", texts(2, 9), {"inputs": (None, None), "mask": (None, None)}),
        ("gpt", texts(4, 13), {"inputs": (None, None), "mask": (None, None)}),
        ("vit", pictures(2, 24, 16), {"inputs": (None, 3, None, None)}),
        (
            "t5",
            {**texts(2, 9), "target": torch.randint(1, 20, (2, 5)), "target_mask": torch.ones(2, 5, dtype=torch.bool)},
            dict.fromkeys(("inputs", "target", "mask", "target_mask"), (None, None)),
        ),
    ],
)
def test_onnx_answers_the_same_at_other_sizes(name, given, open_axes, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = model_of(tiny(name))
    assert to_onnx(model, tmp_path) == open_axes
    session = runtime.InferenceSession(tmp_path / GRAPH, providers=["CPUExecutionProvider"])
    (answer,) = session.run(["answer"], {key: value.numpy() for key, value in given.items()})
    close(torch.from_numpy(answer), model(**given), "onnx")


class Reads(nn.Module):
    """Looks at values."""

    def forward(self, values):
        return values * 2 if values.sum().item() > 0 else values


def test_what_cannot_be_followed_is_named(tmp_path):
    model = model_of(tiny("bert"))
    model.backbone.blocks[1].feedforward.activation = Reads()
    with pytest.raises(ef.DoesNotFit, match=r"at 'backbone\.blocks\.1\.feedforward\.activation': torch\.export cannot"):
        to_torch(model, tmp_path)
