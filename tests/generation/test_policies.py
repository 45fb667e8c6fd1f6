"""Cache policies: attention sinks against the paper's definition, written out with plain lists."""

import pytest
import torch

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.generation import Sinks, generate, streaming_llm

VOCABULARY = 19


def model(positions="rotary"):
    made = ef.design("llama", "nano", vocabulary=VOCABULARY, width=32, hidden=48, depth=2, heads=4)
    if positions == "alibi":
        made = made.set("backbone.blocks.*.mixer.positions", ef.spec(ef.positions.ALiBi))
    made = made.build(seed=0).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.15)
    return made


def literal(made, ids, sinks, window, rotates=True):
    """Section 3.2: keys are kept unturned; each step turns them and the query by their place in the cache."""
    kept = [[] for _ in made.backbone.blocks]
    logits = []
    for token in ids:
        x = made.embedding.table(token)
        for block, cache in zip(made.backbone.blocks, kept, strict=True):
            q, k, v = made_heads(block.mixer, block.residual[0].norm(x))
            cache.append((k, v))
            keys, values = (torch.stack(each, 1) for each in zip(*cache, strict=True))
            places = torch.arange(len(cache))
            if rotates:
                turn = block.mixer.positions.rotate
                keys = turn(keys[None], places[None, :, None], Context())[0]
                q = turn(q[None, :, None], places[None, -1:, None], Context())[0, :, 0]
                bias = 0.0
            else:
                slopes = torch.tensor(block.mixer.positions.slopes)
                bias = -slopes[:, None] * (places[-1] - places)
            scores = (keys @ q[:, :, None])[..., 0] * block.mixer.scale + bias
            mixed = (scores.softmax(-1)[:, None] @ values).flatten()
            x = x + block.mixer.output(mixed)
            x = x + block.feedforward(ef.Tokens(block.residual[1].norm(x)[None, None]))[0, 0]
        logits.append(made.head.project(made.backbone.norm(x)))
        for cache in kept:
            if len(cache) > sinks + window:
                del cache[sinks]
    return torch.stack(logits)


def made_heads(mixer, x):
    return (each.unflatten(-1, (mixer.heads, -1)) for each in mixer.qkv(x).chunk(3, -1))


def streamed(made, ids, policy, mask=None):
    context = Context(cache=Cache(policy))
    fields = [{} if mask is None else {"mask": mask[:, i : i + 1]} for i in range(ids.shape[1])]
    return torch.cat([made.decode(ids[:, i : i + 1], context, **fields[i]) for i in range(ids.shape[1])], 1), context


@pytest.mark.parametrize("positions", ["rotary", "alibi"])
@pytest.mark.parametrize(("sinks", "window"), [(2, 3), (0, 4), (1, 1)])
@torch.no_grad()
def test_a_stream_is_the_definition(positions, sinks, window):
    made, ids = model(positions), torch.randint(VOCABULARY, (1, 13), generator=torch.Generator().manual_seed(2))
    found, context = streamed(made, ids, Sinks(sinks=sinks, window=window))
    wanted = literal(made, ids[0], sinks, window, positions == "rotary")
    torch.testing.assert_close(found[0], wanted, atol=1e-5, rtol=0)
    assert context.cache.count == sinks + window


@torch.no_grad()
def test_each_sequence_has_its_own_sinks():
    """Prompts padded on the left, then tokens for all: each as if alone."""
    made, policy = model(), Sinks(sinks=2, window=3)
    ids = torch.randint(VOCABULARY, (3, 14), generator=torch.Generator().manual_seed(2))
    mask = torch.arange(14) >= torch.tensor([0, 4, 6])[:, None]
    found, _ = streamed(made, ids, policy, mask)
    for row in range(3):
        alone, _ = streamed(made, ids[row : row + 1, mask[row]], policy)
        torch.testing.assert_close(found[row, mask[row]], alone[0], atol=1e-5, rtol=0)


@torch.no_grad()
def test_generation_takes_a_policy():
    made = model()
    options = {"eos": None, "pad": 0, "max_tokens": 9}
    prompts = [[1, 2, 3], [4, 5]]
    assert generate(made, prompts, policy=Sinks(sinks=2, window=30), **options) == generate(made, prompts, **options)
    short = streaming_llm(made, sinks=1, window=2)
    assert generate(made, prompts, policy=short, **options) == [
        generate(made, [each], policy=short, **options)[0] for each in prompts
    ]


def test_what_cannot_stream_is_refused():
    with pytest.raises(ef.DoesNotFit, match="Learned gives each token a place of its own"):
        streaming_llm(ef.create("gpt", "nano"))
    with pytest.raises(ValueError, match="window at least 1"):
        Sinks(sinks=4, window=0)
    with pytest.raises(ef.DoesNotFit, match="a cache policy needs a cache"):
        generate(model(), [[1, 2]], eos=None, pad=0, max_tokens=2, cache=False, policy=Sinks())
