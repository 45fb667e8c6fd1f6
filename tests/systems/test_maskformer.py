"""MaskFormer's head and loss against Hugging Face's, given the maps of a body; published sizes."""

import pytest
import torch
from transformers import DetrConfig, MaskFormerConfig, SwinConfig
from transformers.models.maskformer.modeling_maskformer import (
    MaskFormerHungarianMatcher,
    MaskFormerLoss,
    MaskformerMLPPredictionHead,
    MaskFormerPixelDecoder,
    MaskFormerTransformerModule,
)

import everyformer as ef
from everyformer.context import Context
from everyformer.costs import on_meta, parameters
from everyformer.grids import as_tokens
from everyformer.interop.weights import Pair, fill, layer, tensors
from everyformer.objectives import Masks
from everyformer.published.detection import query_decoder
from support.agreement import close, perturb, same_answers
from support.heads import maps

WIDTHS, HIDDEN, CLASSES = (12, 16, 20), 32, 3


class Theirs(torch.nn.Module):
    """Their pixel decoder, transformer and heads, as their whole model joins them."""

    def __init__(self):
        super().__init__()
        detr = DetrConfig(
            use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=SwinConfig(),
            d_model=HIDDEN, decoder_layers=2, decoder_attention_heads=2, decoder_ffn_dim=24, num_queries=5,
        )  # fmt: skip
        config = MaskFormerConfig(backbone_config=SwinConfig(), decoder_config=detr)
        self.pixels = MaskFormerPixelDecoder(
            in_features=WIDTHS[-1], lateral_widths=list(WIDTHS[:-1]), feature_size=HIDDEN, mask_feature_size=HIDDEN
        )
        self.transformer = MaskFormerTransformerModule(WIDTHS[-1], config)
        self.classify = torch.nn.Linear(HIDDEN, CLASSES + 1)
        self.mask = MaskformerMLPPredictionHead(HIDDEN, HIDDEN, HIDDEN)

    def layers(self, given):
        """The logits of classes and masks by what every layer of the decoder gives, normed."""
        cells = self.pixels(given).last_hidden_state
        states = self.transformer(given[-1], output_hidden_states=True).hidden_states[1:]
        norm = self.transformer.decoder.layernorm
        values = torch.stack([*(norm(each) for each in states[:-1]), states[-1]])
        return self.classify(values), torch.einsum("lbqc,bchw->lbqhw", self.mask(values), cells)

    def forward(self, given):
        """Semantic inference, as their image processor has it, in logs."""
        classes, masks = self.layers(given)
        shares = torch.einsum("bqc,bqhw->bchw", classes[-1].softmax(-1)[..., :-1], masks[-1].sigmoid())
        return shares.log()


def table():
    """Which of our tensors is which of theirs."""
    fpn = "pixels.fpn"
    pairs = layer("first.0", f"{fpn}.stem.0", bias=False) + layer("first.1", f"{fpn}.stem.1")
    for ours, theirs in ((1, 0), (0, 1)):
        own = f"{fpn}.layers.{theirs}"
        pairs += layer(f"lateral.{ours}.0", f"{own}.proj.0", bias=False) + layer(f"lateral.{ours}.1", f"{own}.proj.1")
        pairs += layer(f"smooth.{ours}.0", f"{own}.block.0", bias=False) + layer(f"smooth.{ours}.1", f"{own}.block.1")
    pairs += layer("cells", "pixels.mask_projection") + layer("project", "transformer.input_projection")
    pairs.append(Pair("queries", ("transformer.queries_embedder.weight",)))
    decoder, block = "transformer.decoder", "body.blocks.*"
    own, cross = f"{decoder}.layers.*.self_attn", f"{decoder}.layers.*.encoder_attn"
    pairs += layer(f"{block}.mixer.query_key", f"{own}.q_proj", f"{own}.k_proj")
    pairs += layer(f"{block}.mixer.value", f"{own}.v_proj") + layer(f"{block}.mixer.output", f"{own}.o_proj")
    for ours, theirs in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("output", "o_proj")):
        pairs += layer(f"{block}.cross.0.{ours}", f"{cross}.{theirs}")
    pairs += layer(f"{block}.feedforward.up", f"{decoder}.layers.*.mlp.fc1")
    pairs += layer(f"{block}.feedforward.down", f"{decoder}.layers.*.mlp.fc2")
    for k, norm in enumerate(("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm")):
        pairs += layer(f"{block}.residual.{k}.norm", f"{decoder}.layers.*.{norm}")
    pairs += layer("norm", f"{decoder}.layernorm") + layer("classify", "classify")
    return pairs + layer("mask.*", "mask.*.0")


def test_the_head_equals_hugging_face():
    """Answers and gradients, and what every layer says; queries that begin as zeros give the first values no gradient."""
    torch.manual_seed(0)
    theirs, given = perturb(Theirs(), std=0.1), maps(*WIDTHS)
    body = query_decoder(2, 2, 24, ef.spec(ef.norms.PostNorm))
    head = ef.spec(
        ef.heads.MaskQueries, classes=CLASSES, body=body, norm=ef.spec(ef.norms.LayerNorm), queries=5, hidden=HIDDEN
    )  # fmt: skip
    ours = head.build(WIDTHS).eval()
    fill(ours, table(), tensors(theirs))
    context = Context(levels={torch.nn.Identity(): as_tokens(each) for each in given}, notes={})
    answer, wanted = ours(as_tokens(given[-1]), context), theirs(given)
    same_answers(answer, wanted)
    for mine, their in zip((context.notes["classes"], context.notes["masks"]), theirs.layers(given), strict=True):
        close(mine, their, "layers")
    answer.mean().backward()
    wanted.mean().backward()
    found = {name: each.grad for name, each in theirs.named_parameters() if each.grad is not None}
    for name, mine in ours.named_parameters():
        pair = next(each for pair in table() if (each := pair.at(name)))
        close(mine.grad, pair.read(found), f"gradient of {name}")


def test_the_loss_equals_hugging_face():
    """Of one sample; a class that is not there has no mask."""
    generator = torch.Generator().manual_seed(4)
    logits, masks = (torch.randn(1, 5, *size, generator=generator) for size in ((5,), (6, 8)))
    labels = torch.randint(0, 3, (1, 12, 16), generator=generator)
    labels[:, 4:] = 3
    labels[labels == 1] = 0
    kinds = labels.unique()
    matcher = MaskFormerHungarianMatcher(cost_class=1.0, cost_dice=1.0, cost_mask=20.0)
    weights = {"loss_cross_entropy": 1.0, "loss_mask": 20.0, "loss_dice": 1.0}
    theirs = MaskFormerLoss(4, matcher, weights, 0.1)
    said = theirs(masks, logits, [(labels == kinds[:, None, None]).float()], [kinds])
    close(Masks().one(logits, masks, labels)[0], sum(weights[name] * each for name, each in said.items()), "loss")


def test_what_counts_for_nothing_changes_no_loss():
    """Whatever a mask says of void pixels."""
    masks, logits = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 4)
    labels = torch.randint(0, 3, (1, 8, 8))
    labels[:, :3] = -100
    other = masks.clone()
    other[:, :, :3] = 5.0
    close(Masks().one(logits, other, labels), Masks().one(logits, masks, labels), "loss")
    plain = ef.create("unet", classes=3, widths=(4, 4))
    with pytest.raises(ef.DoesNotFit, match="a head that says them"):
        Masks()(plain, {"inputs": torch.randn(1, 3, 8, 8), "labels": labels})


@pytest.mark.parametrize(("size", "published"), [("r50", 41e6), ("r101", 60e6)])
def test_sizes_are_the_published_ones(size, published):
    """Table 1."""
    assert parameters(on_meta(ef.design("maskformer", size))) == pytest.approx(published, rel=0.015)


def test_a_class_that_no_query_says_leaves_a_gradient_that_is_a_number():
    sizes = {"stem": 8, "convs": (1,), "hidden": 16, "decoder_depth": 1, "heads": 2, "mlp": 16, "groups": 4}
    head = ef.create("maskformer", classes=3, **sizes).head
    classes = torch.tensor([0.0, -86.0, 0.0, 0.0]).expand(1, 1, 4, 4).clone().requires_grad_()
    masks = torch.zeros(1, 1, 4, 64, 64, requires_grad=True)
    said = head.pixels_of((classes, masks), None)
    torch.nn.functional.cross_entropy(said, torch.ones(1, 64, 64, dtype=torch.long), reduction="sum").backward()
    assert classes.grad.isfinite().all()
    assert masks.grad.isfinite().all()
