"""`bytetransformer`: the answers of padded batches, from their real tokens alone."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from everyformer.errors import DoesNotFit
from everyformer.models import unpadded
from support.agreement import close
from support.systems import model_of, tiny

LENGTHS = torch.tensor([3, 12, 1, 7])


def batch(left=False):
    inputs = torch.randint(1, 20, (4, 12), generator=torch.Generator().manual_seed(0))
    real = torch.arange(12) < LENGTHS[:, None]
    return inputs, real.flip(1) if left else real


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("name", ["bert", "cosformer", "gpt", "fnet"])
def test_real_tokens_are_answered_as_with_padding(name, left):
    model = model_of(tiny(name)).eval()
    inputs, mask = batch(left)
    found, wanted = unpadded(model)(inputs, mask=mask), model(inputs, mask=mask)
    if wanted.dim() == 3:
        assert found.shape == wanted.shape
        assert not found[~mask].any()
        found, wanted = found[mask], wanted[mask]
    close(found, wanted)


def test_tokens_and_fields_of_tokens_are_spread_and_packed():
    model = model_of(tiny("bert", segments=2).set("head", None)).eval()
    inputs, mask = batch()
    segments = (torch.arange(12) > 4).long().expand(4, 12)
    found = unpadded(model)(inputs, mask=mask, segments=segments)
    wanted = model(inputs, mask=mask, segments=segments)
    close(found.values[mask], wanted.values[mask])
    assert torch.equal(found.places[mask], wanted.places.expand(4, -1, -1)[mask])


def test_the_work_is_that_of_the_real_tokens():
    model = model_of(tiny("bert")).eval()
    inputs, mask = batch()
    counted = []
    for each in (model, unpadded(model)):
        with FlopCounterMode(display=False) as counter:
            each(inputs, mask=mask)
        counted.append(counter.get_flop_counts())
    layer = "model.backbone.blocks.0.feedforward"
    whole = sum(counted[0][f"{type(model).__name__}.backbone.blocks.0.feedforward"].values())
    assert sum(counted[1][f"Unpadded.{layer}"].values()) / whole == mask.sum() / mask.numel()


def test_a_model_that_takes_no_packed_sequences_is_refused():
    with pytest.raises(DoesNotFit, match="takes no packed sequences; those of texts do"):
        unpadded(model_of(tiny("vit")))
