"""What every registered part keeps, whatever its room."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import yaml
from torch import nn

from everyformer.compression import InputGrid
from everyformer.contracts import Mixer
from everyformer.heads import Regions
from everyformer.mixers import BernoulliAttention, HashFeatures
from everyformer.models import Described
from everyformer.reduction.thresholds import Above
from everyformer.registry import CAPABILITIES, ROOMS, parts
from everyformer.specs import from_plain, to_plain
from support.parts import close, make, spec_of
from support.rooms import parts_that_run, prepared, run
from support.systems import systems, tiny

PARTS = parts_that_run()


def weighted(answer: torch.Tensor) -> torch.Tensor:
    """A sum of an answer in which no two values count the same."""
    generator = torch.Generator().manual_seed(7)
    return (answer.float() * torch.randn(answer.shape, generator=generator)).sum()


@pytest.mark.parametrize("name", PARTS)
def test_says_what_it_is(name: str) -> None:
    part = make(name)
    assert part.spec == spec_of(name)
    assert set(part.capabilities) <= set(CAPABILITIES)
    assert (type(part).__doc__ or "").strip(), "a public part says what it does"


@pytest.mark.parametrize("name", PARTS)
def test_same_seed_same_answer(name: str) -> None:
    one, two, other = make(name), make(name), make(name, seed=5)
    assert torch.equal(run(one), run(two))
    if list(one.parameters()):
        assert not torch.equal(run(one), run(other))


UNREACHED = {
    "mixers.Correlation": "its target is for a loss that it says, which nobody hears here (systems/test_fod_anomaly)",
    "reduction.Interpreter": "its decisions have no derivative, a reward trains it (objectives.RewardedPruning)",
    "models.Cascade": "what earlier members answer is in the notes, which nobody asks for here (systems/test_dvt)",
    "models.Described": "its describer is shown regions beside the answer (systems/test_grit)",
    "models.Detecting": "its detector learns by itself (systems/test_emotion_aware_encoder)",
    "models.FixedBody": "its head alone learns (systems/test_fod_anomaly)",
    "models.ParallelSeq2Seq": "the lengths that it tells are in the notes, which nobody asks for here (generation/test_mask_predict)",
    "models.TwoDecoders": "one of its decoders works at a time (systems/test_cpt_chinese_unbalanced)",
    "backbones.SimplePyramid": "its levels are for heads of maps, which nobody asks for here (systems/test_grit)",
    "heads.CodePredictor": "no embedding notes frames here, of which it says codes (systems/test_wav2vec2)",
    "backbones.Remembering": "its bank is empty here, of which nothing is retrieved (systems/test_hypothesis_c_across)",
    "feedforward.ReusingMLP": "what it reads of an earlier network is not there (systems/test_dvt)",
}


@pytest.mark.parametrize("name", PARTS)
def test_gradients_reach_every_parameter(name: str) -> None:
    if name in UNREACHED:
        pytest.skip(UNREACHED[name])
    part = make(name).train()
    answer = run(part, marked=isinstance(part, Mixer))
    if list(part.parameters()):
        weighted(answer).backward()
    for path, parameter in part.named_parameters():
        if not parameter.requires_grad:
            assert name in ("compression.LoRA", "models.ResidualMemory"), (
                "only what an adapter stands beside is kept as it is"
            )
            continue
        assert parameter.grad is not None, path
        assert parameter.grad.abs().max() > 0, path


@pytest.mark.parametrize("name", PARTS)
def test_gradient_is_the_derivative(name: str) -> None:
    if issubclass(spec_of(name).part, (HashFeatures, InputGrid)) or "Spiking" in name:
        pytest.skip("rounding has no derivative; it lets the gradient pass as it is")
    if issubclass(spec_of(name).part, BernoulliAttention):
        pytest.skip(
            "it takes a bound of the derivative, which is compared with Hugging Face's (systems/test_long_text)"
        )
    if issubclass(spec_of(name).part, (Regions, Described)):
        pytest.skip("it looks where it found something, and does not learn to look elsewhere")
    part = make(name, width=16).double()
    call, values = prepared(part, torch.float64, width=16)
    if not values.is_floating_point() and list(part.parameters()):
        call, values = by_parameter(part, call, values)
    if not values.is_floating_point() or not call(values.requires_grad_()).requires_grad:
        pytest.skip("its answer does not depend on values, and it has no parameters")
    assert torch.autograd.gradcheck(call, (values,), fast_mode=True)


def by_parameter(part: nn.Module, call: Any, values: torch.Tensor) -> Any:
    """The call as a function of the part's first parameter, for inputs that have no derivative."""
    name, parameter = next(iter(part.named_parameters()))

    def run_with(weight: torch.Tensor) -> torch.Tensor:
        state = {name: weight}
        module = Caller(part, call)
        return torch.func.functional_call(module, {f"part.{k}": v for k, v in state.items()}, (values,))

    return run_with, parameter.detach().clone()


class Caller(nn.Module):
    def __init__(self, part: nn.Module, call: Any) -> None:
        super().__init__()
        self.part, self.call = part, call

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return self.call(values)


@pytest.mark.parametrize("name", PARTS)
def test_bfloat16_stays_near(name: str) -> None:
    deciding = (
        "heads.MaskedQueries", "heads.Regions", "mixers.HashFeatures", "mixers.SampledBernoulliAttention", "mixers.SharedLinearAttention",
        "reduction.DynamicViT",
    )  # fmt: skip
    if name in deciding or "Spiking" in name:
        pytest.skip("it decides between values that are nearly the same, and rounding with it")
    wanted = run(make(name))
    got = run(make(name).bfloat16(), torch.bfloat16).float()
    assert got.isfinite().all()
    assert (got - wanted).norm() <= 0.03 * wanted.norm().clamp(min=1e-3)


@pytest.mark.parametrize("name", PARTS)
def test_state_dict_round_trip(name: str) -> None:
    one, two = make(name), make(name, seed=5)
    two.load_state_dict(one.state_dict())
    assert torch.equal(run(two), run(one))


@pytest.mark.parametrize("name", PARTS)
def test_spec_round_trip(name: str) -> None:
    spec = spec_of(name)
    again = from_plain(yaml.safe_load(yaml.safe_dump(to_plain(spec), sort_keys=False)))
    assert again == spec
    assert repr(again) == repr(spec)


@pytest.mark.parametrize("name", PARTS)
def test_builds_and_copies_where_asked(name: str) -> None:
    part = make(name)
    planned = spec_of(name)
    with torch.device("meta"):
        on_meta = planned.build(*part.place)
    assert {n: p.shape for n, p in on_meta.named_parameters()} == {n: p.shape for n, p in part.named_parameters()}
    assert all(p.is_meta for p in on_meta.parameters())
    assert torch.equal(run(copy.deepcopy(part)), run(part))


IN_A_GRAPH = [name for name in PARTS if name != "models.LongSource" and not issubclass(spec_of(name).part, Above)]
"""A source in pieces is cut by its real length, and how many tokens pass a threshold depends on them: no graph knows that."""


STANDING = {each.name for system in systems() for _, each in tiny(system).walk()}
"""Parts of a system, which are compiled and exported with it (promises 22 and 21)."""
ALONE = [name for name in IN_A_GRAPH if name not in STANDING]


@pytest.mark.parametrize("name", ALONE)
def test_compiles_in_one_graph(name: str) -> None:
    part = make(name)
    call, values = prepared(part)
    torch.compiler.reset()
    compiled = torch.compile(call, backend="eager", fullgraph=True)
    close(compiled(values), call(values))


@pytest.mark.parametrize("name", ALONE)
def test_exports(name: str) -> None:
    part = make(name)
    call, values = prepared(part)
    exported = torch.export.export(Caller(part, call), (values,)).module()
    close(exported(values), call(values))


def test_every_room_with_parts_has_its_test() -> None:
    """A new room is seen here before its parts go untested."""
    covered = {name.partition(".")[0] for name in PARTS} | {"objectives", "generation", "scores", "interpret"}
    assert {room for room in ROOMS if parts(room)} == covered
