"""`informer` against a run of the authors' code and against Hugging Face's layers, and what few queries leave out."""

import pytest
import torch
from torch.nn import functional as F
from transformers import InformerConfig, InformerModel

import everyformer as ef
from everyformer.interop.weights import batch_norm, fill, layer, tensors
from everyformer.masks import Causal, Full, Window
from everyformer.mixers import ProbSparse
from support.agreement import close as near
from support.agreement import perturb, recorded, same_answers
from support.parts import close, tokens

SIZES = {"variates": 3, "marks": 4, "width": 16, "hidden": 24, "heads": 2}


def pairs(theirs_encoder, theirs_decoder, names, depth=2, decoder_depth=1):
    """The layers of both bodies; `names` are theirs of (q, k, v, output, first and second norm, up, down)."""
    q, k, v, o, first, second, up, down, cross, third = names
    table = []
    for i in range(depth):
        ours, theirs = f"encoder.stages.{i}.blocks.0", theirs_encoder.format(i)
        table += layer(f"{ours}.mixer.qkv", *(f"{theirs}.{n}" for n in (q, k, v)))
        table += layer(f"{ours}.mixer.output", f"{theirs}.{o}")
        table += layer(f"{ours}.residual.0.norm", f"{theirs}.{first}")
        table += layer(f"{ours}.feedforward.up", f"{theirs}.{up}") + layer(
            f"{ours}.feedforward.down", f"{theirs}.{down}"
        )
        table += layer(f"{ours}.residual.1.norm", f"{theirs}.{second}")
        if i:
            table += layer(f"encoder.stages.{i}.enter.conv", f"encoder.conv_layers.{i - 1}.downConv")
            table += batch_norm(f"encoder.stages.{i}.enter.norm", f"encoder.conv_layers.{i - 1}.norm")
    for i in range(decoder_depth):
        ours, theirs = f"decoder.blocks.{i}", theirs_decoder.format(i)
        own, other = cross
        table += layer(f"{ours}.mixer.qkv", *(f"{theirs}.{own}.{n.split('.', 1)[1]}" for n in (q, k, v)))
        table += layer(f"{ours}.mixer.output", f"{theirs}.{own}.{o.split('.', 1)[1]}")
        table += layer(f"{ours}.cross.0.query", f"{theirs}.{other}.{q.split('.', 1)[1]}")
        table += layer(f"{ours}.cross.0.key_value", *(f"{theirs}.{other}.{n.split('.', 1)[1]}" for n in (k, v)))
        table += layer(f"{ours}.cross.0.output", f"{theirs}.{other}.{o.split('.', 1)[1]}")
        table += layer(f"{ours}.feedforward.up", f"{theirs}.{up}") + layer(
            f"{ours}.feedforward.down", f"{theirs}.{down}"
        )
        for at, norm in enumerate(third):
            table += layer(f"{ours}.residual.{at}.norm", f"{theirs}.{norm}")
    return table


def test_equals_a_run_of_the_official_code(monkeypatch):
    """Three of sixteen, of fourteen and of eight queries attend; a shift of all keys moves no softmax."""
    attention = (
        "attention.query_projection",
        "attention.key_projection",
        "attention.value_projection",
        "attention.out_projection",
    )
    table = pairs(
        "encoder.attn_layers.{}",
        "decoder.layers.{}",
        (
            *attention,
            "norm1",
            "norm2",
            "conv1",
            "conv2",
            ("self_attention", "cross_attention"),
            ("norm1", "norm2", "norm3"),
        ),
    )
    for ours, theirs in (("source", "enc_embedding"), ("target", "dec_embedding")):
        table += layer(f"{ours}.project", f"{theirs}.value_embedding.tokenConv")
        table += layer(f"{ours}.stamp", f"{theirs}.temporal_embedding.embed", bias=False)
    table += (
        layer("encoder.norm", "encoder.norm")
        + layer("decoder.norm", "decoder.norm")
        + layer("head.project", "projection")
    )
    model = ef.create("informer", lookback=16, known=8, horizon=6, factor=1, **{**SIZES, "width": 12, "hidden": 12})

    def drawn(self, count):
        """As theirs draws them."""
        return torch.randint(count, (count, self.plenty(count)), generator=torch.Generator().manual_seed(0))

    monkeypatch.setattr(ef.mixers.ProbSparse, "tried", drawn)
    recorded("informer", model, table, fields=("marks", "coming"))


def test_bodies_equal_hugging_face():
    """Theirs and ours on the same features, all queries chosen: theirs draws its keys anew in each pass."""
    torch.manual_seed(0)
    config = InformerConfig(
        prediction_length=4, context_length=12, input_size=2, lags_sequence=[1], d_model=16, encoder_ffn_dim=24,
        decoder_ffn_dim=24, encoder_layers=2, decoder_layers=2, sampling_factor=9,
    )  # fmt: skip
    theirs = perturb(InformerModel(config), std=0.1).eval()
    ours = ef.create("informer", lookback=12, known=0, horizon=4, factor=9, decoder_depth=2, **SIZES)
    attention = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj")
    norms = ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")
    table = pairs(
        "encoder.layers.{}",
        "decoder.layers.{}",
        (*attention, norms[0], norms[2], "fc1", "fc2", ("self_attn", "encoder_attn"), norms),
        decoder_depth=2,
    )
    ours.encoder.norm = ours.decoder.norm = None
    bodies = torch.nn.ModuleDict({"encoder": ours.encoder, "decoder": ours.decoder}).eval()
    fill(bodies, table, tensors(theirs), unused=("*value_embedding*", "*embed_positions*", "*layernorm_embedding*"))
    past, future = torch.randn(3, 12, config.feature_size), torch.randn(3, 4, config.feature_size)
    read, written = [], []
    for part, kept in ((theirs.encoder, read), (theirs.decoder, written)):
        part.layernorm_embedding.register_forward_hook(lambda module, given, output, kept=kept: kept.append(output))
    memory = theirs.encoder(inputs_embeds=past).last_hidden_state
    expected = theirs.decoder(inputs_embeds=future, encoder_hidden_states=memory).last_hidden_state
    found = ours.encoder(ef.Tokens(read[0]))
    same_answers(found.values, memory)
    context = ef.context.Context(memory={"encoder": found})
    answer = ours.decoder(ef.Tokens(written[0]), context).values
    same_answers(answer, expected)
    weights = torch.randn_like(expected)
    mine = torch.autograd.grad((answer * weights).sum(), ours.encoder.stages[1].enter.conv.weight)
    wanted = torch.autograd.grad((expected * weights).sum(), theirs.encoder.conv_layers[0].downConv.weight)
    near(mine[0], wanted[0], "gradient of the convolution between the layers")


@pytest.mark.parametrize("mask", [Full(), Causal()], ids=str)
def test_all_queries_are_attention_and_the_others_take_means(mask):
    torch.manual_seed(0)
    mixer = ProbSparse(16, heads=2, factor=99, mask=mask)
    whole = tokens(11, 2, width=16)
    query, key, value = (x.unflatten(-1, (2, 8)).transpose(1, 2) for x in mixer.qkv(whole.values).chunk(3, -1))
    plain = F.scaled_dot_product_attention(query, key, value, is_causal=mask == Causal())
    close(mixer(whole), mixer.output(plain.transpose(1, 2).flatten(2)))
    few = ProbSparse(16, heads=2, factor=1, mask=mask)
    few.load_state_dict(mixer.state_dict())
    with torch.no_grad():
        few.output.weight.copy_(torch.eye(16))
        few.output.bias.zero_()
    rest = value.cumsum(2) if mask == Causal() else value.mean(2, keepdim=True).expand_as(value)
    found = few(whole).unflatten(-1, (2, 8)).transpose(1, 2)
    lazy, active = (found - rest).abs().amax(-1) < 1e-6, (found - plain).abs().amax(-1) < 1e-5
    assert (lazy | active).all()
    assert ((~lazy).sum(-1) <= 3).all(), "the first of all takes the same in both ways"
    assert ((~lazy).sum(-1) >= 2).all()
    chosen = few.uneven(query, key, torch.arange(11).expand(11, -1)).topk(3, -1)[1]
    scores = query @ key.mT
    assert torch.equal(chosen, (scores.amax(-1) - scores.mean(-1)).topk(3, -1)[1])


@pytest.mark.parametrize("count", [7, 8])
def test_distilling_leaves_half(count):
    part = ef.backbones.Distilling(16, 16).eval()
    found = part(tokens(count, 2, width=16))
    assert found.count == 4
    assert found.positions.flatten().tolist() == [0, 2, 4, 6]
    with pytest.raises(ef.BadInput, match="padded or packed"):
        part(tokens(4, 2, width=16).replace(mask=torch.ones(2, 4, dtype=torch.bool)))


def test_what_does_not_fit_is_said():
    model = ef.create("informer", lookback=12, known=6, horizon=4, **SIZES).eval()
    for given, message in (
        ({"inputs": torch.zeros(1, 5, 3)}, "given the last 6 steps of a series .*given a tensor of shape .1, 5, 3"),
        (
            {"inputs": torch.zeros(1, 12, 3), "coming": torch.zeros(1, 4, 4)},
            "stamps of 4 steps to come; give those of 4, and",
        ),
    ):
        with pytest.raises(ef.BadInput, match=message):
            model(**given)
    for options, message in (({"factor": 0}, "factor is at least 1"), ({"mask": Window(2)}, "of all or of all before")):
        with pytest.raises(ValueError, match=message):
            ProbSparse(16, heads=2, **options)
    with pytest.raises(ValueError, match="kernel is odd"):
        ef.embeddings.ConvSteps(8, variates=2, kernel=4)
    with pytest.raises(ef.DoesNotFit, match="at least 1 step"):
        ef.design("informer", horizon=0).build()
