"""`hypothesis-c-across`: a bank of what was said of other pictures, who finds what in it, and how it is kept."""

import pytest
import torch
from safetensors.torch import load_model, save_model

import everyformer as ef
from everyformer.backbones import keeping
from everyformer.objectives import Remembered
from support.agreement import close, perturb

SIZES = {"classes": 3, "image": 8, "channels": 1, "patch": 4, "width": 16, "depth": 2, "heads": 2}


def made(**options):
    return perturb(ef.create("hypothesis-c-across", **{**SIZES, "capacity": 6, "keep": 2, **options}), std=0.3)


def pictures(count=4, seed=0):
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def shown(model, ids, seed=0):
    """The model, once it has been shown so many pictures with these ids."""
    with keeping(model, torch.tensor(ids), torch.tensor(ids) % 3), torch.no_grad():
        model(pictures(len(ids), seed))
    return model


def reader(model):
    return model.backbone.body.blocks[-1].mixer


def test_an_empty_bank_and_a_closed_gate_are_the_vit():
    model = made()
    plain = ef.create("vit", **SIZES).eval()
    kept = {name.replace("backbone.body.", "backbone."): each for name, each in model.state_dict().items()}
    plain.load_state_dict({name: kept[name] for name in plain.state_dict()})
    wanted = plain(pictures())
    assert torch.equal(model(pictures()), wanted)
    shown(model, [0, 1, 2])
    assert (model(pictures()) - wanted).abs().max() > 1e-3
    reader(model).gate.data.fill_(-float("inf"))
    assert torch.equal(model(pictures()), wanted)


def test_the_gate_begins_nearly_closed():
    assert (reader(ef.create("hypothesis-c-across", **SIZES)).gate == -4).all()


@pytest.mark.parametrize("keep", [2, 9])
def test_heads_read_their_best_states_and_never_their_own(keep):
    """Written out, head by head and picture by picture, over keys and values that are formed; 9 of 6 is cross-attention."""
    model = shown(made(keep=keep), [0, 1, 2, 3, 4, 5])
    part, held = reader(model), model.backbone.bank
    given = torch.randn(3, 5, 16)
    ids = torch.tensor([4, 7, 0])
    memory = {"bank": held(3, ids)}
    found = part(ef.Tokens(given), ef.Context(memory=memory))
    states = held.values[:, 0] + held.names.weight[held.labels]
    keys, values = part.key_value(states).chunk(2, -1)
    query, key, value = part.qkv(given).chunk(3, -1)
    share = part.gate.sigmoid()
    for b, own in enumerate(ids.tolist()):
        others = [i for i in range(6) if int(held.ids[i]) != own]
        assert len(others) == 6 - (own < 6)
        mixed = torch.empty(5, 16)
        for h in range(2):
            cut = slice(8 * h, 8 * h + 8)
            local = (query[b, :, cut] @ key[b, :, cut].T / 8**0.5).softmax(-1) @ value[b, :, cut]
            for n in range(5):
                scores = keys[others][:, cut] @ query[b, n, cut] / 8**0.5
                best = scores.argsort(descending=True)[:keep]
                retrieved = scores[best].softmax(0) @ values[others][best][:, cut]
                mixed[n, cut] = share[h] * retrieved + (1 - share[h]) * local[n]
        close(found[b], part.output(mixed))


def test_a_picture_alone_in_the_bank_is_a_stranger_to_itself():
    model, context = made(), ef.Context(ids=torch.tensor([5]))
    before = model(pictures(1))
    shown(model, [5])
    assert torch.equal(model(pictures(1), context=context), before)
    assert not torch.equal(model(pictures(1)), before)


def test_the_oldest_leave_first_and_none_is_held_twice():
    held = made().backbone.bank

    def write(*ids):
        rows = torch.tensor(ids)
        held.write(rows[:, None, None].expand(-1, 1, 16).float(), rows, rows % 3)

    write(0, 1, 2, 3)
    write(4, 5, 6)
    assert held.ids.tolist() == [6, 1, 2, 3, 4, 5]
    write(3)
    assert held.ids.tolist() == [6, 3, 2, -1, 4, 5]
    write(*range(10, 18))
    assert sorted(held.ids.tolist()) == [12, 13, 14, 15, 16, 17]
    assert held.values[:, 0, 0].tolist() == held.ids.tolist()
    assert held.labels.tolist() == (held.ids % 3).tolist()


def test_it_goes_on_from_a_file_as_it_was(tmp_path):
    model = shown(made(), [0, 1, 2, 3])
    save_model(model, tmp_path / "model.safetensors")
    other = ef.create("hypothesis-c-across", **SIZES, capacity=6, keep=2, seed=1).eval()
    load_model(other, tmp_path / "model.safetensors")
    for each in (model, other):
        shown(each, [7, 8, 9], seed=1)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(model.buffers(), other.buffers(), strict=True))
    assert torch.equal(model(pictures()), other(pictures()))


def test_learning_fills_the_bank_and_sends_it_no_gradient():
    model = made().train()
    objective = Remembered()
    for step in range(2):
        ids = torch.arange(3) + 3 * step
        batch = {"inputs": pictures(3, step), "labels": ids % 3, "ids": ids}
        loss = objective(model, batch)
        loss.total.backward()
    bank, part = model.backbone.bank, reader(model)
    assert bank.ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert not bank.values.requires_grad
    assert all(each.grad.abs().max() > 0 for each in (part.gate, part.key_value.weight, bank.names.weight))
    assert not any(module._forward_hooks for module in model.modules())
    held = bank.ids.clone()
    plain = {name: each for name, each in batch.items() if name != "ids"}
    close(objective.eval()(model.eval(), plain).total, torch.nn.functional.cross_entropy(
        model(batch["inputs"]), batch["labels"], reduction="sum"))  # fmt: skip
    assert torch.equal(bank.ids, held)


def test_an_index_finds_what_is_there_now():
    pytest.importorskip("faiss")
    model = shown(made(), [0, 1, 2, 3])
    wanted = model(pictures())
    reader(model).search = ef.mixers.FaissSearch("Flat")
    close(model(pictures()), wanted)
    shown(model, [4, 5], seed=2)
    found = model(pictures())
    reader(model).search = ef.mixers.ExactSearch()
    close(found, model(pictures()))


def test_what_cannot_be_kept_is_refused():
    model = made()
    with pytest.raises(ef.BadInput, match="give their labels"), keeping(model, torch.arange(4)):
        model(pictures())
    long = ef.design("hypothesis-c-across", **SIZES).set("backbone.bank.each", 9).build()
    with pytest.raises(ef.BadInput, match="holds 9 states of each sample.*given .4, 5. states and 4 ids"):
        shown(long, [0, 1, 2, 3])
    with (
        pytest.raises(ef.DoesNotFit, match="no backbones.Remembering"),
        keeping(ef.create("vit", **SIZES), torch.arange(4)),
    ):
        pass
    with pytest.raises(ef.BadInput, match="tells them apart by 'ids'"):
        Remembered()(model, {"inputs": pictures(), "labels": torch.zeros(4).long()})
    with pytest.raises(ValueError, match="at least 1 sample"):
        ef.backbones.Bank(16, capacity=0)
    with pytest.raises(ValueError, match="keep is at least 1"):
        ef.mixers.MemorizingAttention(16, heads=2, keep=0)
