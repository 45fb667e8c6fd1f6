"""`unified-normalization`: ten steps beside the authors' code, its limits, and folding that changes nothing."""

import pytest
import torch
from safetensors.torch import load_file

import everyformer as ef
from everyformer.backbones import fold
from support.agreement import FIXTURES, close
from support.parity import perturb


@pytest.mark.parametrize("kind", ["plain", "filtered"])
def test_ten_steps_equal_the_authors(kind):
    """Past the warm-up, with padding ('plain') and with an outlier batch that the filter finds ('filtered')."""
    kept = load_file(FIXTURES / "unified.safetensors")
    norm = ef.norms.UnifiedNorm(6, warmup=5, filtered=kind == "filtered").train()
    norm.weight.data.copy_(kept["weight"])
    norm.bias.data.copy_(kept["bias"])
    mask = kept["mask"].bool() if kind == "plain" else None
    for step in range(10):
        values = kept[f"{kind}.input"][step].clone().requires_grad_()
        norm.zero_grad()
        answer = norm(values, mask)
        close(answer, kept[f"{kind}.output"][step])
        (answer * kept["cotangent"]).sum().backward()
        wanted = kept[f"{kind}.gradient"][step]
        close(values.grad / wanted.abs().max(), wanted / wanted.abs().max())
        close(norm.weight.grad, kept[f"{kind}.weight_gradient"][step])
        close(norm.bias.grad, kept[f"{kind}.bias_gradient"][step])
    close(norm.running, kept[f"{kind}.running"])
    assert int(norm.skipped) == int(kept[f"{kind}.skipped"])
    close(norm.eval()(values), kept[f"{kind}.evaluated"])


def test_without_memory_it_is_the_root_mean_square_over_the_batch():
    norm = perturb(ef.norms.UnifiedNorm(4, window=1, warmup=0).double()).train()
    values = torch.randn(2, 5, 4, dtype=torch.double, requires_grad=True)
    wanted = norm.weight * values / (values.square().mean((0, 1)) + norm.eps).sqrt() + norm.bias
    answer = norm(values)
    close(answer, wanted)
    one = torch.autograd.grad((answer**3).sum(), values)[0]
    close(one, torch.autograd.grad((wanted**3).sum(), values)[0])


def test_an_outlier_batch_moves_the_statistic_less_where_it_is_filtered():
    moved = {}
    for filtered in (False, True):
        torch.manual_seed(0)
        norm = ef.norms.UnifiedNorm(4, warmup=5, filtered=filtered).train()
        for step in range(9):
            values = torch.randn(8, 20, 4) * (1.0 if step != 8 else 100.0)
            before = norm.running.clone()
            norm(values)
        moved[filtered] = (int(norm.skipped), (norm.running - before).abs().max())
    assert (moved[False][0], moved[True][0]) == (0, 1)


def test_padding_is_not_counted():
    torch.manual_seed(0)
    values, mask = torch.randn(3, 6, 4), torch.arange(6) < torch.tensor([6, 3, 1])[:, None]
    padded, alone = ef.norms.UnifiedNorm(4).train(), ef.norms.UnifiedNorm(4).train()
    rubbish = torch.where(mask[..., None], values, 99.0)
    close(padded(rubbish, mask)[mask], alone(values[mask][None])[0])
    close(padded.running, alone.running)


def trained():
    """A small model with statistics of its own in every norm."""
    options = {
        "classes": 3,
        "image": 16,
        "patch": 4,
        "width": 32,
        "depth": 2,
        "heads": 4,
        "warmup": 2,
        "filtered": False,
    }
    model = perturb(ef.create("unified-normalization", seed=0, **options)).train()
    for seed in range(6):
        model(torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
    return model.eval()


def test_folded_it_says_the_same():
    model, pictures = trained(), torch.randn(5, 3, 16, 16)
    before, count = model(pictures), len(list(model.parameters()))
    fold(model)
    close(model(pictures), before)
    norms = [part for part in model.modules() if isinstance(part, ef.norms.UnifiedNorm)]
    assert norms == [model.backbone.norm]
    assert len(list(model.parameters())) == count - 8


def test_a_shift_needs_a_bias_to_be_folded_into():
    with pytest.raises(ef.DoesNotFit, match="build with bias=True"):
        ef.norms.UnifiedNorm(4).fold_into(torch.nn.Linear(4, 4, bias=False))
