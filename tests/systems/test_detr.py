"""DETR against Hugging Face's: answers, gradients and loss; published sizes."""

import pytest
import timm
import torch
from transformers import DetrConfig, DetrForObjectDetection, ResNetConfig

import everyformer as ef
from everyformer.context import Context
from everyformer.costs import on_meta, parameters
from everyformer.designs import design_of
from everyformer.interop import from_transformers, live
from everyformer.interop.config import Config
from everyformer.interop.detr import NETWORK, table
from everyformer.interop.family import family_of
from everyformer.interop.weights import resolve
from everyformer.objectives import Boxes
from support.agreement import close, perturb, same_answers

SIZES = {"width": 16, "heads": 2, "hidden": 24, "queries": 5, "classes": 3}


@pytest.fixture(scope="module")
def both():
    """Ours and theirs with the same weights; no layer of theirs is frozen."""
    torch.manual_seed(0)
    network = ResNetConfig(
        embedding_size=4, hidden_sizes=[16, 32], depths=[1, 2], out_features=["stage2"], layer_type="bottleneck"
    )  # fmt: skip
    config = DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone=None, backbone_config=network, d_model=16,
        encoder_layers=1, decoder_layers=2, encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=24,
        decoder_ffn_dim=24, num_queries=5, num_labels=3,
    )  # fmt: skip
    theirs = perturb(DetrForObjectDetection(config).requires_grad_(True), std=0.1)
    for name, buffer in theirs.named_buffers():
        if "normalization" in name and "tracked" not in name:
            buffer.add_(torch.rand(buffer.shape))
    ours = from_transformers(theirs.eval()).eval()
    return ours, theirs


def test_the_same_answers_loss_and_gradients(both):
    """The loss of one sample, as ours is the mean over samples. Theirs, asked for the answers of its layers, hands on
    normed tokens, which the authors' code does not: their loss is asked about the answers that ours notes.
    """
    ours, theirs = both
    pictures = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(2))
    labels = [
        {"class_labels": torch.tensor([2, 0]), "boxes": torch.tensor([[0.4, 0.5, 0.3, 0.2], [0.7, 0.2, 0.2, 0.4]])}
    ]
    output = theirs(pictures, labels=labels)
    context = Context(notes={})
    answer = ours(pictures, context=context)
    same_answers(answer, torch.cat((output.logits, output.pred_boxes), -1))

    things = torch.full((1, 3, 5), -100.0)
    things[0, :2] = torch.cat((labels[0]["class_labels"][:, None], labels[0]["boxes"]), 1)
    (loss,) = Boxes().one(answer, things)
    close(loss, output.loss, "loss")
    (early,) = context.notes["layers"]
    also = theirs.loss_function(early[..., :4], labels, "cpu", early[..., 4:], theirs.config)[0]
    close(Boxes()(ours, {"inputs": pictures, "labels": things}).total, output.loss + also, "loss of both layers")

    output.loss.backward()
    loss.backward()
    grads = {name: each.grad for name, each in theirs.named_parameters() if each.grad is not None}
    found = live.as_saved(theirs, grads)
    compared = 0
    for name, (pair, *_) in resolve(ours, live.pairs(ours, theirs)).items():
        if all(theirs in found for theirs in pair.theirs) and pair.theirs:  # their norms are buffers
            close(ours.get_parameter(name).grad, pair.read(found), f"gradient of {name}")
            compared += 1
    assert compared > 50


@pytest.mark.parametrize(("size", "published"), [("r50", 41e6), ("r101", 60e6)])
def test_sizes_are_the_published_ones(size, published):
    """Table 1."""
    assert parameters(on_meta(ef.design("detr", size))) == pytest.approx(published, rel=0.015)


def test_queries_answer_any_picture():
    model = ef.create("detr", stem=4, convs=(1, 1), depth=1, decoder_depth=1, **SIZES, seed=0).eval()
    for height, width in ((32, 48), (70, 33)):
        answer = model(torch.randn(2, 3, height, width))
        assert answer.shape == (2, 5, 8)
        assert ((answer[..., -4:] > 0) & (answer[..., -4:] < 1)).all()


def test_every_tensor_of_a_network_of_timm_has_its_place():
    with torch.device("meta"):
        network = timm.create_model("resnet50").state_dict()
    ours = ef.design("detr").build(device="meta")
    state, pairs = ours.state_dict(), resolve(ours, table(design_of(ours)))
    spoken = {theirs: state[name] for name, found in pairs.items() for pair in found for theirs in pair.theirs}
    found = {f"{NETWORK}.{name}": each for name, each in network.items() if not name.startswith("fc.")}
    found = {name: each for name, each in found.items() if not name.endswith("num_batches_tracked")}
    assert len(found) == 265
    assert all(spoken[name].shape == each.shape for name, each in found.items())


def test_a_network_of_timm_that_is_not_known_is_refused():
    with pytest.raises(ef.UnknownName, match="resnet34"):
        family_of(Config({"model_type": "detr"})).design(Config({"backbone": "resnet34"}), "DetrForObjectDetection")
