"""`dvt` against a run of the authors' code, and a cascade that stops where it is sure."""

import pytest
import torch
from torch import nn

import everyformer as ef
from everyformer.interop.forms import Following, Leading
from everyformer.interop.weights import Pair, layer
from everyformer.models import thresholds_for
from support.agreement import close, perturb, recorded

SIZES = {
    "classes": 3, "image": 14, "channels": 1, "grids": (7, 10, 14), "width": 4, "depth": 2, "heads": 2, "ratio": 1.0,
    "reused": 6, "inner": 5,
}  # fmt: skip


class Exits(nn.Module):
    """The answers of all members, side by side."""

    def __init__(self, cascade):
        super().__init__()
        self.cascade = cascade

    def forward(self, inputs):
        context = ef.Context(notes={})
        last = self.cascade(inputs, context=context)
        return torch.stack([*context.notes.values(), last], 1)


def member(index, letter):
    ours = f"cascade.members.{index}"
    places = (f"{letter}.pos_embed",)
    found = [
        Pair(f"{ours}.embedding.first", (f"{letter}.cls_token", *places), Leading()),
        Pair(f"{ours}.embedding.positions.table", places, Following(1, wrapped=True)),
        *layer(f"{ours}.embedding.project", f"{letter}.patch_embed.proj"),
        *layer(f"{ours}.backbone.norm", f"{letter}.norm"),
        *layer(f"{ours}.head.classify", f"{letter}.head"),
    ]
    for i in (0, 1):
        block, theirs = f"{ours}.backbone.blocks.{i}", f"{letter}.blocks.{i}"
        mlp, reuse = f"{block}.feedforward", f"{theirs}.feature_resuse_mlp"
        found += layer(f"{block}.residual.0.norm", f"{theirs}.norm1")
        found += layer(f"{block}.mixer.qkv", f"{theirs}.attn.qkv") + layer(
            f"{block}.mixer.output", f"{theirs}.attn.proj"
        )
        found += layer(f"{mlp}.up", f"{theirs}.mlp.fc1") + layer(f"{mlp}.down", f"{theirs}.mlp.fc2")
        found += layer(f"{mlp}.norm" if index else f"{block}.residual.1.norm", f"{theirs}.norm2")
        if index:
            found += layer(f"{mlp}.earlier", f"{reuse}.0") + layer(f"{mlp}.inner", f"{reuse}.1.fc1")
            found += layer(f"{mlp}.narrow", f"{reuse}.1.fc2")
    if index:
        for ours, theirs in (("up", 0), ("down", 2)):
            names = f"cascade.relations.{index - 1}.{ours}", f"{letter}.relation_reuse_conv.{theirs}"
            found += layer(*names)
    return found


def test_equals_a_run_of_the_official_code():
    """But the class token reads nothing of the last block's MLP at other places, and a shift of all scores is no shift."""
    pairs = [pair for i, letter in enumerate("abc") for pair in member(i, letter)]
    last = "cascade.members.2.backbone.blocks.1.feedforward"
    nothing = [f"{last}.{part}.{kind}" for part in ("earlier", "inner", "narrow") for kind in ("weight", "bias")]
    nothing.append("cascade.relations.1.down.bias")
    recorded("dvt", Exits(ef.create("dvt", **SIZES)), pairs, nothing)


def cascade():
    return perturb(ef.create("dvt", **SIZES), std=0.3)


def test_where_nothing_is_reused_each_member_is_a_network_by_itself():
    model = cascade()
    with torch.no_grad():
        for relation in model.relations:
            relation.down.weight.zero_()
            relation.down.bias.zero_()
        for each in model.modules():
            if isinstance(each, ef.feedforward.ReusingMLP):
                each.narrow.weight.zero_()
                each.narrow.bias.zero_()
    pictures = torch.randn(2, 1, 14, 14)
    found = Exits(model)(pictures)
    for i, one in enumerate(model.members):
        close(found[:, i], one(pictures))


@pytest.mark.parametrize("threshold", [0.0, 1.1], ids=["all are sure", "none is"])
def test_thresholds_that_decide_alone(threshold):
    model, pictures = cascade(), torch.randn(3, 1, 14, 14)
    answers, exits = model.decide(pictures, (threshold, threshold))
    member = 2 if threshold else 0
    assert exits.tolist() == [member] * 3
    close(answers, Exits(model)(pictures)[:, member])


def test_each_picture_leaves_at_the_first_that_is_sure():
    model, pictures = cascade(), torch.randn(6, 1, 14, 14)
    every = Exits(model)(pictures)
    sure = every.softmax(-1).amax(-1).T
    shares = (1 / 3, 1 / 3)
    thresholds = thresholds_for(sure.detach(), shares)
    answers, exits = model.decide(pictures, thresholds)
    assert exits.bincount(minlength=3).tolist() == [2, 2, 2]
    close(answers, every[torch.arange(6), exits])
    assert thresholds_for(sure.detach(), (0.0, 1.0))[0] > 1


def test_what_does_not_fit_is_refused():
    with pytest.raises(ef.BadInput, match="a threshold for each member but the last, 2; given"):
        cascade().decide(torch.randn(1, 1, 14, 14), (0.5,))
    with pytest.raises(ef.DoesNotFit, match="at least one member"):
        ef.spec(ef.models.Cascade, members=()).build()
    reading = ef.spec(ef.feedforward.ReusingMLP, norm=ef.spec(ef.norms.LayerNorm)).build(8)
    tokens = ef.Tokens(torch.randn(1, 4, 8))
    with pytest.raises(ef.BadInput, match="they fill none"):
        reading(tokens, ef.Context(memory={"earlier": tokens.replace(grid=(2, 2))}))
