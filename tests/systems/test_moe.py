"""`moe` against Hugging Face's Mixtral, and what experts and their routers must keep."""

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

import everyformer as ef
from everyformer.auxiliary import listening
from everyformer.context import Context
from everyformer.costs import flops, on_meta, parameters
from everyformer.interop import from_transformers, to_transformers
from everyformer.interop.weights import tensors
from everyformer.masks import Causal
from everyformer.objectives import NextToken
from everyformer.tokens import Tokens
from support.agreement import equal
from support.parity import ids, perturb, ragged
from support.parts import close, tokens


def build(**changes):
    given = {
        "vocab_size": 71, "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 2,
        "num_attention_heads": 6, "num_key_value_heads": 2, "max_position_embeddings": 64, "num_local_experts": 4,
        "initializer_range": 0.2, **changes,
    }  # fmt: skip
    return perturb(MixtralForCausalLM(MixtralConfig(**given)))


@pytest.mark.parametrize("changes", [{}, {"num_experts_per_tok": 3, "head_dim": 12, "rms_norm_eps": 1e-6}], ids=str)
def test_equals_hugging_face(changes):
    theirs = build(**changes)
    ours = from_transformers(theirs)
    inputs, mask = ids(71, 3, 20), ragged(3, 20)
    expected = theirs(inputs, attention_mask=mask.long()).logits
    equal(ours, theirs, ours(inputs, mask=mask), expected, mask)


def test_the_way_back_keeps_every_answer():
    options = {"vocabulary": 71, "width": 48, "hidden": 40, "depth": 2, "heads": 4, "key_heads": 2, "experts": 3}
    ours = perturb(ef.create("moe", seed=0, **options))
    theirs = to_transformers(ours)
    inputs = ids(71, 2, 9)
    close(ours(inputs), theirs(inputs).logits)
    again = from_transformers(theirs)
    assert all(torch.equal(a, b) for a, b in zip(tensors(again).values(), tensors(ours).values(), strict=True))


@pytest.mark.parametrize("padded", [False, True])
def test_the_balance_loss_equals_hugging_face(padded):
    theirs = build(num_hidden_layers=1)
    ours = from_transformers(theirs)
    inputs, mask = ids(71, 3, 20), ragged(3, 20) if padded else None
    given = {"mask": mask} if padded else {}
    with listening(ours) as said:
        ours(inputs, **given)
    logits = theirs(inputs, attention_mask=mask.long() if padded else None, output_router_logits=True).router_logits
    wanted = load_balancing_loss_func(logits, 4, 2, mask)
    close(sum(said) / theirs.config.router_aux_loss_coef, wanted)


@pytest.mark.parametrize(("size", "count"), [("8x7b", 46_702_792_704), ("8x22b", 140_630_071_296)])
def test_sizes_are_the_published_ones(size, count):
    assert parameters(on_meta(ef.design("moe", size))) == count


def mixture(**options):
    given = {"count": 4, "expert": ef.spec(ef.feedforward.MLP, hidden=24), **options}
    torch.manual_seed(0)
    return ef.spec(ef.feedforward.Experts, **given).build(32)


def by_loop(part, values, weights):
    """Equation 1 of Shazeer et al., token by token."""
    answer = torch.zeros_like(values)
    for b, n in torch.cartesian_prod(*map(torch.arange, values.shape[:2])):
        for e, expert in enumerate(part.expert):
            answer[b, n] += weights[b, n, e] * expert(Tokens(values[b : b + 1, n : n + 1]))[0, 0]
    return answer


@pytest.mark.parametrize(
    "router", [ef.spec(ef.feedforward.TopK, k=3), ef.spec(ef.feedforward.ExpertChoice, capacity=1.5)], ids=str
)
def test_tokens_sent_to_experts_are_the_sum_over_all(router):
    part, given = mixture(router=router), tokens()
    close(part(given), by_loop(part, given.values, part.router(given)))


def test_equal_experts_are_one():
    part, given = mixture(), tokens()
    for expert in part.expert[1:]:
        expert.load_state_dict(part.expert[0].state_dict())
    close(part(given), part.expert[0](given))
    alone = mixture(count=1, router=ef.spec(ef.feedforward.TopK, k=1))
    close(alone(given), alone.expert[0](given))


def test_a_shared_expert_is_added():
    part = mixture(shared=ef.spec(ef.feedforward.MLP, hidden=8))
    whole, shared, given = part(tokens()), part.shared(tokens()), tokens()
    part.shared = None
    close(whole, part(given) + shared)


def test_switch_weighs_its_expert_by_the_chance():
    router = mixture(router=ef.spec(ef.feedforward.TopK, k=1, normalised=False)).router
    chances = router.score(tokens().values).softmax(-1)
    weights = router(tokens())
    assert ((weights != 0).sum(-1) == 1).all()
    close(weights.sum(-1), chances.max(-1).values)


def test_expert_choice_takes_the_likeliest_tokens_of_a_sequence():
    router = mixture(router=ef.spec(ef.feedforward.ExpertChoice, capacity=2.0)).router
    given = tokens(count=8)
    chances, weights = router.score(given.values).softmax(-1), router(given)
    for b in range(3):
        for e in range(4):
            best = chances[b, :, e].topk(4).indices
            wanted = torch.zeros(8).index_put((best,), chances[b, best, e])
            close(weights[b, :, e], wanted)
    mask = torch.arange(8) < torch.tensor([8, 4, 5])[:, None]
    padded = router(given.replace(mask=mask))
    for b, length in enumerate((8, 4, 5)):
        close(padded[b, :length], router(Tokens(given.values[b : b + 1, :length]))[0])


def test_expert_choice_is_refused_in_a_causal_place():
    design = ef.design("moe", "nano", vocabulary=20)
    choice = design.swap("backbone.blocks.*.feedforward.router", ef.spec(ef.feedforward.ExpertChoice))
    with pytest.raises(ef.DoesNotFit, match=r"not 'causal'; what fits here: .*TopK") as error:
        choice.build(device="meta")
    assert error.value.path.endswith("feedforward.router")


def test_an_objective_adds_what_parts_say_for_each_token():
    model = ef.create("moe", "nano", vocabulary=20, seed=0)
    batch = {"inputs": ids(20, 2, 9), "labels": ids(20, 2, 9, seed=1)}
    whole = NextToken()(model, batch)
    with listening(model) as said:
        plain = NextToken().forward(model, batch)
    assert len(said) == 4
    close(whole.total, plain.total + 18 * sum(said))
    assert all(point.heard is None for point in model.modules() if hasattr(point, "heard"))


def test_costs_count_the_chosen_experts_alone():
    options = {"vocabulary": 20, "width": 32, "hidden": 64, "depth": 1, "heads": 4, "key_heads": 4}
    two = flops(on_meta(ef.design("moe", experts=2, **options)))
    eight = flops(on_meta(ef.design("moe", experts=8, **options)))
    router = 16 * 2 * 32 * 6
    assert eight[""] - two[""] == router


@pytest.mark.parametrize(
    ("options", "message"),
    [({"count": 0}, "at least one expert"), ({"router": ef.spec(ef.feedforward.TopK, k=5)}, "1 to 4 of 4"),
     ({"router": ef.spec(ef.feedforward.ExpertChoice, capacity=9.0)}, "at most the 4")],
    ids=["none", "too many", "capacity"],
)  # fmt: skip
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ef.DoesNotFit, match=message):
        mixture(**options)


def test_a_token_is_routed_by_itself_in_a_causal_place():
    part = mixture()
    whole = part(tokens(), Context(mask=Causal()))
    close(part(Tokens(tokens().values[:, :2])), whole[:, :2])
