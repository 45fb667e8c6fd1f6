"""Multi-head latent attention against DeepSeek's in Hugging Face transformers, and its two forms against each other."""

import pytest
import torch
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3Attention, DeepseekV3RotaryEmbedding

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.generation import TOVA, Sinks
from everyformer.masks import Causal
from everyformer.mixers import LatentAttention
from everyformer.tokens import Tokens
from support.agreement import close, perturb

D, H, N, TURNED = 24, 3, 11, 6
NAMES = {
    "query": "q_proj", "latent": "kv_a_proj_with_mqa", "norm": "kv_a_layernorm", "key_value": "kv_b_proj",
    "output": "o_proj",
}  # fmt: skip


def both(query_rank):
    config = DeepseekV3Config(
        hidden_size=D, num_attention_heads=H, num_key_value_heads=H, q_lora_rank=query_rank, kv_lora_rank=10,
        qk_nope_head_dim=8, qk_rope_head_dim=TURNED, v_head_dim=5, rope_interleave=False, attention_bias=True,
        attn_implementation="eager",
    )  # fmt: skip
    theirs = perturb(DeepseekV3Attention(config, 0), std=0.2)
    ours = LatentAttention(
        D, heads=H, rank=10, query_rank=query_rank, head_width=8, value_width=5, turned=TURNED, bias=True,
        positions=ef.spec(ef.positions.Rotary),
    )  # fmt: skip
    names = dict(NAMES)
    if query_rank is not None:
        names |= {"query": "q_b_proj", "query_latent.0": "q_a_proj", "query_latent.1": "q_a_layernorm"}
    state = {
        f"{mine}.{name}": tensor
        for mine, other in names.items()
        for name, tensor in theirs.get_submodule(other).named_parameters()
    }
    assert len(state) == len(list(theirs.parameters()))
    ours.load_state_dict({name: tensor.detach() for name, tensor in state.items()})
    return config, theirs, ours.eval(), state


@pytest.mark.parametrize("query_rank", [None, 7])
def test_equals_hugging_face(query_rank):
    config, theirs, ours, state = both(query_rank)
    values = torch.randn(2, N, D)
    turns = DeepseekV3RotaryEmbedding(config)(values, torch.arange(N)[None])
    mask = torch.full((N, N), float("-inf")).triu(1)[None, None]
    expected = theirs(values, turns, mask)[0]
    answer = ours(Tokens(values), Context(mask=Causal()))
    close(answer, expected)
    weights = torch.randn(answer.shape)
    (answer * weights).sum().backward()
    (expected * weights).sum().backward()
    found = dict(ours.named_parameters())
    for name, tensor in state.items():
        close(found[name].grad, tensor.grad, name)


def test_what_is_cached_is_the_latent_and_the_turned_key():
    *_, ours, _ = both(None)
    state = Context(mask=Causal(), cache=Cache())
    tokens = Tokens(torch.randn(2, N, D))
    close(ours(tokens, state), ours(tokens, Context(mask=Causal())))
    kept = state.cache.held(ours)
    assert {name: tuple(each.shape) for name, each in kept.items()} == {
        "latent": (2, 1, N, 10),
        "turned": (2, 1, N, TURNED),
    }


def test_policies_see_what_it_attends_to():
    """The weights of a query over latents are those over keys, and policies drop latents by them."""
    _, _, ours, _ = both(None)
    values, shown = torch.randn(2, N, D), []
    ours(Tokens(values), Context(mask=Causal(), attended=shown))
    ours(Tokens(values), Context(mask=Causal(), attended=shown, cache=Cache()))
    close(shown[1].weights(), shown[0].weights())
    cache = Cache(TOVA(keep=4))
    ours(Tokens(values), Context(mask=Causal(), cache=cache))
    kept = cache.layer(ours).places[:, 0]
    best = shown[0].weights()[:, :, -1].mean(1).topk(4).indices.sort().values
    assert torch.equal(kept, best)


def test_a_window_closes_its_gap():
    """Positions within the cache: what is left of a text is attended to as if nothing had stood before."""
    _, _, ours, _ = both(None)
    values, context = torch.randn(1, N, D), Context(mask=Causal(), cache=Cache(Sinks(sinks=0, window=4)))
    for i in range(N):
        answer = ours(Tokens(values[:, i : i + 1]), context)
        context.cache.advance(Tokens(values[:, i : i + 1]))
    close(answer[:, 0], ours(Tokens(values[:, -5:]), Context(mask=Causal()))[:, -1])
