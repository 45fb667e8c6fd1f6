"""Models that say distributions of the steps to come, opened from Hugging Face: all queries attend, for theirs draws its keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers as tf
from torch import Tensor

import everyformer as ef
from everyformer.interop import to_folder
from everyformer.objectives import Forecast, Likelihood
from everyformer.published.informer import drawing_informer
from everyformer.training.starting import begun
from support.agreement import close, perturb, same_answers

_SIZES = {
    "prediction_length": 4, "context_length": 8, "lags_sequence": [1, 3], "d_model": 16, "encoder_ffn_dim": 24,
    "decoder_ffn_dim": 20, "encoder_layers": 2, "decoder_layers": 2, "input_size": 2,
}  # fmt: skip
_KNOWN = {
    "num_time_features": 2, "num_dynamic_real_features": 1, "num_static_real_features": 2,
    "num_static_categorical_features": 2, "cardinality": [3, 5], "embedding_dimension": [2, 3],
}  # fmt: skip
CASES = [
    ("Informer", {**_KNOWN, "scaling": "std"}),
    ("Informer", {"attention_type": "full", "distil": False, "distribution_output": "normal", "scaling": None}),
    ("Informer", {**_KNOWN, "distribution_output": "negative_binomial", "decoder_attention_heads": 4}),
    ("TimeSeriesTransformer", _KNOWN),
    ("TimeSeriesTransformer", {"input_size": 1, "distribution_output": "normal"}),
]
each_case = pytest.mark.parametrize(("kind", "options"), CASES, ids=str)


@dataclass
class Pair:
    """Theirs, ours from the folder that it was saved to, and what both are given."""

    theirs: Any
    ours: Any
    past: Tensor
    future: Tensor
    given: dict[str, Tensor]

    def asked(self, theirs: Any) -> Any:
        """What a model of theirs answers."""
        flat = self.past.shape[2] == 1  # theirs takes one variate without its axis
        past, future = (x[..., 0] if flat else x for x in (self.past, self.future))
        given = self.given
        torch.manual_seed(0)  # theirs draws its keys
        return theirs(
            past_values=past, future_values=future,
            past_time_features=given.get("marks", torch.zeros(*past.shape[:2], 0)),
            future_time_features=given.get("coming", torch.zeros(*future.shape[:2], 0)),
            past_observed_mask=(given["observed"][..., 0] if flat else given["observed"]).float(),
            static_categorical_features=given.get("kinds"), static_real_features=given.get("facts"),
        )  # fmt: skip

    def said(self, theirs: Any = None) -> Any:
        """Their distribution of each step."""
        theirs = theirs or self.theirs
        out = self.asked(theirs)
        if theirs.config.distribution_output == "negative_binomial":
            return theirs.output_distribution(out.params)  # their loss has scaled the parameters in their place
        return theirs.output_distribution(out.params, loc=out.loc, scale=out.scale)


@pytest.fixture
def pair(kind, options, tmp_path):
    torch.manual_seed(0)
    made = getattr(tf, f"{kind}ForPrediction")(getattr(tf, f"{kind}Config")(**{**_SIZES, **options}))
    theirs = perturb(made, std=0.1).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    variates = theirs.config.input_size
    given = {"observed": torch.rand(3, 11, variates) > 0.2}
    if "cardinality" in options:
        given |= {
            "marks": torch.randn(3, 11, 3), "coming": torch.randn(3, 4, 3), "facts": torch.randn(3, 2),
            "kinds": torch.tensor([[0, 4], [2, 1], [1, 0]]),
        }  # fmt: skip
    past, future = (torch.randint(1, 9, (3, n, variates)).float() for n in (11, 4))
    return Pair(theirs, ef.load(tmp_path / "theirs").eval(), past, future, given)


@each_case
def test_the_same_distributions_and_gradients(pair, kind, options):
    wanted, found = pair.said(), pair.ours.likely(pair.past, pair.future, **pair.given)
    future = pair.future[..., 0] if pair.future.shape[2] == 1 else pair.future
    expected, likely = wanted.log_prob(future), found.log_prob(pair.future).sum(-1)
    same_answers(likely, expected)
    theirs = torch.autograd.grad(expected.sum(), pair.theirs.model.encoder.value_embedding.value_projection.weight)
    ours = torch.autograd.grad(likely.sum(), pair.ours.source.project.weight)
    close(ours[0], theirs[0], "gradient of what the encoder reads")


@each_case
@torch.no_grad()
def test_there_and_back_bit_for_bit(pair, kind, options, tmp_path):
    to_folder(pair.ours, tmp_path / "back", top=f"{kind}ForPrediction")
    again, told = getattr(tf, f"{kind}ForPrediction").from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(told.values()), told
    future = pair.future[..., 0] if pair.future.shape[2] == 1 else pair.future
    assert torch.equal(pair.said(again.eval()).log_prob(future), pair.said().log_prob(future))


@pytest.mark.parametrize(("kind", "options"), [CASES[0], CASES[3]], ids=str)
@torch.no_grad()
def test_a_body_gives_the_same_states_and_says_nothing(pair, kind, options, tmp_path):
    body = pair.theirs.model
    body.save_pretrained(tmp_path / "body")
    ours = ef.load(tmp_path / "body").eval()
    expected = pair.asked(body).last_hidden_state
    same_answers(ours.steps(pair.past, pair.future, **pair.given).values, expected)
    same_answers(pair.ours.steps(pair.past, pair.future, **pair.given).values, expected)
    with pytest.raises(ef.DoesNotFit, match="without a head nothing is said of a step"):
        ours(pair.past, **pair.given)
    to_folder(ours, tmp_path / "back", top=f"{kind}Model")
    again, told = type(body).from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not any(told.values()), told
    assert torch.equal(pair.asked(again.eval()).last_hidden_state, expected)


SMALL = {"variates": 2, "lookback": 10, "horizon": 3, "lags": (1, 2), "width": 16, "hidden": 16, "heads": 2, "depth": 1}


@torch.no_grad()
def test_a_forecast_is_made_of_the_means_of_what_came():
    """Step by step, each told the means before it: the first step is the mean of what is said with any future."""
    model = drawing_informer(**SMALL).build(seed=0).eval()
    past = torch.randn(2, 10, 2)
    forecast = model(past)
    for step in range(3):
        future = torch.cat((forecast[:, :step], torch.randn(2, 3 - step, 2)), 1)
        close(model.likely(past, future).mean[:, step], forecast[:, step], "a mean")


@torch.no_grad()
def test_draws_are_of_the_distribution_that_is_said():
    torch.manual_seed(0)
    model = drawing_informer(**SMALL, distribution="normal").build(seed=0).eval()
    past = torch.randn(1, 10, 2)
    drawn = model.draw(past, samples=4000)[0]
    assert drawn.shape == (4000, 3, 2)
    said = model.likely(past, torch.zeros(1, 3, 2))
    torch.testing.assert_close(drawn[:, 0].mean(0), said.mean[0, 0], atol=0.08, rtol=0)
    torch.testing.assert_close(drawn[:, 0].std(0), said.stddev[0, 0], atol=0.08, rtol=0)
    model.head.project[1].weight.zero_()
    model.head.project[1].bias.fill_(-1e4)
    close(model.draw(past, samples=2)[:, 1], model(past), "a draw without spread")


def test_the_likelihood_trains_what_says_distributions():
    model = drawing_informer(**SMALL).build(seed=0).eval()
    batch = {"inputs": torch.randn(2, 10, 2), "labels": torch.randn(2, 3, 2)}
    loss = Likelihood()(model, batch)
    assert int(loss.count) == 12
    close(loss.total, -model.likely(batch["inputs"], batch["labels"]).log_prob(batch["labels"]).sum(), "likelihood")
    with pytest.raises(ef.BadInput, match=r"take objectives\.Forecast"):
        Likelihood()(ef.create("itransformer", size="tiny", lookback=10, horizon=3, variates=2), batch)
    assert torch.isfinite(Forecast()(model, batch).total)


@pytest.mark.parametrize("part", ["MeanScale", "DeviationScale", "NoScale"])
def test_a_scale_reads_what_was_observed(part):
    """And a series of which nothing was seen is left as it is, or has a scale that is not 0."""
    scaling = getattr(ef.models, part)()
    values, observed = torch.randn(2, 5, 1), torch.tensor([[1, 1, 1, 0, 0], [0] * 5], dtype=torch.bool)[..., None]
    middle, scale = scaling(values, observed)
    alone = scaling(values[:1, :3], observed[:1, :3])
    torch.testing.assert_close((middle[:1], scale[:1]), alone)
    assert (scale > 0).all()
    assert torch.isfinite(middle).all()


def test_what_does_not_fit_is_said():
    model = drawing_informer(**SMALL, stamps=2, facts=1, kinds=((3, 2),)).build(seed=0).eval()
    good = model.example()
    for change, message in (
        ({"inputs": torch.zeros(1, 9, 2)}, "10 steps or more, 2.*8 to read"),
        ({"coming": torch.zeros(1, 2, 2)}, "2 time stamps a step"),
        ({"facts": torch.zeros(1, 3)}, "knows 1 facts"),
    ):
        with pytest.raises(ef.BadInput, match=message):
            model(**{**good, **change})
    with pytest.raises(ef.BadInput, match="knows 1 kinds of a series; given none"):
        model.likely(**{name: each for name, each in good.items() if name != "kinds"}, future=torch.zeros(1, 3, 2))
    with pytest.raises(ef.BadInput, match="3 steps of 2 variates"):
        model.likely(**good, future=torch.zeros(1, 4, 2))
    with pytest.raises(ef.UnknownName, match="coming"):
        model.draw(**good, comming=torch.zeros(1))
    with pytest.raises(ef.UnknownName, match="student_t"):
        drawing_informer(**SMALL, distribution="students")
    with pytest.raises(ef.DoesNotFit, match="lags are at least 1 step, and the lookback is longer"):
        drawing_informer(**{**SMALL, "lags": (0, 1)}).build()


@pytest.mark.parametrize(("kind", "options"), CASES[-2:-1])
def test_training_goes_on_from_it_on_data_of_its_lengths(pair, kind, options, tmp_path):
    facts = {"lookback": 11, "horizon": 4, "variates": 2}
    assert begun(str(tmp_path / "theirs"), facts).diff(ef.designs.design_of(pair.ours)) == "no difference"
    with pytest.raises(ef.DoesNotFit, match=r"lookback 11, and the data 8; give data\.lookback=11"):
        begun(str(tmp_path / "theirs"), {**facts, "lookback": 8})
