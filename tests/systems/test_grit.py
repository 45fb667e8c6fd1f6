"""GRiT: its ViT, pyramid, proposals with their loss, and text decoder against the authors' code; the rest by hand."""

import math

import pytest
import torch
from safetensors.torch import load_file

import everyformer as ef
from everyformer.boxes import centred, corners, kept, overlaps, regions, regions_of_levels
from everyformer.context import Context
from everyformer.costs import on_meta, parameters
from everyformer.generation import Beam, describe
from everyformer.heads.regions import GIVEN, around, moved, moves_to
from everyformer.objectives import DescribedRegions, RegionBoxes
from everyformer.objectives.regions import looks_loss, nearest, targets
from everyformer.tokens import Tokens
from support.agreement import FIXTURES, close
from support.systems import model_of, still, tiny

SMALL = {
    "image": 32, "patch": 4, "channels": 1, "width": 8, "depth": 2, "heads": 2, "window": 3, "whole": 1, "pretrained": 8,
    "hidden": 4, "groups": 2, "before": 40, "count": 30, "side": 2, "vocabulary": 20, "length": 8, "text_width": 8,
    "text_depth": 1, "text_heads": 2, "look_hidden": 6,
}  # fmt: skip


def recorded():
    kept_run = load_file(FIXTURES / "grit.safetensors")
    design = still(ef.design("grit", **SMALL)).set("head.proposals.depth", 2)
    design = design.swap("backbone.body.blocks.*.feedforward", lambda old: old.but(hidden=16))
    model = design.build(seed=0).eval()
    found = {name: each for name, each in sorted(model.named_parameters()) if not name.startswith("head.looks")}
    given = kept_run["weights"].split([each.numel() for each in found.values()])
    with torch.no_grad():
        for each, weight in zip(found.values(), given, strict=True):
            each.copy_(weight.view_as(each))
    return model, kept_run, found


def same_gradients(found, given):
    gradients = given.split([each.numel() for each in found.values()])
    for (name, each), wanted in zip(found.items(), gradients, strict=True):
        if each.grad is not None:
            assert (wanted.abs().max() > 1e-6) != ("coarser.1" in name), (
                "the one cell of the coarsest is its norm alone"
            )
            close(each.grad.flatten(), wanted, f"gradient of {name}")


def test_proposals_and_their_loss_are_the_authors():
    model, wanted, found = recorded()
    boxes = wanted["boxes"][None] / 32
    there = torch.ones(1, 6, dtype=torch.bool)
    context = Context(notes={})
    model(wanted["picture"], context=context)
    notes = context.notes
    made = targets(boxes, there, notes["cells"])
    close(made.heat[0], wanted["heat"])
    assert torch.equal(made.peaks[0], wanted["peaks"].long())
    assert torch.equal(made.near[0], wanted["near"])
    close(made.distances[0][wanted["near"]], wanted["distances"])
    loss = RegionBoxes().proposed(notes, boxes, there)
    close(loss, wanted["loss"])
    loss.sum().backward()
    of_text = [name for name in found if name.startswith("describer")]
    assert [name for name, each in found.items() if each.grad is None] == of_text
    same_gradients(found, wanted["gradients"])
    proposed = around(notes["cells"], notes["distances"])
    looked, hope, real = model.head.first(notes["heat"], proposed, [256, 64, 16, 4, 1])
    close(looked[0], (wanted["proposed"] / 32).clamp(0, 1))
    close(hope[0], wanted["hope"])
    assert real.all()


def test_what_is_said_of_a_region_is_the_authors():
    model, wanted, found = recorded()
    objective = DescribedRegions(texts=((1, 5, 6, 7, 2), (1, 9, 2)), smoothing=0.1 * 20 / 19)
    logits = model.describer(wanted["shown"], wanted["tokens"])
    close(logits, wanted["logits"])
    model.shown = lambda context, boxes: wanted["shown"][None]
    labels = torch.tensor([[[0, 0.2, 0.2, 0.1, 0.1], [1, 0.8, 0.8, 0.1, 0.1]]])
    seen = corners(labels[..., 1:])
    thing, right = nearest(seen, seen, torch.ones(1, 2, dtype=torch.bool), 0.8)
    loss = objective.beside(model, ef.objectives.regions.Found(Context(), seen, thing, right), labels)
    entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1 / 19)
    close(loss - entropy, wanted["text loss"])
    loss.sum().backward()
    same_gradients(found, wanted["gradients"])


def test_texts_and_their_likelihood_are_the_authors():
    model, wanted, _ = recorded()
    model.shown = lambda context, boxes: wanted["shown"][None]
    surely = torch.tensor([[[5.0, 0, 0.2, 0.2, 0.1, 0.1], [2.0, 0, 0.8, 0.8, 0.1, 0.1]]])
    model.head.forward = lambda tokens, context: surely
    first, second = describe(model, wanted["picture"], bos=[1], eos=4, pad=0, max_tokens=5)[0]
    said = wanted["said"].tolist()
    assert (first.tokens, second.tokens) == (said[0][1:], said[1][1:2])
    close(torch.tensor([first.score, second.score]), (surely[0, :, :2].softmax(-1)[:, 0] * wanted["likely"]).sqrt())
    both = describe(model, wanted["picture"], bos=[1], eos=4, pad=0, max_tokens=5, strategy=Beam(size=2))[0]
    assert len(both) == 4
    assert len({each.box for each in both}) == 2
    assert [each.score for each in both] == sorted((each.score for each in both), reverse=True)
    surely[..., 0] = -20
    assert describe(model, wanted["picture"], bos=[1], eos=4, pad=0, max_tokens=5) == [[]]


def test_of_boxes_with_much_in_common_the_surest_stays():
    """Greedy suppression written out, one by one (torchvision.ops.nms)."""
    generator = torch.Generator().manual_seed(0)
    boxes = corners(torch.rand(3, 40, 4, generator=generator) / 2 + 0.2)
    scores = torch.rand(3, 40, generator=generator)
    for share in (0.3, 0.5, 0.9):
        found = kept(boxes, scores, share)
        for row in range(3):
            left, stays = scores[row].argsort(descending=True).tolist(), []
            while left:
                stays.append(left.pop(0))
                left = [each for each in left if overlaps(boxes[row, stays[-1]], boxes[row, each])[0] <= share]
            assert found[row].nonzero()[:, 0].tolist() == sorted(stays)
        assert 3 < found.sum() <= 120


def test_a_region_is_shown_by_the_level_of_its_size():
    maps = [torch.randn(2, 3, side, side) for side in (64, 32, 16)]
    sides = torch.tensor([0.1, 27.9 / 64, 28.1 / 64, 55.9 / 64, 56.1 / 64])
    boxes = corners(torch.stack((torch.full((5,), 0.5), torch.full((5,), 0.5), sides, sides), -1)).expand(2, -1, -1)
    found = regions_of_levels(maps, boxes, 4)
    for number, level in enumerate((0, 0, 1, 1, 2)):
        close(found[:, number], regions(maps[level], boxes, 4)[:, number])


def test_moves_lead_to_the_box_that_is_wanted():
    boxes = corners(torch.tensor([[0.4, 0.5, 0.2, 0.3], [0.1, 0.1, 0.05, 0.1]]))
    wanted = corners(torch.tensor([[0.45, 0.4, 0.3, 0.1], [0.2, 0.1, 0.1, 0.2]]))
    moves = moves_to(boxes, wanted, 1)
    by_hand = [20 * 0.05 / 0.2, 20 * -0.1 / 0.3, 10 * math.log(1.5), 10 * math.log(1 / 3)]
    close(moves[0], torch.tensor(by_hand))
    close(moved(boxes, moves, 1), wanted)
    huge = moved(boxes[:1], torch.tensor([[0.0, 0.0, 900.0, 0.0]]), 0)
    close(centred(huge)[0, 2], torch.tensor(0.2 * 62.5))


def test_the_head_is_its_looks_written_out():
    model = model_of(tiny("grit"))
    head, picture = model.head, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    given = corners(torch.tensor([[[0.5, 0.5, 0.4, 0.3]], [[0.3, 0.4, 0.2, 0.2]]]))
    levels, notes = {}, {}
    memory = {GIVEN: Tokens(given, mask=torch.tensor([[True], [False]]))}
    answer = model(picture, context=Context(levels=levels, notes=notes, memory=memory))
    maps = [each.values.mT.unflatten(2, each.grid) for each in levels.values()]
    heat, distances = head.proposals(maps)
    counts = [each[0, 0].numel() for each in maps]
    hopes = head.first(heat, around(notes["cells"], distances), counts)[1]
    boxes, real = notes["boxes"][0], notes["real"]
    close(boxes[:, -1:], given)
    assert real[:, -1].tolist() == [True, False]
    shares = 0
    for number, look in enumerate(head.looks):
        seen = look(regions_of_levels(maps[:3], boxes, 7).flatten(0, 1)).unflatten(0, boxes.shape[:2])
        close(notes["boxes"][number], boxes)
        close(notes["looks"][number], seen)
        shares = shares + seen[..., :2].exp()[..., 0] / seen[..., :2].exp().sum(-1) / 2
        boxes = moved(boxes, seen[..., 2:], number).clamp(0, 1)
    close(answer[..., 2:], centred(boxes))
    hopes = torch.cat((hopes, torch.tensor([[1.0], [0.0]])), 1)
    sure = (shares * hopes * real).sqrt()
    stays = kept(boxes, sure, 0.5)
    close(answer[..., :2].softmax(-1)[..., 0], (sure * stays).clamp(min=1e-6))
    assert 0 < stays.sum() < stays.numel()


def test_what_the_looks_learn_by_hand():
    generator = torch.Generator().manual_seed(0)
    said, moves = torch.randn(1, 3, 6, generator=generator), torch.randn(1, 3, 4, generator=generator)
    right, real = torch.tensor([[True, False, False]]), torch.tensor([[True, True, False]])
    one = -said[0, 0, :2].log_softmax(-1)[0] + (said[0, 0, 2:] - moves[0, 0]).abs().sum()
    close(looks_loss(said, moves, right, real), ((one - said[0, 1, :2].log_softmax(-1)[1]) / 2)[None])
    boxes = corners(torch.tensor([[[0.3, 0.3, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2], [0.7, 0.7, 0.2, 0.2]]]))
    looked = corners(torch.tensor([[[0.31, 0.3, 0.2, 0.2], [0.7, 0.76, 0.2, 0.2], [0.5, 0.5, 0.1, 0.1]]]))
    thing, enough = nearest(looked, boxes, torch.tensor([[True, True, False]]), 0.6)
    assert thing[0, :2].tolist() == [0, 1]
    assert enough.tolist() == [[True, False, False]]


@torch.no_grad()
def test_things_do_not_see_one_another():
    model = model_of(tiny("grit"))
    shown, texts = torch.randn(3, 8, 2, 2), torch.randint(0, 20, (3, 5))
    before = model.describer(shown, texts)
    shown[1] += 1
    after = model.describer(shown, texts)
    close(after[[0, 2]], before[[0, 2]])
    assert (after[1] - before[1]).abs().max() > 1e-3


def test_every_part_learns_from_things_and_their_texts():
    model = model_of(tiny("grit")).train()
    labels = torch.tensor([[[1, 0.4, 0.4, 0.3, 0.4], [0, 0.7, 0.6, 0.2, 0.3]], [[-100.0, 0, 0, 0, 0]] * 2])
    pictures = torch.randn(2, 3, 32, 32)
    objective = DescribedRegions(texts=((0, 3, 1), (0, 4, 5, 1)), shares=(0.6, 0.7))
    loss = objective(model, {"inputs": pictures, "labels": labels})
    assert int(loss.count) == 2
    loss.total.backward()
    assert [name for name, each in model.named_parameters() if each.grad is None or not each.grad.any()] == []
    empty = objective(model, {"inputs": pictures[1:], "labels": labels[1:]})
    assert empty.total.isfinite()
    alone = RegionBoxes(shares=(0.6, 0.7))(model, {"inputs": pictures[1:], "labels": labels[1:]})
    close(empty.total, alone.total)


def test_sizes_are_those_of_the_official_code():
    """ViT-B, L and H without class token and last norm; their relative positions, a pyramid of 256 channels."""
    for size, width, depth, head_width, every in (
        ("base", 768, 12, 64, 3),
        ("large", 1024, 24, 64, 6),
        ("huge", 1280, 32, 80, 8),
    ):
        model = on_meta(ef.design("grit", size))
        whole = depth // every
        block = 12 * width**2 + 13 * width
        relative = 2 * head_width * ((depth - whole) * 27 + whole * 127)
        body = depth * block + relative
        assert parameters(model.backbone.body) == body
        assert parameters(model.embedding) == (3 * 256 + 1 + 196) * width
        pyramid = 4 * width**2 + 3 * (256 * width + 9 * 256**2 + 4 * 256) + 2 * (9 * 256**2 + 256)
        assert parameters(model.backbone) == body + pyramid
        looks = [type(each.mixer).__name__ for each in model.backbone.body.blocks]
        assert [number for number, each in enumerate(looks, 1) if each == "Attention"] == list(
            range(every, depth + 1, every)
        )


def test_what_does_not_fit_is_refused():
    model = model_of(tiny("grit"))
    batch = {"inputs": torch.randn(1, 3, 32, 32), "labels": torch.tensor([[[0, 0.4, 0.4, 0.3, 0.4]]])}
    with pytest.raises(ef.DoesNotFit, match="looks 3 times at regions"):
        RegionBoxes()(model, batch)
    with pytest.raises(ef.BadInput, match="a beginning and an end"):
        DescribedRegions(texts=((0,),))
    with pytest.raises(ef.BadInput, match="classes"):
        DescribedRegions(texts=((0, 1),), shares=(0.6, 0.7))(model, {**batch, "labels": batch["labels"] + 1})
    detector = ef.Design(
        ef.spec(
            ef.models.Model, **{name: tiny("grit").get(name) for name in ("width", "embedding", "backbone", "head")}
        )
    )
    with pytest.raises(ef.DoesNotFit, match=r"use models\.Described"):
        DescribedRegions(texts=((0, 1),), shares=(0.6, 0.7))(detector.build(), batch)
    with pytest.raises(ef.BadInput, match="the maps of a pass"):
        model.shown(Context(), torch.rand(1, 2, 4))
    with pytest.raises(ef.DoesNotFit, match="maps of one width"):
        ef.spec(ef.heads.Regions, proposals=ef.spec(ef.heads.CenterProposals), looks=()).build((8, 16))
