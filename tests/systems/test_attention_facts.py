"""What attention is and does, fact by fact (a course homework on attention; `docs/attention.md` tells and draws it)."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from docs.attention_by_hand import convolution, identity, permutation

import everyformer as ef
from everyformer.heads import ClassHead, Mean
from everyformer.masks import Block, Causal, Window
from everyformer.mixers import Attention
from everyformer.mixers.attend import Lowered, attend
from everyformer.models import Model, Xavier
from everyformer.norms import LayerNorm, PostNorm, PreNorm


def look(query, key, value, beta):
    """V softmax(beta K^T q) for queries (S, N, K) over keys and values (S, M, K)."""
    return attend(query[:, None], key[:, None], value[:, None], lowered=Lowered(), scale=beta)[:, 0]


def orthonormal(n):
    return torch.linalg.qr(torch.randn(n, n)).Q


class TestTemperature:
    def test_cold_attention_takes_the_best_key_alone(self):
        query, key, value = torch.randn(3, 4, 8), torch.randn(3, 9, 8), torch.randn(3, 9, 8)
        best = (query @ key.mT).argmax(-1)
        expected = torch.stack([value[s, best[s]] for s in range(3)])
        torch.testing.assert_close(look(query, key, value, 1e4), expected, atol=1e-5, rtol=0)

    def test_equal_best_keys_share(self):
        key, value = torch.eye(4)[[0, 1, 1, 2]][None], torch.randn(1, 4, 8)
        found = look(torch.eye(4)[None, 1:2], key, value, 1e4)
        torch.testing.assert_close(found[0, 0], (value[0, 1] + value[0, 2]) / 2)

    def test_hot_attention_is_the_mean(self):
        query, key, value = torch.randn(3, 4, 8), torch.randn(3, 9, 8), torch.randn(3, 9, 8)
        expected = value.mean(1, keepdim=True).expand(3, 4, 8)
        torch.testing.assert_close(look(query, key, value, 0.0), expected)
        same = key[:, :1].expand(3, 9, 8)
        torch.testing.assert_close(look(query, same, value, 3.0), expected)

    def test_the_part_has_the_same_two_ends(self):
        tokens = ef.Tokens(torch.randn(2, 6, 8))
        mixer = Attention(8, heads=2, temperature=1e9)
        value = mixer.qkv(tokens.values)[..., 16:]
        expected = mixer.output(value.mean(1, keepdim=True)).expand(2, 6, 8)
        torch.testing.assert_close(mixer(tokens), expected, atol=1e-6, rtol=0)
        mixer.scale = 8**-0.5 / 1e-5
        weights = []
        mixer.weights.register_forward_hook(lambda _, __, out: weights.append(out))
        mixer(tokens)
        assert weights[0].max(-1).values.min() > 0.99


class TestSensitivity:
    """Orthonormal keys; a query between the keys a and b gives the mean of their values, until a key's norm moves."""

    strength, spread, runs = 10.0, 0.5, 4000
    keys = torch.eye(8)
    values = torch.eye(8)

    def outputs(self, queries, spread):
        """h of each run (R, N, 8) when key a is scaled by 1 + N(0, spread^2)."""
        generator = torch.Generator().manual_seed(0)
        keys = self.keys.repeat(self.runs, 1, 1)
        keys[:, 0] *= 1 + spread * torch.randn(self.runs, 1, generator=generator)
        queries = queries.expand(self.runs, -1, -1)
        return look(queries, keys, self.values.expand(self.runs, 8, 8), self.strength)

    def test_a_query_between_two_keys_gives_the_mean_of_their_values(self):
        found = self.outputs((self.keys[0] + self.keys[1])[None, None], 0.0)[0, 0]
        torch.testing.assert_close(found, (self.values[0] + self.values[1]) / 2, atol=1e-3, rtol=0)

    def test_small_noise_in_all_keys_moves_it_little_and_as_predicted(self):
        noise = 1e-2
        keys = self.keys + noise * torch.randn(self.runs, 8, 8)
        query = (self.keys[0] + self.keys[1]).expand(self.runs, 1, 8)
        found = look(query, keys, self.values.expand(self.runs, 8, 8), self.strength)[:, 0, 0]
        # The two scores differ by strength * q.(n_a - n_b), of deviation 2 * strength * noise; a share's slope is 1/4.
        assert found.mean().item() == pytest.approx(0.5, abs=0.01)
        assert found.std().item() == pytest.approx(2 * self.strength * noise / 4, rel=0.05)

    def test_scaling_a_key_moves_its_score_alone(self):
        query, key, scale = torch.randn(8), torch.randn(5, 8), 0.7
        longer = key.clone()
        longer[2] *= 1.3
        before = look(query[None, None], key[None], torch.eye(5)[None], scale)[0, 0].log()
        after = look(query[None, None], longer[None], torch.eye(5)[None], scale)[0, 0].log()
        moved = (after - before) - (after - before)[0]
        expected = torch.zeros(5)
        expected[2] = scale * 0.3 * (query @ key[2])
        torch.testing.assert_close(moved, expected, atol=1e-5, rtol=0)

    def variance(self, queries):
        """Of the share of a's value in the mean over heads."""
        return self.outputs(queries, self.spread).mean(1)[:, 0].var().item()

    def test_one_head_flips_between_the_two_values_as_predicted(self):
        nodes, weights = np.polynomial.hermite_e.hermegauss(80)
        share = 1 / (1 + np.exp(-self.strength * self.spread * nodes))
        weights = weights / weights.sum()
        predicted = (weights * share**2).sum() - (weights * share).sum() ** 2
        found = self.variance((self.keys[0] + self.keys[1])[None, None])
        assert predicted > 0.1
        assert found == pytest.approx(predicted, rel=0.03)

    def test_two_heads_hold_still(self):
        one = self.variance((self.keys[0] + self.keys[1])[None, None])
        two = self.variance(self.keys[None, :2])
        assert two < one / 20


class TestByHand:
    """Weights set by hand make self-attention the identity, a permutation, a convolution."""

    def test_identity(self):
        tokens = orthonormal(16)[None]
        torch.testing.assert_close(identity(16)(ef.Tokens(tokens)), tokens, atol=1e-4, rtol=0)

    def test_permutation(self):
        tokens, order = orthonormal(16), torch.randperm(16)
        found = permutation(tokens, order)(ef.Tokens(tokens[None]))[0]
        torch.testing.assert_close(found, tokens[order], atol=1e-4, rtol=0)
        assert not torch.equal(order, torch.arange(16))

    def test_convolution_of_a_line(self):
        kernel, x = torch.randn(5, 5, 3), torch.randn(2, 5, 12)
        bordered = F.pad(x, (1, 1))
        found = convolution(kernel)(ef.Tokens(bordered.mT)).mT[..., 1:-1]
        torch.testing.assert_close(found, F.conv1d(x, kernel, padding=1), atol=1e-4, rtol=0)

    def test_convolution_of_a_picture(self):
        kernel, x = torch.randn(4, 4, 3, 3), torch.randn(2, 4, 6, 7)
        bordered = F.pad(x, (1, 1, 1, 1))
        mixer = convolution(kernel, row=bordered.shape[-1])
        found = mixer(ef.Tokens(bordered.flatten(2).mT)).mT.unflatten(-1, bordered.shape[2:])[..., 1:-1, 1:-1]
        torch.testing.assert_close(found, F.conv2d(x, kernel, padding=1), atol=1e-4, rtol=0)


def encoder(depth=3, positions=None, **options):
    mixer = ef.spec(Attention, heads=2, positions=positions)
    block = ef.spec(ef.backbones.Block, mixer=mixer, feedforward=ef.spec(ef.feedforward.MLP, hidden=16))
    return ef.spec(ef.backbones.Encoder, blocks=(block,) * depth, **options).build(8).double()


class TestPositions:
    def test_without_positions_the_order_of_tokens_means_nothing(self):
        body, x, order = encoder(), torch.randn(2, 7, 8).double(), torch.randperm(7)
        torch.testing.assert_close(body(ef.Tokens(x[:, order])).values, body(ef.Tokens(x)).values[:, order])

    @pytest.mark.parametrize("positions", [ef.positions.Sinusoidal, ef.positions.Learned])
    def test_absolute_positions_give_it_a_meaning(self, positions):
        text = ef.spec(ef.embeddings.Text, vocabulary=9, positions=ef.spec(positions)).build(8).double()
        body, words, order = encoder(), torch.randint(0, 9, (2, 7)), torch.arange(7).flip(0)
        straight, turned = body(text(words)).values, body(text(words[:, order])).values
        assert (turned - straight[:, order]).abs().max() > 1e-2

    @pytest.mark.parametrize("positions", [ef.positions.Relative, ef.positions.Rotary, ef.positions.ALiBi])
    def test_relative_positions_move_with_the_tokens(self, positions):
        depth, step = 3, 4
        body = encoder(depth, ef.spec(positions), mask=Window(1, 1))
        x = torch.randn(1, 24, 8).double()
        moved = torch.cat((torch.randn(1, step, 8).double(), x[:, :-step]), 1)
        inside = slice(step + depth, 24 - depth)
        found = body(ef.Tokens(moved)).values[:, inside]
        expected = body(ef.Tokens(x)).values[:, depth : 24 - depth - step]
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)

    def test_absolute_positions_do_not(self):
        text = ef.spec(ef.embeddings.Text, vocabulary=9, positions=ef.spec(ef.positions.Sinusoidal)).build(8).double()
        body, words = encoder(mask=Window(1, 1)), torch.randint(0, 9, (1, 24))
        found = body(text(words.roll(4, 1))).values[:, 8:20]
        assert (found - body(text(words)).values[:, 4:16]).abs().max() > 1e-2


class TestStreaming:
    def influence(self, mask, depth, length=16):
        """(N, N): how strongly output i depends on input j."""
        body, x = encoder(depth, mask=mask), torch.randn(1, length, 8).double().requires_grad_()
        out = body(ef.Tokens(x)).values[0]
        rows = [
            torch.autograd.grad(out[i].square().sum(), x, retain_graph=True)[0][0].norm(dim=-1) for i in range(length)
        ]
        return torch.stack(rows)

    @pytest.mark.parametrize(("ahead", "depth"), [(0, 3), (1, 3), (2, 1), (2, 4)])
    def test_look_ahead_grows_with_the_layers_and_no_further(self, ahead, depth):
        found = self.influence(Causal(ahead=ahead), depth)
        reach = torch.arange(16)[None] - torch.arange(16)[:, None]
        assert (found[reach > depth * ahead] == 0).all()
        assert (found[reach == depth * ahead] > 0).all()

    @pytest.mark.parametrize("depth", [1, 4])
    def test_chunks_look_ahead_to_their_own_end_at_any_depth(self, depth):
        found = self.influence(Block(4, back=1), depth)
        query, key = torch.arange(16)[:, None], torch.arange(16)[None]
        assert (found[key // 4 > query // 4] == 0).all()
        assert (found[key // 4 == query // 4] > 0).all()


def deep(residual, depth, width=16, gain=None):
    """A classifier of texts by their first word; with `gain`, weights normal with gain / sqrt(inputs)."""
    block = ef.spec(
        ef.backbones.Block,
        mixer=ef.spec(Attention, heads=2),
        feedforward=ef.spec(ef.feedforward.MLP, hidden=2 * width, activation="relu"),
        residual=ef.spec(residual),
    )
    text = ef.spec(ef.embeddings.Text, vocabulary=10, positions=ef.spec(ef.positions.Sinusoidal), scaled=True)
    last = ef.spec(LayerNorm) if residual is PreNorm else None
    model = Model(
        width=width,
        embedding=text,
        backbone=ef.spec(ef.backbones.Encoder, blocks=(block,) * depth, norm=last),
        head=ef.spec(ClassHead, classes=10, pool=ef.spec(Mean)),
        start=ef.spec(Xavier),
    )
    for module in model.modules() if gain else ():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=gain * module.in_features**-0.5)
    return model


def texts(seed, count=32):
    words = torch.randint(0, 10, (count, 8), generator=torch.Generator().manual_seed(seed))
    return words, words[:, 0]


def gradients(model, seed=0):
    """The norm of the gradient of each block."""
    words, classes = texts(seed, 64)
    F.cross_entropy(model(words), classes).backward()
    blocks = model.backbone.blocks
    return [torch.stack([p.grad.norm() for p in block.parameters()]).norm().item() for block in blocks]


class TestNorms:
    def test_depth_shrinks_the_last_gradient_of_pre_norm_alone(self):
        """Xiong et al. (2020), theorem 1: by up to sqrt(2/18) from 2 to 18 layers for pre-norm, not for post-norm."""
        shrunk = {}
        for residual in (PreNorm, PostNorm):
            last = {2: 0.0, 18: 0.0}
            for depth in last:
                for seed in range(6):
                    torch.manual_seed(seed)
                    model = deep(residual, depth, width=32)
                    gradients(model, seed)
                    last[depth] += model.backbone.blocks[-1].feedforward.down.weight.grad.norm().item()
            shrunk[residual] = last[18] / last[2]
        assert 1 / 3 < shrunk[PreNorm] < 0.6
        assert shrunk[PostNorm] > 0.9

    def test_the_first_gradient_scatters_more_with_post_norm(self):
        scatter = {}
        for residual in (PreNorm, PostNorm):
            torch.manual_seed(0)
            found = [gradients(deep(residual, 24, gain=2**0.5), seed) for seed in range(6)]
            ratios = [each[0] / each[-1] for each in found]
            scatter[residual] = max(ratios) / min(ratios)
        assert scatter[PostNorm] > 3 * scatter[PreNorm]

    def test_pre_norm_learns_without_warm_up_where_post_norm_does_not(self):
        losses = {}
        for residual in (PreNorm, PostNorm):
            model = deep(residual, 24, width=32)
            adam = torch.optim.Adam(model.parameters(), lr=1e-3)
            for step in range(60):
                words, classes = texts(step)
                loss = F.cross_entropy(model(words), classes)
                adam.zero_grad()
                loss.backward()
                adam.step()
            words, classes = texts(1000, 500)
            losses[residual] = F.cross_entropy(model(words), classes).item()
        assert losses[PreNorm] < 1.7
        assert losses[PostNorm] > 2.2
