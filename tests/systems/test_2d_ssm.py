"""`2d-ssm`: a ViT without positions whose blocks see places all the same."""

import torch

import everyformer as ef
from support.parts import close
from support.systems import model_of, tiny


def test_places_matter_though_nothing_is_added_to_tokens():
    model, bare = model_of(tiny("2d-ssm")), model_of(tiny("vit").set("embedding.positions", None))
    picture = torch.randn(1, 3, 16, 16)
    turned = picture.unflatten(2, (4, 4)).flip(2).flatten(2, 3)
    close(bare(turned), bare(picture))
    assert (model(turned) - model(picture)).abs().max() > 1e-3


def test_without_states_it_is_the_vit_whose_tokens_are_scaled():
    model = model_of(tiny("2d-ssm"))
    plain = tiny("vit", ratio=2.0).set("embedding.positions", None).build().eval()
    weights = {name.replace("mixer.mixer.", "mixer."): each for name, each in model.state_dict().items()}
    plain.load_state_dict({name: each for name, each in weights.items() if ".mixer.first." not in name})
    with torch.no_grad():
        for block in model.backbone.blocks:
            block.mixer.first.read.zero_()
            block.mixer.first.skip.fill_(1.0)
    picture = torch.randn(2, 3, 16, 16)
    close(model(picture), plain(picture))


def test_the_layer_costs_few_weights():
    design = ef.design("2d-ssm")
    plain = design.swap("backbone.blocks.*.mixer", ef.spec(ef.mixers.Attention, heads=12))
    more, few = (sum(p.numel() for p in each.build(device="meta").parameters()) for each in (design, plain))
    assert (more - few) / 9 == 6 * 4 * 16 + 2 * 2 * 192 * 16 + 192
    assert more / few < 1.06
