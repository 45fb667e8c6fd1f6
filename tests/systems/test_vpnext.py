"""VPNeXt by the paper's operations: a plain ViT, its own finer patches, and the last level's view replayed."""

import math

import pytest
import torch
import torch.nn.functional as F

import everyformer as ef
from everyformer.context import Context
from everyformer.convolution import deformed
from everyformer.objectives import DeepPixelClasses, PixelClasses
from support.agreement import close, perturb, same_answers
from support.systems import tiny


def test_the_body_is_the_plain_vit():
    """With its weights: the last level is what it says, and the finer patches are those of a picture moved on."""
    ours, theirs = tiny("vpnext").build(seed=0).eval(), tiny("vit", depth=3, patch=8).build(seed=1).eval()
    perturb(theirs)
    with torch.no_grad():
        ours.embedding.project.load_state_dict(theirs.embedding.project.state_dict())
        body = ours.backbone.stages
        body[2].first.copy_(theirs.embedding.first)
        body[2].places.load_state_dict(theirs.embedding.positions.state_dict())
        for stage, block in zip(body[2:], theirs.backbone.blocks, strict=True):
            stage.blocks[0].load_state_dict(block.state_dict())
        body[4].norm.load_state_dict(theirs.backbone.norm.state_dict())
    pictures = torch.randn(2, 3, 16, 16)
    same_answers(ours.features(pictures).values, theirs.features(pictures).values)
    fine = ours.stages(pictures)["backbone.stages.0"].values.unflatten(1, (8, 8))
    moved = theirs.embedding.cut(F.pad(pictures, (0, 6, 0, 6))[..., 6:, 4:][..., :8, :8]).values
    close(fine[:, 3, 2], moved[:, 0])


def deformed_by_hand(cells, offsets, weight):
    """Equation 2 of Dai et al.: sum over taps of w(p_n) x(p_0 + p_n + offset), x between cells bilinear and 0 beyond."""
    rows, columns = cells.shape[1:]
    made = torch.zeros(weight.shape[0], rows, columns)

    def at(row, column):
        found = torch.zeros(len(cells))
        for y in range(math.floor(row), math.floor(row) + 2):
            for x in range(math.floor(column), math.floor(column) + 2):
                if 0 <= y < rows and 0 <= x < columns:
                    found = found + (1 - abs(row - y)) * (1 - abs(column - x)) * cells[:, y, x]
        return found

    for y in range(rows):
        for x in range(columns):
            for tap in range(9):
                down, right = offsets[2 * tap : 2 * tap + 2, y, x].tolist()
                made[:, y, x] += weight[:, :, tap // 3, tap % 3] @ at(y + tap // 3 - 1 + down, x + tap % 3 - 1 + right)
    return made


def test_a_deformed_convolution_equals_its_equation():
    generator = torch.Generator().manual_seed(0)
    cells, weight = torch.randn(1, 3, 4, 5, generator=generator), torch.randn(2, 3, 3, 3, generator=generator)
    offsets = torch.randn(1, 18, 4, 5, generator=generator)
    close(deformed(cells, offsets, weight)[0], deformed_by_hand(cells[0], offsets[0], weight))
    close(deformed(cells, torch.zeros_like(offsets), weight), F.conv2d(cells, weight, padding=1))


def test_what_is_replayed_equals_its_equations():
    up = ef.spec(ef.heads.UShaped, classes=3, hidden=(), levels=(-1,))
    head = ef.spec(ef.heads.ContextReplay, classes=3, head=up, levels=(0, 1), inner=4).build((6, 6, 5))
    perturb(head, std=0.3)
    *given, last = torch.randn(2, 17, 4, 5, generator=torch.Generator().manual_seed(0)).split((6, 6, 5), 1)
    offsets = F.conv2d(last, head.offsets.weight, head.offsets.bias, padding=1)
    found = head.replayed(last, given)
    for i, each in enumerate(given):
        close(found[i][0], deformed_by_hand(each[0], offsets[0], head.near[i].weight))
        cells = last[0].flatten(1).mT
        asks, shows = cells @ head.asks.weight.mT + head.asks.bias, cells @ head.shows.weight.mT + head.shows.bias
        affinity = (asks @ shows.mT / math.sqrt(4)).softmax(-1)
        values = each[0].flatten(1).mT @ head.far[i].weight.mT + head.far[i].bias
        close(found[2 + i][0].flatten(1).mT, affinity @ values)


def test_nothing_is_replayed_where_nobody_asks():
    """The same answer, bit by bit, and the cost of the head alone."""
    model = perturb(tiny("vpnext").build(seed=0))
    bare = tiny("vpnext").swap("head", tiny("vpnext").get("head.head")).build().eval()
    state = {name.replace("head.head.", "head."): each for name, each in model.state_dict().items()}
    bare.load_state_dict({name: each for name, each in state.items() if name in bare.state_dict()})
    pictures, notes = torch.randn(2, 3, 16, 16), {}
    assert torch.equal(model(pictures), bare(pictures))
    assert torch.equal(model(pictures, context=Context(notes=notes)), bare(pictures))
    assert notes["maps"].shape == (4, 2, 3, 2, 2)
    counted = [
        ef.costs.flops(design.build(device="meta"))[""] for design in (tiny("vpnext"), ef.designs.design_of(bare))
    ]
    assert counted[0] == counted[1]


def test_the_loss_of_what_is_replayed_reaches_earlier_blocks_and_the_last_one():
    model = perturb(tiny("vpnext").build(seed=0))
    batch = {"inputs": torch.randn(2, 3, 16, 16), "labels": torch.randint(0, 3, (2, 16, 16))}
    plain, deep = PixelClasses()(model, batch), DeepPixelClasses(share=0.5)(model, batch)
    notes = {}
    model(batch["inputs"], context=Context(notes=notes))
    beside = [
        F.cross_entropy(F.interpolate(each, (16, 16), mode="bilinear"), batch["labels"]) for each in notes["maps"]
    ]
    close(deep.total / deep.count, plain.total / plain.count + 0.5 * torch.stack(beside).mean())
    (deep.total - plain.total).backward()
    for path in (
        "head.offsets.weight",
        "head.asks.weight",
        *(f"backbone.stages.{i}.blocks.0.mixer.qkv.weight" for i in (2, 4)),
    ):
        assert model.get_parameter(path).grad.abs().max() > 0, path
    assert model.get_parameter("head.head.classify.weight").grad.abs().max() < 1e-6


def test_what_does_not_fit_is_refused():
    with pytest.raises(ef.EveryformerError, match=r"before the last of 3; given \(2, 2\)"):
        tiny("vpnext", replayed=(2, 2))
    with pytest.raises(ef.DoesNotFit, match="a multiple of the stride; given patch=8, stride=3"):
        ef.spec(ef.embeddings.FinePatches, patch=8, stride=3).build(4)
    with pytest.raises(ef.DoesNotFit, match="ConvMerging"):
        ef.spec(ef.backbones.Thinning).build(8, 4)
    model, batch = tiny("segmenter").build(), {"inputs": torch.randn(1, 3, 16, 16)}
    with pytest.raises(ef.DoesNotFit, match="notes no maps"):
        DeepPixelClasses()(model, {**batch, "labels": torch.zeros(1, 16, 16, dtype=torch.long)})
