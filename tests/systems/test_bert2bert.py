"""`bert2bert` against Hugging Face's EncoderDecoderModel, and what its variants share."""

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, BertLMHeadModel, BertModel, EncoderDecoderModel

import everyformer as ef
from everyformer.costs import parameters
from everyformer.generation import generate
from everyformer.interop import from_transformers
from support.parity import ids, perturb, ragged
from support.parts import close

SIZES = {
    "vocab_size": 31, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 16,
}  # fmt: skip
SMALL = {"vocabulary": 31, "width": 32, "hidden": 48, "depth": 2, "heads": 4, "length": 16}


def bert(seed=0):
    return perturb(ef.create("bert", **SMALL, seed=seed))


def theirs_of(checkpoint, ours):
    """Their model warm-started from a checkpoint, its cross-attention as in ours."""
    encoder = BertModel(BertConfig(**SIZES), add_pooling_layer=False)
    encoder.load_state_dict(checkpoint.bert.state_dict())
    decoder = BertLMHeadModel(BertConfig(**SIZES, is_decoder=True, add_cross_attention=True))
    missing, extra = decoder.load_state_dict(checkpoint.state_dict(), strict=False)
    assert not extra
    assert missing
    assert all(".crossattention." in name for name in missing)
    with torch.no_grad():
        for layer, block in zip(decoder.bert.encoder.layer, ours.decoder.blocks, strict=True):
            attention = layer.crossattention
            for theirs, mine in cross(attention, block):
                theirs.copy_(mine)
    return EncoderDecoderModel(encoder=encoder, decoder=decoder).eval()


def cross(attention, block, of=lambda tensor: tensor):
    """Their tensors of one cross-attention beside ours, or what `of` makes of each."""
    mine, around = block.cross[0], block.residual[1].norm
    for kind in ("weight", "bias"):
        key, value = of(getattr(mine.key_value, kind)).chunk(2)
        pairs = [
            (attention.self.query, of(getattr(mine.query, kind))),
            (attention.self.key, key),
            (attention.self.value, value),
            (attention.output.dense, of(getattr(mine.output, kind))),
            (attention.output.LayerNorm, of(getattr(around, kind))),
        ]
        for theirs, tensor in pairs:
            yield of(getattr(theirs, kind)), tensor


def test_equals_hugging_face():
    checkpoint = perturb(BertForMaskedLM(BertConfig(**SIZES)))
    ours = ef.models.bert2bert(from_transformers(checkpoint), seed=0).eval()
    theirs = theirs_of(checkpoint, ours)
    inputs, target, mask = ids(31, 2, 9), ids(31, 2, 5, seed=1), ragged(2, 9)
    expected = theirs(input_ids=inputs, attention_mask=mask.long(), decoder_input_ids=target).logits
    found = ours(inputs, target, mask=mask)
    close(found, expected, 1e-5 * expected.abs().max().item())
    for each in (found, expected):
        (each * torch.randn(each.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for layer, block in zip(theirs.decoder.bert.encoder.layer, ours.decoder.blocks, strict=True):
        for wanted, gradient in cross(layer.crossattention, block, of=lambda tensor: tensor.grad):
            close(gradient, wanted, 1e-5 * max(1.0, float(wanted.abs().max())))
    for stack, layers in ((ours.encoder, theirs.encoder.encoder), (ours.decoder, theirs.decoder.bert.encoder)):
        wanted = layers.layer[0].intermediate.dense.weight.grad
        close(stack.blocks[0].feedforward.up.weight.grad, wanted, 1e-5 * max(1.0, float(wanted.abs().max())))


def test_halves_that_share_say_the_same_with_fewer_weights():
    apart, shared = (ef.models.bert2bert(bert(), shared=each, seed=3).eval() for each in (False, True))
    inputs, target = ids(31, 2, 9), ids(31, 2, 5, seed=1)
    close(shared(inputs, target), apart(inputs, target), 0.0)
    half = bert()
    less = parameters(half.embedding) + parameters(half.backbone)
    assert parameters(apart) - parameters(shared) == less
    shared(inputs, target).square().sum().backward()
    one, other = shared.encoder.blocks[0], shared.decoder.blocks[0]
    assert one.mixer.qkv.weight is other.mixer.qkv.weight
    assert one.residual[1].norm.weight is other.residual[2].norm.weight


def test_sharing_outlives_saving_and_copies():
    shared = ef.models.bert2bert(bert(), shared=True, seed=3).eval()
    again = ef.designs.design_of(shared).build(seed=1).eval()
    again.load_state_dict(shared.state_dict())
    inputs, target = ids(31, 1, 9), ids(31, 1, 5, seed=1)
    close(again(inputs, target), shared(inputs, target), 0.0)
    assert parameters(again) == parameters(shared)


def test_decodes_with_a_cache_as_without():
    model = ef.models.bert2bert(bert(), seed=0).eval()
    inputs = ids(31, 1, 9)
    said = generate(model, inputs, bos=1, eos=None, pad=0, max_tokens=4)[0]
    seen = [1]
    for token in said:
        assert token == model(inputs, torch.tensor([seen]))[0, -1].argmax()
        seen.append(token)


def test_gpt_makes_a_decoder():
    """BERT2GPT: pre-norm blocks with another vocabulary."""
    decoder = perturb(ef.create("gpt", vocabulary=23, length=16, width=32, depth=2, heads=4, seed=1))
    model = ef.models.bert2bert(bert(), decoder, seed=0).eval()
    inputs, target = ids(31, 2, 9), ids(23, 2, 5)
    assert model(inputs, target).shape == (2, 5, 23)
    with torch.no_grad():
        for block in model.decoder.blocks:
            block.cross[0].output.weight.zero_()
            block.cross[0].output.bias.zero_()
    close(model(inputs, target), decoder.eval()(target))


def test_the_model_that_it_began_as_stays_as_it_was():
    one = bert()
    before = {name: each.clone() for name, each in one.state_dict().items()}
    made = ef.models.bert2bert(one, seed=0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    assert all(torch.equal(before[name], each) for name, each in one.state_dict().items())


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        ("vit", {"image": 16, "patch": 4, "width": 32, "depth": 1, "heads": 4}, "head of tokens"),
        ("transformer", {"vocabulary": 9, "width": 32, "depth": 1, "heads": 4, "hidden": 48}, "stack of blocks"),
    ],
)
def test_what_cannot_be_a_half_is_refused(encoder, options, message):
    with pytest.raises(ef.DoesNotFit, match=message):
        ef.models.bert2bert(ef.create(encoder, **options))


def test_halves_that_do_not_fit_are_refused():
    with pytest.raises(ef.DoesNotFit, match="give no decoder"):
        ef.models.bert2bert(bert(), bert(1), shared=True)
    with pytest.raises(ef.DoesNotFit, match="as wide"):
        ef.models.bert2bert(bert(), ef.create("gpt", vocabulary=9, length=16, width=48, depth=1, heads=4))
