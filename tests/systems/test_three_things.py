"""`three-things-vit` against timm's parallel blocks; the stem keeps to its patch; attention alone is left to train."""

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop.weights import Pair, fill, layer, tensors
from everyformer.published.three_things import attention_only
from support.agreement import close, perturb, same_answers
from support.systems import model_of, tiny


def pairs(depth):
    table = []
    for i in range(depth):
        ours, theirs = f"blocks.{i}", f"blocks.{i}"
        for k in (0, 1):
            for kind, rank in (("attns", k), ("ffns", 2 + k)):
                table += layer(f"{ours}.residual.{rank}.norm", f"{theirs}.{kind}.{k}.norm")
                table.append(Pair(f"{ours}.residual.{rank}.branches.0.factor", (f"{theirs}.{kind}.{k}.ls.gamma",)))
            table += layer(f"{ours}.mixers.{k}.qkv", f"{theirs}.attns.{k}.attn.qkv")
            table += layer(f"{ours}.mixers.{k}.output", f"{theirs}.attns.{k}.attn.proj")
            table += layer(f"{ours}.feedforwards.{k}.up", f"{theirs}.ffns.{k}.mlp.fc1")
            table += layer(f"{ours}.feedforwards.{k}.down", f"{theirs}.ffns.{k}.mlp.fc2")
    return table


def test_parallel_blocks_equal_timm():
    timm = pytest.importorskip("timm", exc_type=ImportError)
    whole = timm.create_model(
        "vit_small_patch16_18x2_224", pretrained=False, img_size=16, embed_dim=24, depth=2, num_heads=3
    )
    theirs = perturb(torch.nn.ModuleDict({"blocks": whole.blocks}))
    design = ef.design("three-things-vit", width=24, depth=2, heads=3).get("backbone").but(norm=None)
    ours = design.build(24)
    fill(ours, pairs(2), tensors(theirs))
    values = torch.randn(2, 5, 24)
    answer, expected = ours(ef.Tokens(values)).values, theirs["blocks"](values)
    same_answers(answer, expected)
    answer.square().sum().backward()
    expected.square().sum().backward()
    given = {name: tensor.grad for name, tensor in tensors(theirs).items()}
    for pair in pairs(2):
        close(tensors(ours)[pair.ours].grad, pair.read(given), f"gradient of {pair.ours}")


def test_two_branches_have_the_parameters_of_two_blocks():
    """And ViT-S of 36 layers its 64.6 million, linear patches in place of the stem (timm's copy has 64,670,440)."""
    stem = ef.design("three-things-vit", "small-18x2")
    plain = ef.spec(ef.embeddings.Patches, first=1, positions=stem.get("embedding.positions"))
    assert parameters(on_meta(stem.swap("embedding", plain))) == pytest.approx(64_670_440, rel=1e-4)
    one = ef.design("vit", image=32, patch=16, width=24, depth=4, heads=3)
    two = ef.design("three-things-vit", image=32, width=24, depth=2, heads=3)
    scales = 8 * 24
    assert parameters(on_meta(two).backbone) == parameters(on_meta(one).backbone) + scales


def test_the_stem_is_the_papers_and_keeps_to_its_patch():
    stem = ef.spec(ef.embeddings.PatchwiseStem, image=32).build(16).eval()
    perturb(stem)
    for norm in stem.norms:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    pictures = torch.randn(2, 3, 32, 32, requires_grad=True)
    tokens = stem(pictures)
    x = pictures
    for i, (conv, norm) in enumerate(zip(stem.convs, stem.norms)):
        kernel = (4, 2, 2)[i]
        x = F.conv2d(x if i == 0 else 0.5 * x * (1 + torch.erf(x / 2**0.5)), conv.weight, conv.bias, kernel)
        shape = (1, -1, 1, 1)
        x = (x - norm.running_mean.view(shape)) / (norm.running_var.view(shape) + 1e-5).sqrt()
        x = x * norm.weight.view(shape) + norm.bias.view(shape)
    torch.testing.assert_close(tokens.values, x.flatten(2).mT, rtol=1e-5, atol=1e-5)
    (told,) = torch.autograd.grad(tokens.values[0, 1].square().sum(), pictures)
    assert (told[0].abs().sum(0) > 0)[:16, 16:].float().mean() > 0.95
    told[0, :, :16, 16:] = 0
    assert told.abs().max() == 0


def test_attention_alone_is_left_to_train():
    model = model_of(tiny("three-things-vit"))
    left = {name for name, p in model.named_parameters() if p.requires_grad}
    kept = attention_only(model)
    now = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(kept) == len(now) < len(left)
    assert all(".mixers." in name or name.startswith("head.") for name in now)
    width = model.embedding.width
    inside = [p for name, p in model.backbone.named_parameters() if p.requires_grad and p.dim() == 2]
    assert sum(p.numel() for p in inside) == 2 * 2 * 4 * width**2
