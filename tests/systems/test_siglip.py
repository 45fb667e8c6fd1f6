"""`siglip` against Hugging Face's."""

import pytest
import torch
from transformers import SiglipConfig, SiglipModel, SiglipVisionConfig, SiglipVisionModel

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from everyformer.objectives import EachPair
from support.agreement import close, equal, perturb
from support.parity import ids


def test_equals_hugging_face():
    config = SiglipVisionConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=24, patch_size=8,
        num_channels=2,
    )  # fmt: skip
    theirs = perturb(SiglipVisionModel(config))
    ours = from_transformers(theirs)
    pictures = torch.randn(3, 2, 24, 24)
    equal(ours, theirs, ours(pictures), theirs(pictures).pooler_output)


@pytest.mark.parametrize(("size", "published"), [("base", 92_884_224), ("large", 315_956_224), ("so400m", 427_680_704)])
def test_sizes_are_the_published_ones(size, published):
    """Of the authors' picture towers (93M, 316M, 428M)."""
    assert parameters(on_meta(ef.design("siglip", size))) == published


@pytest.mark.parametrize("size", [(16, 16), (24, 8)])
def test_the_probe_gathers_from_any_number_of_patches(size):
    model = ef.create("siglip", classes=5, image=16, patch=4, width=32, depth=1, heads=2, seed=0)
    assert model(torch.randn(2, 3, *size)).shape == (2, 5)


def test_both_towers_and_their_loss_equal_hugging_face():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    text = {**sizes, "vocab_size": 40, "max_position_embeddings": 12}
    config = SiglipConfig(vision_config={**sizes, "image_size": 16, "patch_size": 8}, text_config=text)
    theirs = perturb(SiglipModel(config), std=0.1)
    ours = from_transformers(theirs)
    pictures, texts = torch.randn(3, 3, 16, 16), ids(40, 3, 12)
    said = theirs(input_ids=texts, pixel_values=pictures, return_loss=True)
    loss = EachPair()(ours, {"inputs": pictures, "texts": texts})
    close(loss.total / loss.count, said.loss, "loss")
    equal(ours, theirs, ours(pictures, texts=texts), said.logits_per_image)
