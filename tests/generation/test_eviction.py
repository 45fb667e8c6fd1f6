"""Policies that look at attention, against the papers' definitions written out for one sequence with plain lists."""

from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation import H2O, TOVA, Beam, Greedy, Keyformer, SnapKV, Speculative, generate, h2o
from everyformer.masks import Causal

FIXTURES = Path(__file__).parents[1] / "fixtures"
VOCABULARY, HEADS = 19, 4


def model(positions="rotary", key_heads=2):
    made = ef.design(
        "llama", "nano", vocabulary=VOCABULARY, width=32, hidden=48, depth=2, heads=HEADS, key_heads=key_heads
    )
    if positions == "alibi":
        made = made.set("backbone.blocks.*.mixer.positions", ef.spec(ef.positions.ALiBi))
    made = made.build(seed=0).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * 0.15)
    return made


IDS = torch.randint(VOCABULARY, (1, 24), generator=torch.Generator().manual_seed(2))


class Layer:
    """What each key head of a layer holds: lists of (place, key, value), and one number for each token in `worth`."""

    def __init__(self, mixer, choose):
        self.mixer, self.choose = mixer, choose
        self.held = [[] for _ in range(mixer.key_heads)]
        self.worth = [{} for _ in range(mixer.key_heads)]

    def __call__(self, x, start):
        """x (N, D): tokens from place `start` on attend to what is held and to those of them not after themselves."""
        mixer, shared = self.mixer, self.mixer.heads // self.mixer.key_heads
        q, k, v = (each.unflatten(-1, (-1, mixer.head_width)) for each in mixer.qkv(x).split(mixer.sizes, -1))
        places = start + torch.arange(len(x))
        turn = partial(mixer.positions.rotate, places=places[None, :, None], context=Context())
        q, k = (turn(each.transpose(0, 1)[None])[0].transpose(0, 1) for each in (q, k))
        answers = torch.zeros_like(q)
        for g, held in enumerate(self.held):
            held += [(int(place), k[i, g], v[i, g]) for i, place in enumerate(places)]
        scores = [[] for _ in self.held]
        for i, place in enumerate(places):
            for h in range(mixer.heads):
                g = h // shared
                seen = [each for each in self.held[g] if each[0] <= place]
                row = torch.stack([q[i, h] @ key for _, key, _ in seen]) * mixer.scale
                if type(mixer.positions) is ef.positions.ALiBi:
                    row = row - mixer.positions.slopes[h] * torch.tensor([float(place - each[0]) for each in seen])
                answers[i, h] = row.softmax(0) @ torch.stack([value for *_, value in seen])
                scores[g].append((int(place), [each[0] for each in seen], row))
        self.held = self.choose(self, scores, start + len(x))
        return mixer.output(answers.flatten(1))


def literal(made, pieces, choose):
    layers = [Layer(block.mixer, choose()) for block in made.backbone.blocks]
    logits, start = [], 0
    for ids in pieces:
        x = made.embedding.table(ids)
        for block, layer in zip(made.backbone.blocks, layers, strict=True):
            x = x + layer(block.residual[0].norm(x), start)
            x = x + block.feedforward(ef.Tokens(block.residual[1].norm(x)[None]))[0]
        logits.append(made.head.project(made.backbone.norm(x)))
        start += len(ids)
    return torch.cat(logits), layers


def top(held, worth, count, safe=()):
    """The `count` tokens worth most, those of the places `safe` before all."""
    ranked = sorted(held, key=lambda each: (each[0] in safe, worth.get(each[0], 0.0)), reverse=True)
    return sorted(ranked[:count], key=lambda each: each[0])


def tova(room):
    def choose(layer, scores, total):
        worth = dict.fromkeys(range(total), 0.0)
        for rows in scores:
            for place, seen, row in rows:
                if place == total - 1:
                    for each, weight in zip(seen, row.softmax(0).tolist(), strict=True):
                        worth[each] += weight
        return [top(held, worth, room) for held in layer.held]

    return lambda: choose


def heavy(room, recent, noise=lambda row, step: row):
    def begin():
        step = [0]

        def choose(layer, scores, total):
            for worth, rows in zip(layer.worth, scores, strict=True):
                for _, seen, row in rows:
                    for each, weight in zip(seen, noise(row, step[0]).softmax(0).tolist(), strict=True):
                        worth[each] = worth.get(each, 0.0) + weight
            step[0] += 1
            safe = range(total - recent, total)
            return [top(held, worth, room, safe) for held, worth in zip(layer.held, layer.worth, strict=True)]

        return choose

    return begin


def snap(room, window, kernel):
    def begin():
        first = [True]

        def choose(layer, scores, total):
            if not first[0]:
                return layer.held
            first[0], kept = False, []
            for held, rows in zip(layer.held, scores, strict=True):
                got = [0.0] * total
                for place, seen, row in rows:
                    if place >= total - window:
                        for each, weight in zip(seen, row.softmax(0).tolist(), strict=True):
                            got[each] += weight * (each < total - window)
                wide = [0.0] * (kernel // 2) + got + [0.0] * (kernel // 2)
                pooled = {i: sum(wide[i : i + kernel]) / kernel for i in range(total)}
                kept.append(top(held, pooled, room, range(total - window, total)))
            return kept

        return choose

    return begin


CASES = {
    "tova": (TOVA(keep=5), tova(5)),
    "h2o": (H2O(keep=6, recent=0.5), heavy(6, 3)),
    "keyformer": (Keyformer(keep=6, recent=0.34, growth=0.2), heavy(6, 2)),
    "snapkv": (SnapKV(keep=7, window=3, kernel=3), snap(7, 3, 3)),
}


def quiet(monkeypatch):
    """No noise: minus the logarithm of one is zero."""
    monkeypatch.setattr(torch.Tensor, "exponential_", lambda self, *_, **__: self.fill_(1.0))


@pytest.mark.parametrize("positions", ["rotary", "alibi"])
@pytest.mark.parametrize("name", CASES)
@torch.no_grad()
def test_what_stays_is_the_definition(name, positions, monkeypatch):
    policy, reference = CASES[name]
    if name == "keyformer":
        quiet(monkeypatch)
        reference = heavy(6, 2, lambda row, step: row / (1 + 0.2 * step))
    made, context = model(positions), Context(cache=Cache(policy))
    pieces = IDS[0].split([12, 1, 1, 1, 3, 1, 1, 1, 3])
    found = torch.cat([made.decode(piece[None], context)[0] for piece in pieces])
    wanted, layers = literal(made, pieces, reference)
    torch.testing.assert_close(found, wanted, atol=2e-5, rtol=0)
    for block, layer in zip(made.backbone.blocks, layers, strict=True):
        cache = context.cache.layer(block.mixer)
        kept = cache.places.expand(1, len(layer.held), -1)[0]
        assert kept.tolist() == [[place for place, *_ in held] for held in layer.held]


PUBLISHED = {
    "tova": TOVA(keep=6),
    "h2o": H2O(keep=8, recent=0.5),
    "snapkv": SnapKV(keep=8, window=3, kernel=3),
    "keyformer": Keyformer(keep=8, recent=0.25, growth=0.1),
}


@pytest.mark.parametrize("name", PUBLISHED)
@torch.no_grad()
def test_answers_are_those_of_the_authors_code(name, monkeypatch):
    quiet(monkeypatch)
    saved = load_file(FIXTURES / "eviction.safetensors")
    mixer = ef.mixers.Attention(32, heads=4, bias=False)
    mixer.qkv.weight.copy_(saved["weight"])
    mixer.output = torch.nn.Identity()
    context, found = Context(mask=Causal(), cache=Cache(PUBLISHED[name])), []
    for piece in saved["input"].split([12] + [1] * 12, 1):
        context.lowered.clear()
        found.append(mixer(ef.Tokens(piece), context))
        context.cache.advance(ef.Tokens(piece))
    torch.testing.assert_close(torch.cat(found, 1), saved[name], atol=1e-5, rtol=0)


@torch.no_grad()
def test_noise_is_gumbels_and_grows_flat():
    """As `F.gumbel_softmax` draws it, so that the same seed gives the same tokens as the published code's."""
    made, context = model(), Context(cache=Cache(Keyformer(keep=6, growth=0.5)))
    seen = []
    made.backbone.blocks[0].mixer.scores.register_forward_hook(lambda _m, _i, out: seen.append(out.clone()))
    wanted = 0
    for piece in IDS[:, :5].split([3, 2], 1):
        torch.manual_seed(5)
        made.decode(piece, context)
        torch.manual_seed(5)
        scores = seen[-1]
        count, total = scores.shape[-2:]
        hidden = ~torch.ones(count, total, dtype=torch.bool).tril(total - count)
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        given = torch.nn.functional.gumbel_softmax(scores, tau=1 + 0.5 * (len(seen) - 1)).sum(2)
        given[:, :, : total - count] += wanted if total > count else 0
        wanted = given
    held = context.cache.layer(made.backbone.blocks[0].mixer).columns
    (received,) = [kept["received"].whole() for kept in held.values() if "received" in kept]
    torch.testing.assert_close(received[..., 0], wanted.unflatten(1, (2, 2)).sum(2), atol=1e-5, rtol=0)


POLICIES = [TOVA(keep=0.5), TOVA(keep=4), H2O(keep=0.5), H2O(keep=4), SnapKV(keep=0.5, window=3, kernel=3)]


@pytest.mark.parametrize("policy", POLICIES, ids=str)
def test_a_batch_is_its_sequences(policy):
    made = model()
    prompts = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [4, 5], [6, 7, 3, 11, 2], [9]]
    for strategy in (Greedy(), Beam(size=2)):
        options = {"eos": 18, "pad": 0, "max_tokens": 9, "policy": policy, "strategy": strategy}
        alone = [generate(made, [each], **options)[0] for each in prompts]
        assert generate(made, prompts, **options) == alone
        assert generate(made, prompts[::-1], **options) == alone[::-1]


@torch.no_grad()
def test_padding_on_the_right_is_nobodys_query():
    made = model()
    for policy in POLICIES:
        lengths = torch.tensor([[9], [4]])
        real, after = torch.arange(9) < lengths, IDS[:, 9:14].repeat(2, 1)
        both = Context(cache=Cache(policy))
        made.decode(IDS[:, :9].repeat(2, 1), both, mask=real)
        found = torch.stack([made.decode(each[:, None], both)[:, 0] for each in after.T], 1)
        for row, count in enumerate(lengths[:, 0].tolist()):
            alone = Context(cache=Cache(policy))
            made.decode(IDS[:, :count], alone)
            wanted = torch.stack([made.decode(each[None, None], alone)[0, 0] for each in after[row]])
            torch.testing.assert_close(found[row], wanted, atol=1e-5, rtol=0)


@torch.no_grad()
def test_memory_is_bounded_and_a_share_is_a_share():
    made = model()
    for policy, most in ((TOVA(keep=6), 6), (H2O(keep=6), 6), (Keyformer(keep=0.25), 6)):
        context = Context(cache=Cache(policy))
        for piece in IDS.split(1, 1):
            made.decode(piece, context)
        assert {context.cache.layer(block.mixer).count for block in made.backbone.blocks} == {most}
        assert int(context.cache.offset()) == 24
    whole = Context(cache=Cache())
    made.decode(IDS, whole)
    assert whole.cache.bytes > 3 * context.cache.bytes


def test_what_cannot_be_done_is_refused():
    with pytest.raises(BadInput, match=r"keep is 1.5; give a share"):
        TOVA(keep=1.5)
    with pytest.raises(BadInput, match="recent is 2"):
        H2O(recent=2)
    with pytest.raises(BadInput, match="kernel 4 an odd number"):
        SnapKV(kernel=4)
    with pytest.raises(DoesNotFit, match="none shows it: Retention"):
        h2o(ef.create("retnet", "nano"))
    made = model()
    with pytest.raises(DoesNotFit, match="cannot take tokens back"):
        generate(made, [[1]], eos=None, pad=0, max_tokens=4, strategy=Speculative(draft=made), policy=TOVA())
