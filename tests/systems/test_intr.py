"""INTR against the authors' code, and what its classes must be."""

import pytest
import torch
from safetensors.torch import load_file

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.grids import as_tokens
from everyformer.interop.detr import blocks
from everyformer.interop.weights import Pair, layer
from everyformer.interpret.taps import record
from support.agreement import FIXTURES, close, recorded
from support.systems import model_of, tiny

FIRST, FINAL = "self_attn_layer_norm", "final_layer_norm"
TABLE = [
    *layer("encoder.enter.project", "input_proj"),
    *blocks("encoder.blocks.*", "encoder.layers.*", FIRST, FINAL),
    *blocks("head.body.blocks.*", "decoder.layers.*", FIRST, "encoder_attn_layer_norm", FINAL),
    *layer("head.norm", "decoder.layernorm"),
    *layer("head.presence", "presence_vector"),
    Pair("head.queries", ("query_embed.weight",)),
]
UNSEEN = (
    *(f"head.body.blocks.0.mixer.{name}" for name in ("query_key.weight", "query_key.bias", "value.weight")),
    *(f"head.body.blocks.{i}.cross.0.key.bias" for i in range(2)),
)
"""Queries begin as zeros, so what they see of each other first is a bias; and softmax does not see a bias of all keys."""


class Behind(torch.nn.Module):
    """All of a design that stands behind the residual network."""

    def __init__(self, design, width):
        super().__init__()
        self.encoder = design.get("backbone.stages")[-1].build(width)
        self.head = design.get("head").build(design.get("backbone.stages")[-1].get("to"))

    def forward(self, cells):
        return self.head(self.encoder(as_tokens(cells)))


def test_answers_gradients_and_where_it_looks_are_those_of_the_authors():
    design = ef.design("intr", width=8, depth=1, decoder_depth=2, heads=2, hidden=12, classes=5, dropout=0.0)
    model = Behind(design, 8).eval()
    with record(model, "head.body.blocks.1.cross.0.weights") as seen:
        recorded("intr", model, TABLE, UNSEEN)
    close(
        seen["head.body.blocks.1.cross.0.weights"], load_file(FIXTURES / "intr.safetensors")["looked"], "where it looks"
    )


def test_classes_are_told_apart_by_their_queries_alone():
    """Queries in another order are the classes in that order, and one vector scores them all."""
    model = model_of(tiny("intr"))
    pictures = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    before = model(pictures)
    assert before.shape == (2, 3)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        model.head.queries.copy_(model.head.queries[order])
    close(model(pictures), before[:, order])
    assert model.head.presence.weight.shape == (1, 16)


def test_a_class_costs_its_query():
    """All else is DETR without its two last maps."""
    detr = on_meta(ef.design("detr"))
    maps = sum(parameters(each) for each in (detr.head.classify, detr.head.box))
    rest = parameters(detr) - maps - 100 * 256
    for classes in (200, 525):
        assert parameters(on_meta(ef.design("intr", classes=classes))) == rest + classes * 256 + 257


def test_how_many_things_detr_says_is_no_option():
    with pytest.raises(ef.UnknownName, match="queries"):
        ef.design("intr", queries=3)
