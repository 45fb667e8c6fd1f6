"""`return-of-the-encoder`: T5-like halves of Llama's layers, what the teacher tells, and where the work is."""

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.costs import flops, on_meta, parameters
from everyformer.objectives import AlignedDistillation, SequenceToSequence
from support.parity import ids, perturb, ragged
from support.parts import close
from support.systems import tiny


def attended(part, prefix, asking, given, places):
    """Grouped attention of one sequence by hand; with places, turned by rotary embeddings in halves."""
    heads, shared, width = part.heads, part.key_heads, part.head_width
    if prefix == "mixer":
        whole = part.qkv(asking)
        query, key, value = whole.split([heads * width, shared * width, shared * width], -1)
    else:
        query, (key, value) = part.query(asking), part.key_value(given).chunk(2, -1)
    said = []
    for head in range(heads):
        own = head * shared // heads
        q, k, v = (each[:, at * width : (at + 1) * width] for each, at in ((query, head), (key, own), (value, own)))
        if places is not None:
            q, k = turned(q), turned(k)
        scores = q @ k.T / width**0.5
        if places == "causal":
            scores = scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -torch.inf)
        said.append(scores.softmax(-1) @ v)
    return part.output(torch.cat(said, -1))


def turned(x):
    half = x.shape[1] // 2
    angle = torch.arange(len(x))[:, None] * 10000.0 ** (-torch.arange(half) / half)
    a, b = x[:, :half], x[:, half:]
    return torch.cat((a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()), -1)


def rms(x, norm):
    return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * norm.weight


def by_hand(model, source, target):
    """The official code's blocks for one pair."""
    x = model.source.table.weight[source]
    for block in model.encoder.blocks:
        normed = rms(x, block.residual[0].norm)
        x = x + attended(block.mixer, "mixer", normed, normed, "both")
        x = x + block.feedforward.down(F.gelu(block.feedforward.up(rms(x, block.residual[1].norm)), approximate="tanh"))
    memory = rms(x, model.encoder.norm)
    x = model.source.table.weight[target]
    for block in model.decoder.blocks:
        normed = rms(x, block.residual[0].norm)
        x = x + attended(block.mixer, "mixer", normed, normed, "causal")
        x = x + attended(block.cross[0], "cross", rms(x, block.residual[1].norm), memory, None)
        x = x + block.feedforward.down(F.gelu(block.feedforward.up(rms(x, block.residual[2].norm)), approximate="tanh"))
    return rms(x, model.decoder.norm) @ model.source.table.weight.T


def test_outputs_and_gradients_are_those_of_the_official_blocks():
    model, inputs, target = perturb(tiny("return-of-the-encoder").build(seed=0)), ids(20, 2, 7), ids(20, 2, 5, seed=1)
    found = model(inputs, target)
    expected = torch.stack([by_hand(model, *pair) for pair in zip(inputs, target, strict=True)])
    close(found, expected, 1e-5 * expected.abs().max().item())
    ours, theirs = (torch.autograd.grad(each.square().mean(), list(model.parameters())) for each in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, 1e-5 * max(1.0, b.abs().max().item()))


def test_the_published_shape_has_about_330_million_parameters():
    model = on_meta(ef.design("return-of-the-encoder"))
    assert parameters(model) == pytest.approx(330e6, rel=0.03)
    assert (len(model.encoder.blocks), len(model.decoder.blocks)) == (20, 10)


def test_a_token_more_of_the_answer_costs_the_decoder_alone():
    """Of as many layers, a decoder-only model runs all for each token that it writes; here a third runs."""
    model = on_meta(tiny("return-of-the-encoder", depth=4, decoder_depth=2))
    each = {"inputs": torch.zeros(1, 9, dtype=torch.long)}
    one, two = (flops(model, {**each, "target": torch.zeros(1, n, dtype=torch.long)}) for n in (1, 2))
    assert one["encoder"] == two["encoder"] > 0
    assert two[""] - one[""] < one["encoder"]


def pair():
    student = perturb(tiny("return-of-the-encoder").build(seed=0))
    teacher = perturb(tiny("llama").build(seed=1))
    return student, teacher


def batch(extra=0):
    """Ragged pairs, with more padding where asked for."""
    inputs, target = ids(20, 3, 12), ids(20, 3, 9, seed=1)
    mask, real = ragged(3, 12), ragged(3, 9)
    labels = ids(20, 3, 9, seed=2).masked_fill(~real, -100)
    made = {"inputs": inputs, "mask": mask, "target": target, "target_mask": real, "labels": labels}
    if extra:
        made["inputs"] = F.pad(inputs, (0, extra), value=3)
        made["mask"] = F.pad(mask, (0, extra))
    return made


def test_the_teacher_is_asked_what_comes_after_the_source_wherever_padding_stands():
    student, teacher = pair()
    objective = AlignedDistillation()
    objective.teach(teacher)
    given = batch()
    told = objective.told(given)
    for row in range(3):
        source, target = given["inputs"][row][given["mask"][row]], given["target"][row][given["target_mask"][row]]
        whole = teacher(torch.cat((source, target[1:]))[None])[0]
        close(told[row][given["target_mask"][row]], whole[len(source) - 1 :])
    close(objective.told(batch(extra=4))[given["target_mask"]], told[given["target_mask"]])
    assert student(**{k: v for k, v in given.items() if k != "labels"}).shape == told.shape


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_the_loss_is_the_sum_over_target_tokens(share):
    student, teacher = pair()
    objective = AlignedDistillation(share=share, temperature=2.0)
    objective.teach(teacher)
    given = batch()
    found = objective(student, given)
    logits = student(**{k: v for k, v in given.items() if k != "labels"})
    told, total = objective.told(given), 0.0
    for row, column in given["target_mask"].nonzero().tolist():
        p, q = (each[row, column].div(2).softmax(-1) for each in (told, logits))
        total += share * 4 * (p * (p / q).log()).sum().item()
        total -= (1 - share) * logits[row, column].log_softmax(-1)[given["labels"][row, column]].item()
    assert found.total.item() == pytest.approx(total, rel=1e-4)
    assert found.count == given["target_mask"].sum()
    if not share:
        close(found.total, SequenceToSequence()(student, given).total, 1e-3)


def test_a_teacher_of_another_vocabulary_is_refused():
    objective = AlignedDistillation()
    objective.teach(tiny("llama", vocabulary=21).build(seed=0))
    with pytest.raises(ef.DoesNotFit, match="teacher answers"):
        objective(pair()[0], batch())
