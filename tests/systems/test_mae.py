"""`vit-mae` against Hugging Face's ViT-MAE: what is hidden, what is answered, and the loss."""

import pytest
import torch
from transformers import ViTMAEConfig, ViTMAEForPreTraining

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers
from everyformer.objectives import HiddenPixels
from support.agreement import close, equal, perturb
from support.mae import published


def theirs_with(**changes):
    config = ViTMAEConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96, image_size=32, patch_size=8,
        num_channels=2, decoder_hidden_size=24, decoder_num_hidden_layers=1, decoder_num_attention_heads=2,
        decoder_intermediate_size=96, **changes,
    )  # fmt: skip
    return perturb(published(ViTMAEForPreTraining(config)))


@pytest.mark.parametrize("changes", [{}, {"norm_pix_loss": True, "mask_ratio": 0.5}])
def test_equals_hugging_face(changes):
    theirs = theirs_with(**changes)
    ours = from_transformers(theirs)
    pictures, noise = torch.randn(3, 2, 32, 32), torch.rand(3, 16)
    said = theirs(pictures, noise=noise)
    objective = HiddenPixels(patch=8, normalised=changes.get("norm_pix_loss", False))
    loss = objective(ours, {"inputs": pictures, "noise": noise})
    close(loss.total / loss.count, said.loss, "loss")
    equal(ours, theirs, ours(pictures, noise=noise), said.logits)


@pytest.mark.parametrize(("size", "published"), [("base", 111_907_840), ("large", 329_541_888), ("huge", 657_074_508)])
def test_sizes_are_the_published_ones(size, published):
    """Of the authors' whole models, which store their fixed positions; the encoders are the ViTs of that name."""
    design = ef.design("vit-mae", size)
    places = (design.get("embedding.image") // design.get("embedding.patch")) ** 2 + 1
    stored = places * (design.spec.get("width") + design.spec.get("narrow"))
    assert parameters(on_meta(design)) == published - stored


def test_the_decoder_answers_for_what_the_backbone_never_saw():
    model = ef.create(
        "vit-mae", image=16, patch=4, width=32, depth=1, heads=2, narrow=16, narrow_depth=1, narrow_heads=2
    )
    seen = []
    model.backbone.register_forward_hook(lambda m, given, after: seen.append(after))
    pictures, noise = torch.randn(2, 3, 16, 16), torch.rand(2, 16)
    answer = model(pictures, noise=noise)
    assert answer.shape == (2, 16, 48)
    assert seen[0].count == 1 + 4
    assert seen[0].grid is None
    hidden = noise.argsort(1).argsort(1) >= 4
    changed = pictures.clone()
    row = int(hidden[0].nonzero()[0])
    changed[0, :, 4 * (row // 4) : 4 * (row // 4) + 4, 4 * (row % 4) : 4 * (row % 4) + 4] += 3
    torch.testing.assert_close(model(changed, noise=noise), answer)
    assert (model(changed) - model(pictures)).abs().max() > 1e-3


def test_what_is_fine_tuned_takes_over_what_was_pretrained():
    same = {"image": 16, "patch": 4, "width": 32, "depth": 2, "heads": 2}
    pretrained = ef.create("vit-mae", narrow=16, narrow_depth=1, narrow_heads=2, **same)
    tuned = ef.create("vit-mae", classes=5, **same)
    missing = tuned.load_state_dict(pretrained.state_dict(), strict=False).missing_keys
    assert missing == ["head.norm.weight", "head.norm.bias", "head.classify.weight", "head.classify.bias"]


def test_positions_that_were_trained_are_refused():
    theirs = theirs_with()
    with torch.no_grad():
        theirs.vit.embeddings.position_embeddings.add_(0.1)
    with pytest.raises(ef.DoesNotFit, match=r"vit\.embeddings\.position_embeddings was trained"):
        from_transformers(theirs)


def test_the_patch_of_the_objective_is_the_models():
    model = ef.create(
        "vit-mae", image=16, patch=4, width=32, depth=1, heads=2, narrow=16, narrow_depth=1, narrow_heads=2
    )
    with pytest.raises(ef.DoesNotFit, match="give the objective the patch of the model"):
        HiddenPixels(patch=8)(model, {"inputs": torch.zeros(1, 3, 16, 16), "noise": torch.rand(1, 16)})
