"""kMaX-DeepLab against the authors' code, and its step against k-means itself."""

import pytest
import torch
from safetensors.torch import load_file
from sklearn.cluster import KMeans
from torch import nn

import everyformer as ef
from everyformer.context import Context
from everyformer.grids import as_tokens
from everyformer.heads.clusters import assigned
from everyformer.heads.pixels import Pixels
from everyformer.objectives import ClusterMasks
from everyformer.specs import Spec
from support.agreement import FIXTURES, close

CENTRES = "centres"
TELLING = ("around", "wide", "cells", "mask", "classify", "sharp")
STEP = (
    "enter", "enter_cells", "qkv", "value", "scores", "met", "meet", "up", "down",
    *(f"telling.{name}" for name in TELLING), "gathered", "gather",
)  # fmt: skip
ORDER = [
    *(f"steps.{i}.{name}" for i in range(2) for name in STEP), CENTRES, "named", "masking",
    *(f"telling.{name}" for name in TELLING),
]  # fmt: skip
"""Our modules as theirs stand one after the other."""


class Given(Pixels):
    """Hands on what it is given: the last map for masks, the others to look at."""

    levels = 2

    def __init__(self, widths, hidden):
        super().__init__()

    def forward(self, maps, context=None):
        return maps[-1], maps[:-1]


def flat(head, pick):
    """The tensors of the head that `pick` finds in each module, in their order."""
    return [(name, each) for name in ORDER for each in pick(head.get_submodule(name))]


def learnt(module):
    """Their table of centres stands on its side."""
    return [each.T if isinstance(module, nn.Embedding) else each for each in module.parameters()]


def test_the_decoder_equals_the_authors():
    """Of two levels: weights, maps, answers and gradients of a run of theirs."""
    kept = load_file(FIXTURES / "kmax_deeplab.safetensors")
    head = ef.heads.ClusterQueries(
        (8, 8, 8), classes=3, pixels=Spec(Given, {}), queries=5, hidden=8, heads=2, mlp=12, depths=(1, 1)
    ).eval()
    state = [
        each.T if isinstance(head.get_submodule(name), nn.Embedding) else each
        for name, each in flat(head, lambda module: [x for x in module.state_dict().values() if x.is_floating_point()])
    ]
    with torch.no_grad():
        for mine, theirs in zip(state, kept["weights"].split([each.numel() for each in state]), strict=True):
            mine.copy_(theirs.view(mine.shape))
    given = [kept["map.0"], kept["map.1"], kept["cells"]]
    context = Context(levels={nn.Identity(): as_tokens(each) for each in given}, notes={})
    answer = head(as_tokens(given[-1]), context)
    for name in ("classes", "masks"):
        close(context.notes[name], kept[name], name)
    odds = kept["masks"][-1].softmax(1)
    close(answer, torch.einsum("bnv,bnyx->bvyx", kept["classes"][-1].softmax(-1)[..., :-1], odds).log())
    sum((context.notes[name] * kept[f"cotangent.{name}"]).sum() for name in ("classes", "masks")).backward()
    found = [(name, each) for name, each in flat(head, lambda module: list(module.parameters()))]
    sizes = [each.numel() for _, each in found]
    for (name, mine), theirs in zip(found, kept["gradients"].split(sizes), strict=True):
        wanted = theirs.view(mine.shape) if name != CENTRES else theirs.view(mine.T.shape).T
        close(mine.grad, wanted, f"gradient of {name}")


def test_a_step_is_one_of_k_means():
    """Cells of length 1 go to the centre that they have most in common with, which becomes their mean."""
    torch.manual_seed(0)
    points = nn.functional.normalize(torch.randn(60, 4), dim=1)
    centres = points[:5]
    shares = assigned((centres @ points.T)[None])[0]
    assert torch.equal(shares.sum(0), torch.ones(60))
    step = KMeans(5, init=centres.numpy(), n_init=1, max_iter=1).fit(points.numpy())
    means = shares @ points / shares.sum(1, keepdim=True)
    nearest = torch.cdist(points, means).argmin(1)
    assert (nearest == torch.from_numpy(step.labels_).long()).all()


def test_the_choice_of_a_centre_has_no_gradient():
    logits = torch.randn(1, 3, 7, requires_grad=True)
    assert not assigned(logits).requires_grad
    assert torch.equal(assigned(logits), (logits == logits.amax(1, keepdim=True)).float())


def test_the_loss_is_that_of_the_paper():
    """Written out for one sample of which the match is known."""
    generator = torch.Generator().manual_seed(4)
    logits, masks = torch.randn(1, 4, 4, generator=generator), torch.randn(1, 4, 6, 8, generator=generator)
    labels = torch.zeros(1, 6, 8, dtype=torch.long)
    labels[0, :3], labels[0, 5] = 2, -100
    truth = torch.stack((labels[0] == 2, labels[0] == 0)).float().flatten(1)
    odds, likely = masks[0].softmax(0).flatten(1) * (truth.sum(0) > 0), logits[0].softmax(-1)
    dice = 2 * odds @ truth.T / (odds.sum(1)[:, None] + truth.sum(1) + 2e-5)
    named = likely[:, [2, 0]]
    pairs = [(a, b) for a in range(4) for b in range(4) if a != b]
    a, b = max(pairs, key=lambda pair: (dice * named)[pair[0], 0] + (dice * named)[pair[1], 1])

    void = (masks[0].softmax(0).flatten(1) * (truth.sum(0) == 0)).sum(1) / 48
    weight, target = void * 48 / (masks[0].softmax(0).flatten(1).sum(1) + 1e-5), torch.full((4,), 3)
    weight[a], weight[b], target[a], target[b] = dice[a, 0], dice[b, 1], 2, 0
    side = torch.where(target == 3, 0.25, 0.75)
    entropy = (side * weight * -logits[0].log_softmax(-1)[torch.arange(4), target]).mean()
    pixels = -masks[0].log_softmax(0).flatten(1)[[a, b]]
    mask = (pixels * truth).sum() / truth.sum()
    apart = [
        (1 - (2 * (odds[q] * truth[t]).sum() + 1) / (odds[q].sum() + truth[t].sum() + 1)) * named[q, t]
        for q, t in ((a, 0), (b, 1))
    ]
    wanted = 3 * entropy + 0.3 * mask + 3 * 0.75 / 4 * sum(apart)
    close(ClusterMasks().layers(logits[None], masks[None], labels)[0], wanted, "loss")


def test_all_layers_are_trained_for_what_the_last_is_matched_with():
    """A layer that says class and mask of another query than the last one is told to say what that one does."""
    labels = torch.tensor([[[0, 1]]])
    last = torch.tensor([[9.0, 0, 0], [0, 9.0, 0]])[None], torch.tensor([[[9.0, 0]], [[0, 9.0]]])[None]
    other = tuple(each.flip(1) for each in last)
    loss = ClusterMasks()
    agreed, crossed = (loss.layers(*map(torch.stack, zip(first, last, strict=True)), labels) for first in (last, other))
    assert crossed > 10 * agreed
    alone = loss.layers(*(each[None] for each in last), labels)
    close(loss.layers(*map(torch.stack, zip(other, other, strict=True)), labels), 2 * alone)


def test_a_short_run_has_sharper_masks_and_norms_that_follow_sooner():
    pixels = Spec(Given, {})
    made = ef.spec(
        ef.heads.ClusterQueries, classes=3, pixels=pixels, queries=5, hidden=8, heads=2, mlp=12, depths=(1, 1)
    )
    norms = (nn.BatchNorm1d, nn.BatchNorm2d)
    for spec, sharpness, momentum in ((made, 0.1, 0.01), (made.but(sharpness=2.0, momentum=0.1), 2.0, 0.1)):
        head = spec.build((8, 8, 8))
        assert {each.momentum for each in head.modules() if isinstance(each, norms)} == {momentum}
        tellings = [head.telling, *(step.telling for step in head.steps)]
        assert [each.sharp.weight.item() for each in tellings] == pytest.approx([sharpness] * 3)


def test_other_depths_than_levels_are_refused():
    with pytest.raises(ef.DoesNotFit, match="a number for each of 2 levels"):
        ef.spec(ef.heads.ClusterQueries, classes=3, pixels=Spec(Given, {}), depths=(1,)).build((8, 8, 8))
