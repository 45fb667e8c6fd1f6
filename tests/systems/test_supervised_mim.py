"""`supervised-mim`: two losses, of which one sees only hidden patches, and nothing of the second in use."""

import pytest
import torch
from torch.nn import functional as F

import everyformer as ef
from everyformer.costs import flops, on_meta
from everyformer.objectives import ClassesAndWords, Classification, HiddenWords
from support.systems import model_of, tiny


def case():
    model = model_of(tiny("supervised-mim"))
    pictures, labels = torch.randn(4, 3, 16, 16), torch.tensor([0, 1, 2, 1])
    hidden = torch.rand(4, 16) < 0.5
    objective = ClassesAndWords(patch=4, words=6, weight=0.7)
    objective.learn(pictures)
    return model, objective, {"inputs": pictures, "labels": labels, "hidden": hidden}


def test_the_loss_is_the_sum_of_both():
    model, objective, batch = case()
    hidden = batch["hidden"]
    tokens = model.features(batch["inputs"], hidden=hidden)
    classes = model.head.head(tokens)
    words = model.head.words(model.head.decoder(tokens).values)
    named = objective.named(batch["inputs"])
    missed = F.cross_entropy(words.flatten(0, 1), named.flatten(), reduction="none").view(4, 16)
    each = [missed[i][hidden[i]].mean() for i in range(4)]
    expected = F.cross_entropy(classes, batch["labels"], reduction="sum") + 0.7 * sum(each)
    torch.testing.assert_close(objective(model, batch).total, expected, rtol=1e-5, atol=1e-5)


def test_with_nothing_hidden_it_is_the_supervised_loss():
    model, objective, batch = case()
    batch["hidden"] = torch.zeros(4, 16, dtype=torch.bool)
    plain = Classification()(model, {"inputs": batch["inputs"], "labels": batch["labels"]})
    torch.testing.assert_close(objective(model, batch).total, plain.total, rtol=1e-6, atol=1e-6)


def test_words_are_the_nearest_and_learnt_from_patches():
    objective = HiddenWords(patch=2, words=3)
    with pytest.raises(ef.EveryformerError, match=r"call objective\.learn\(pictures\)"):
        objective.named(torch.zeros(1, 1, 4, 4))
    flat = torch.tensor([0.0, 1.0, 5.0])[torch.randint(0, 3, (20, 1, 2, 2))]
    pictures = flat.repeat_interleave(2, 2).repeat_interleave(2, 3)
    objective.learn(pictures)
    assert sorted(objective.codebook.mean(1).round().tolist()) == [0, 1, 5]
    torch.testing.assert_close(objective.codebook[objective.named(pictures)].mean(-1), flat.flatten(1))


def test_in_use_the_decoder_costs_nothing():
    design = tiny("supervised-mim")
    deeper = design.set("head.decoder.blocks", design.get("head.decoder.blocks") * 4)
    assert flops(on_meta(deeper))[""] == flops(on_meta(design))[""]


def test_a_head_that_is_silent_is_refused():
    _, objective, batch = case()
    silent = tiny("supervised-mim").set("head", ef.spec(ef.heads.ClassHead, classes=3, pool=ef.spec(ef.heads.Mean)))
    with pytest.raises(ef.DoesNotFit, match=r"give it heads\.WordsBeside"):
        objective(silent.build(), batch)


def test_a_model_of_fewer_words_is_refused():
    model = ef.create("beit", visual_words=4, image=16, patch=4, width=32, depth=1, heads=2)
    objective = HiddenWords(patch=4, words=6)
    pictures = torch.randn(4, 3, 16, 16)
    objective.learn(pictures)
    with pytest.raises(ef.DoesNotFit, match=r"answers \(4, 16, 4\); expected \(B, 16, 6\)"):
        objective(model, {"inputs": pictures})
