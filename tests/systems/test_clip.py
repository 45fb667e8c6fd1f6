"""`clip` against Hugging Face's."""

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from everyformer.objectives import Contrastive
from support.agreement import close, equal
from support.parity import ids, perturb, ragged

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
CONFIG = {
    "vision_config": {**SIZES, "image_size": 16, "patch_size": 8}, "projection_dim": 12,
    "text_config": {**SIZES, "vocab_size": 40, "max_position_embeddings": 12, "eos_token_id": 39, "bos_token_id": 1},
}  # fmt: skip


def test_equals_hugging_face():
    theirs = perturb(CLIPModel(CLIPConfig(**CONFIG)))
    ours = from_transformers(theirs)
    pictures, texts, mask = torch.randn(3, 3, 16, 16), ids(39, 3, 10), ragged(3, 10)
    texts[torch.arange(3), mask.sum(1) - 1] = 39
    texts = texts.masked_fill(~mask, 0)
    said = theirs(input_ids=texts, pixel_values=pictures, attention_mask=mask.long(), return_loss=True)
    answer = ours(pictures, texts=texts, texts_mask=mask)
    loss = Contrastive()(ours, {"inputs": pictures, "texts": texts, "texts_mask": mask})
    close(loss.total / loss.count, said.loss, "loss")
    equal(ours, theirs, answer, said.logits_per_image)


@pytest.mark.parametrize(
    ("size", "count"), [("base-32", 151_277_313), ("base-16", 149_620_737), ("large-14", 427_616_513)]
)
def test_sizes_are_the_published_ones(size, count):
    """Of the published weights; the class token and its position, which they add, are one here."""
    design = ef.design("clip", size)
    assert parameters(on_meta(design)) + design.get("picture.width") == count


def test_texts_start_as_in_the_authors_code():
    """attn_std, proj_std, fc_std and proj_std again of 64 wide and 3 deep, and the projection; the others as PyTorch has them."""
    options = {
        "image": 16,
        "patch": 8,
        "width": 16,
        "depth": 1,
        "heads": 2,
        "vocabulary": 99,
        "length": 16,
        "output": 64,
    }
    model = ef.create("clip", **options, text_width=64, text_depth=3, text_heads=2, seed=0)
    block = model.text.backbone.blocks[1]
    maps = (block.mixer.qkv, block.mixer.output, block.feedforward.up, block.feedforward.down, model.text.head.project)
    wanted = torch.tensor([1.0, 1 / 6, 1 / 2, 1 / 6, 1.0]).sqrt() / 8
    torch.testing.assert_close(torch.stack([each.weight.std() for each in maps]).detach(), wanted, rtol=0.03, atol=0)
    assert model.text.embedding.table.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert model.picture.embedding.positions.table.std().item() == pytest.approx(0.25, rel=0.3)
    assert model.picture.backbone.blocks[0].mixer.qkv.weight.abs().max() <= 0.25


def test_as_many_texts_as_pictures():
    model = ef.create(
        "clip", image=16, patch=8, width=16, depth=1, heads=2, vocabulary=9, length=4, text_width=16, text_depth=1,
        text_heads=2, output=8,
    )  # fmt: skip
    batch = {"inputs": torch.randn(3, 3, 16, 16), "texts": torch.ones(2, 4, dtype=torch.long)}
    assert model(**batch).shape == (3, 2)
    with pytest.raises(ef.BadInput, match=r"as many texts as pictures; given answers of shape \(3, 2\)"):
        Contrastive()(model, batch)


def test_a_tower_without_a_vector_is_refused():
    with pytest.raises(ef.DoesNotFit, match=r"text\.head.*answers with one vector"):
        ef.design("clip", "base-32").remove("text.head").build(device="meta")
