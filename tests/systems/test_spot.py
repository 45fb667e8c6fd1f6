"""SPOT against the authors' code, its orders, and what teaches a student."""

from itertools import permutations

import pytest
import torch
from safetensors.torch import load_file

import everyformer as ef
from everyformer.context import Context
from everyformer.costs import on_meta, parameters
from everyformer.grids import places_of
from everyformer.heads.slots import ways
from everyformer.interop.weights import Pair, fill, layer
from everyformer.objectives import RebuiltCells, SelfTaughtSlots
from everyformer.objectives.slots import entropy
from everyformer.tokens import Tokens
from support.agreement import FIXTURES, close, same_gradients
from support.systems import model_of, tiny

GRID = (4, 4)
OURS, THEIRS = "body.blocks.*", "dec.blocks.*"
GRU = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def table():
    """Which of our tensors is which of theirs."""
    slots, rounds = "slot_attn", "slot_attn.slot_attention"
    pairs = [Pair("orders.weight", ("bos_tokens",)), Pair("slots.start.weight", (f"{slots}.slots_init.weight",))]
    pairs += layer("slots.norm", f"{slots}.layer_norm")
    for i in range(2):
        pairs += layer(f"slots.enter.{i}", f"{slots}.mlp.{2 * i}") + layer(f"slots.mlp.{i}", f"{rounds}.mlp.{2 * i}")
    for ours, theirs in (("cell", "inputs"), ("slot", "slots"), ("mlp", "mlp")):
        pairs += layer(f"slots.{ours}_norm", f"{rounds}.norm_{theirs}")
    for name in ("query", "key", "value"):
        pairs += layer(f"slots.{name}", f"{rounds}.project_{name[0]}", bias=False)
    pairs += [Pair(f"slots.gru.{name}", (f"{rounds}.gru.{name}",)) for name in GRU]
    for ours, theirs in (("enter", "input_proj"), ("of_slots", "slot_proj")):
        pairs += layer(f"{ours}.0", f"{theirs}.0", bias=False) + layer(f"{ours}.1", f"{theirs}.1")
    own, cross = f"{THEIRS}.self_attn", f"{THEIRS}.encoder_decoder_attn"
    pairs += layer(f"{OURS}.mixer.qkv", *(f"{own}.proj_{x}" for x in "qkv"), bias=False)
    pairs += layer(f"{OURS}.mixer.output", f"{own}.proj_o", bias=False)
    pairs += layer(f"{OURS}.cross.0.query", f"{cross}.proj_q", bias=False)
    pairs += layer(f"{OURS}.cross.0.key_value", f"{cross}.proj_k", f"{cross}.proj_v", bias=False)
    pairs += layer(f"{OURS}.cross.0.output", f"{cross}.proj_o", bias=False)
    pairs += layer(f"{OURS}.feedforward.up", f"{THEIRS}.ffn.0") + layer(f"{OURS}.feedforward.down", f"{THEIRS}.ffn.2")
    for k, norm in enumerate((own, cross, f"{THEIRS}.ffn")):
        pairs += layer(f"{OURS}.residual.{k}.norm", f"{norm}_layer_norm")
    return [*pairs, *layer("enter.2", "dec.blocks.0.self_attn_layer_norm"), *layer("body.norm", "dec.layer_norm")]


def small(**more):
    """The head of a small design."""
    return ef.design(
        "spot-object-centric", image=16, patch=4, width=8, depth=1, heads=2, slots=3, slot_width=6, slot_hidden=10,
        decoder_depth=2, decoder_heads=2, **more,
    )  # fmt: skip


def cells_of(values):
    return Tokens(values, positions=places_of(GRID, values.device), grid=GRID)


def told(head, values, which):
    """What the head says of cells in the order of that number."""
    notes = {}
    head.which = lambda context, device: torch.tensor([which])
    return head(cells_of(values), Context(notes=notes)), notes


def test_masks_slots_and_gradients_are_those_of_the_authors():
    """By rows and in a spiral; slots begin as learned vectors, and the gradient goes past all rounds but the last."""
    kept = load_file(FIXTURES / "spot.safetensors")
    design = small().swap("head.slots", lambda old: ef.spec(ef.heads.LearnedSlots, **old.options))
    head = design.get("head").build(8).eval()
    fill(head, table(), {key[7:]: value for key, value in kept.items() if key.startswith("weight.")})
    for name, which in (("rows", 0), ("spiral", 8)):
        masks, notes = told(head, kept["cells"], which)
        close(masks, kept[f"{name}.masks"], "masks")
        close(notes["rebuilt"], kept[f"{name}.rebuilt"], "rebuilt")
        loss = (notes["rebuilt"] - notes["cells"]).square().mean()
        close(loss, kept[f"{name}.loss"], "loss")
    close(notes["scores"], kept["scores"], "scores")
    close(head.slots(kept["cells"])[0], kept["slots"], "slots")
    (loss + (masks * kept["cotangent"]).sum() + 0.1 * notes["scores"].square().sum()).backward()
    same_gradients(head, table(), {key[9:]: value for key, value in kept.items() if key.startswith("gradient.")})


def test_orders_are_those_of_the_authors_and_go_through_every_cell():
    assert torch.equal(ways(GRID, torch.device("cpu")), load_file(FIXTURES / "spot.safetensors")["orders"].long())
    found = ways((3, 5), torch.device("cpu"))
    assert torch.equal(found.sort(1).values, torch.arange(15).expand(9, -1))
    assert len({tuple(each.tolist()) for each in found}) == 9
    rows, columns = found // 5, found % 5
    steps = rows[-1].diff().abs() + columns[-1].diff().abs()
    assert torch.equal(steps, torch.ones(14, dtype=torch.long))


@pytest.mark.parametrize("which", [0, 2, 8])
def test_a_cell_is_rebuilt_of_those_before_it_and_the_slots_alone(which):
    head = small().get("head").build(8).eval()
    values = torch.randn(1, 16, 8, generator=torch.Generator().manual_seed(0))
    slots = head.slots(values)
    head.slots.forward = lambda cells, context: slots
    order = ways(GRID, torch.device("cpu"))[which]
    before = told(head, values, which)[1]["rebuilt"]
    for at in (0, 7, 15):
        changed = values.clone()
        changed[:, order[at]] += 1
        after = told(head, changed, which)[1]["rebuilt"]
        close(after[:, order[: at + 1]], before[:, order[: at + 1]])
        assert at == 15 or ((after - before)[:, order[at + 1 :]].abs().amax(-1) > 1e-6).all()


def test_slots_in_another_order_are_masks_in_that_order():
    """What a slot begins as is all that tells it from others; all of them together take each cell once."""
    slots = ef.heads.LearnedSlots(8, slots=4, slot_width=6, hidden=10)
    values = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    found, scores = slots(values)
    order = torch.tensor([2, 0, 3, 1])
    with torch.no_grad():
        slots.start.weight.copy_(slots.start.weight[order])
    again, others = slots(values)
    close(again, found[:, order])
    close(others, scores[:, order])


def test_drawn_slots_are_of_the_law_that_is_learnt():
    slots = ef.heads.SlotAttention(8, slots=400, slot_width=6)
    for training in (True, False):
        first = slots.train(training).first(2, None)
        assert (first[0] != first[1]).any() == training
        assert (first[0].mean(0) - slots.start.mean).abs().max() < 0.3 * slots.start.deviation.exp().max()
        assert (first[0].std(0) / slots.start.deviation.exp() - 1).abs().max() < 0.2


def test_rounds_are_those_of_slot_attention():
    """Written out, slot by slot and cell by cell, from the first slots of one that draws them."""
    slots = ef.heads.SlotAttention(8, slots=3, slot_width=6, iterations=2, hidden=10).eval()
    values = torch.randn(1, 5, 8, generator=torch.Generator().manual_seed(0))
    cells = slots.cell_norm(slots.enter(slots.norm(values)))[0]
    now = slots.first(1, None)[0]
    for _ in range(2):
        normed = slots.slot_norm(now)
        scores = torch.stack([torch.stack([slots.query(s) @ slots.key(c) / 6**0.5 for c in cells]) for s in normed])
        shares = torch.stack([scores[:, n].exp() / scores[:, n].exp().sum() for n in range(5)], 1)
        means = torch.stack([sum(w * slots.value(c) for w, c in zip(row, cells)) / row.sum() for row in shares])
        now = slots.gru(means, now)
        now = now + slots.mlp(slots.mlp_norm(now))
    found, last = slots(values)
    close(found[0], now, "slots")
    close(last[0], scores, "scores")


def test_a_teacher_says_whose_each_cell_is():
    """Of all ways to name its masks that which has most in common with ours is taken."""
    scores = torch.randn(3, 3, 10, generator=torch.Generator().manual_seed(0))
    masks = torch.randint(0, 3, (3, 10), generator=torch.Generator().manual_seed(1))
    for row in range(3):
        ours = scores[row].argmax(0)

        def common(names, row=row, ours=ours):
            pairs = [((ours == slot) & (masks[row] == mask), (ours == slot) | (masks[row] == mask))
                     for mask, slot in enumerate(names)]  # fmt: skip
            return sum(float(both.sum() / either.sum().clamp(min=1)) for both, either in pairs)

        names = torch.tensor(max(permutations(range(3)), key=common))
        wanted = torch.nn.functional.cross_entropy(scores[row].T, names[masks[row]])
        close(entropy(scores[row : row + 1], masks[row : row + 1])[0], wanted)
    certain = 1e4 * torch.nn.functional.one_hot((masks + 1) % 3, 3).mT.float()
    assert entropy(certain, masks).abs().max() == 0


def test_a_student_learns_from_cells_and_from_its_teacher():
    teacher, student = (model_of(tiny("spot-object-centric"), seed=seed) for seed in (0, 1))
    batch = {"inputs": torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))}
    with pytest.raises(ef.EveryformerError, match="has no teacher"):
        SelfTaughtSlots()(student, batch)
    objective = SelfTaughtSlots(share=0.5)
    objective.teach(teacher)
    notes = {}
    student(**batch, context=Context(notes=notes))
    loss = objective(student, batch)
    rebuilt = RebuiltCells()(student, batch)
    close(rebuilt.total, (notes["rebuilt"] - notes["cells"]).square().mean((1, 2)).sum())
    told = teacher(**batch).flatten(2).argmax(1)
    close(loss.total, rebuilt.total + 0.5 * entropy(notes["scores"], told).sum())
    assert loss.count == rebuilt.count == 2


def test_the_size_is_that_of_its_parts():
    """A ViT-B/16 without its last norm and its classes, and of the head what the settings of the paper make."""
    body = parameters(on_meta(ef.design("vit", classes=1))) - 2 * 768 - 769
    model = on_meta(ef.design("spot-object-centric"))
    assert parameters(model) - parameters(model.head) == body
    d, e, m = 768, 256, 1024
    slots = 2 * d + 2 * (d * d + d) + 2 * d + 4 * e + e * e + 2 * d * e + 6 * e * e + 6 * e + 2 * e * m + m + e + 2 * e
    block = 8 * d * d + 8 * d * d + 5 * d + 6 * d
    assert parameters(model.head) == slots + 9 * d + d * d + e * d + 6 * d + 4 * block - 2 * d + 2 * d


def test_what_it_cannot_be_is_refused():
    with pytest.raises(ef.DoesNotFit, match="orders is a number from 1 to 9"):
        small(orders=10).get("head").build(8)
    bare = small().set("head.body.blocks.1.cross.0.steps", ())
    with pytest.raises(ef.DoesNotFit, match="notes where it looked"):
        bare.get("head").build(8)(cells_of(torch.randn(1, 16, 8)))
    with pytest.raises(ef.DoesNotFit, match="rebuilds cells"):
        RebuiltCells()(
            ef.create("vit", image=16, patch=4, width=8, depth=1, heads=2, classes=2),
            {"inputs": torch.randn(1, 3, 16, 16)},
        )
