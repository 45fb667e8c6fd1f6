from __future__ import annotations

import pytest
import torch

import everyformer as ef
from everyformer.errors import BadInput, UnknownName
from support.parts import close
from support.rooms import example
from support.systems import model_of, tiny


@pytest.fixture
def model():
    return model_of(tiny("gpt"))


def test_paths_are_those_of_the_design_with_its_wildcards(model):
    batch = example(model, 2)
    with ef.interpret.record(model, "backbone.blocks.*.mixer.weights", "backbone.blocks.0.residual.input") as seen:
        answer = model(**batch)
    assert list(seen) == [
        "backbone.blocks.0.mixer.weights", "backbone.blocks.0.residual.0.input", "backbone.blocks.0.residual.1.input",
        "backbone.blocks.1.mixer.weights",
    ]  # fmt: skip
    weights = seen["backbone.blocks.1.mixer.weights"]
    assert weights.shape == (2, 4, 16, 16)
    close(weights.sum(-1), torch.ones(2, 4, 16))
    close(answer, model(**batch))


def test_queries_keys_and_values_give_scores_weights_heads_and_update(model):
    taps = ("queries", "keys", "values", "scores", "weights", "mixed")
    at = "backbone.blocks.1.mixer"
    with ef.interpret.record(model, f"{at}.*", at) as seen:
        model(**example(model, 2))
    queries, keys, values, scores, weights, mixed = (seen[f"{at}.{name}"] for name in taps)
    close(queries @ keys.mT / queries.shape[-1] ** 0.5, scores)
    close(scores.masked_fill(torch.ones(16, 16).triu(1).bool(), -torch.inf).softmax(-1), weights)
    close(weights @ values, mixed)
    close(model.get_submodule(f"{at}.output")(mixed.transpose(1, 2).flatten(2)), seen[at])


def test_the_stream_before_and_after_each_layer_differs_by_its_update(model):
    at = "backbone.blocks.0"
    with ef.interpret.record(
        model, f"{at}.residual.*", f"{at}.residual.*.input", f"{at}.mixer", f"{at}.feedforward"
    ) as seen:
        model(**example(model, 2))
    for i, layer in enumerate(("mixer", "feedforward")):
        close(seen[f"{at}.residual.{i}"], seen[f"{at}.residual.{i}.input"] + seen[f"{at}.{layer}"])
    assert seen.tokens(f"{at}.residual.1").count == 16


def test_an_intervention_lasts_as_long_as_its_with(model):
    batch = example(model, 2)
    plain = model(**batch)
    with ef.interpret.intervene(
        model, {"backbone.blocks.*.mixer": torch.zeros_like, "backbone.blocks.*.feedforward": torch.zeros_like}
    ):
        bare = model(**batch)
    close(bare, model.head(ef.Tokens(model.backbone.norm(model.embedding(**batch).values))))
    close(model(**batch), plain, 0.0)
    with (
        ef.interpret.intervene(model, {"backbone.blocks.1.input": lambda x: x * 2}),
        ef.interpret.record(model, "backbone.blocks.*") as seen,
    ):
        model(**batch)
    close(
        seen["backbone.blocks.1"],
        model.backbone.blocks[1](ef.Tokens(seen["backbone.blocks.0"] * 2), ef.Context(mask=ef.masks.Causal())).values,
    )


def test_a_point_passed_several_times_keeps_every_value(model):
    rows = example(model, 3)["inputs"][:, :6]
    with ef.interpret.record(model, "backbone.blocks.0.mixer.weights") as seen:
        model(torch.cat((rows[0], rows[1, :4], rows[2]))[None], lengths=torch.tensor([6, 4, 6]))
    assert [tuple(each.shape) for each in seen.calls("backbone.blocks.0.mixer.weights")] == [(1, 4, 4, 4), (2, 4, 6, 6)]


def test_what_cannot_be_seen_is_said(model):
    with (
        pytest.raises(UnknownName, match="backbone.blocks.0.mixer.weights"),
        ef.interpret.record(model, "backbone.blocks.0.mixer.weight"),
    ):
        pass
    with ef.interpret.record(model, "backbone.blocks.0") as seen:
        pass
    with pytest.raises(BadInput, match="call the model inside"):
        seen["backbone.blocks.0"]
    with pytest.raises(UnknownName):
        seen["backbone.blocks.1"]
    with (
        pytest.raises(BadInput, match="nothing passed 'head'"),
        ef.interpret.record(model, "head", "backbone.blocks.0"),
    ):
        model.features(**example(model))
    with ef.interpret.record(model, "head") as seen:
        model(**example(model))
    with pytest.raises(BadInput, match="no Tokens"):
        seen.tokens("head")
    with (
        pytest.raises(BadInput, match=r"gave \(3, 16\) for a tensor of shape \(3, 16, 32\)"),
        ef.interpret.intervene(model, {"backbone.blocks.0": lambda x: x[..., 0]}),
    ):
        model(**example(model))


def test_no_hook_is_left_behind(model):
    with (
        pytest.raises(RuntimeError, match="stop"),
        ef.interpret.record(model, "**"),
        ef.interpret.intervene(model, {"**.input": lambda x: x}),
    ):
        raise RuntimeError("stop")
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
