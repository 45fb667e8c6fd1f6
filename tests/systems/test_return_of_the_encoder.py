"""`return-of-the-encoder` against the authors' model, what the teacher tells, and where the work is."""

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import everyformer as ef
from everyformer.costs import flops, on_meta, parameters
from everyformer.interop.weights import Pair, fill, layer, tensors
from everyformer.objectives import AlignedDistillation, SequenceToSequence
from support.agreement import FIXTURES
from support.parity import ids, perturb, ragged
from support.parts import close
from support.systems import tiny


def pairs():
    """Their tensors of each of ours, for one layer in each half."""
    table = [Pair("source.table.weight", ("transformer.wte.weight",))]
    for half, stack, last in (("encoder", "e", "ln_e"), ("decoder", "h", "ln_f")):
        own, layer_ = f"{half}.blocks.0", f"transformer.{stack}.0"
        attn = f"{layer_}.{'attn' if half == 'encoder' else 'causal_attn'}"
        table += layer(f"{own}.mixer.qkv", *(f"{attn}.{each}_linear" for each in "qkv"))
        table += layer(f"{own}.mixer.output", f"{attn}.out_linear")
        if half == "decoder":
            cross = f"{layer_}.cross_attn"
            table += layer(f"{own}.cross.0.query", f"{cross}.q_linear")
            table += layer(f"{own}.cross.0.key_value", f"{cross}.k_linear", f"{cross}.v_linear")
            table += layer(f"{own}.cross.0.output", f"{cross}.out_linear")
        table += layer(f"{own}.feedforward.up", f"{layer_}.mlp.fc1")
        table += layer(f"{own}.feedforward.down", f"{layer_}.mlp.fc2")
        for i in range(2 + (half == "decoder")):
            table += layer(f"{own}.residual.{i}.norm", f"{layer_}.ln{i + 1}", bias=False)
        table += layer(f"{half}.norm", f"transformer.{last}", bias=False)
    return table


def test_equals_the_authors_model():
    kept = load_file(FIXTURES / "mu.safetensors")
    theirs = {kind: {k.removeprefix(f"{kind}."): v for k, v in kept.items() if k.startswith(f"{kind}.")}
              for kind in ("weight", "gradient")}  # fmt: skip
    model = ef.create(
        "return-of-the-encoder", vocabulary=13, width=12, hidden=16, depth=1, decoder_depth=1, heads=4, key_heads=2,
        head_width=6, dropout=0.0,
    )  # fmt: skip
    fill(model, pairs(), theirs["weight"])
    output = model(kept["input"], kept["target"])
    close(output, kept["output"], 1e-5 * kept["output"].abs().max().item())
    (output * kept["cotangent"]).sum().backward()
    found = tensors(model)
    for pair in pairs():
        wanted = pair.read(theirs["gradient"])
        close(found[pair.ours].grad, wanted, 1e-5 * max(1.0, wanted.abs().max().item()))


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


def two():
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
    student, teacher = two()
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
    student, teacher = two()
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
        objective(two()[0], batch())
