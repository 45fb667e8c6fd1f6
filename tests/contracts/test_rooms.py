"""What the parts of each room keep, beside what every part keeps."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
from torch import nn

import everyformer as ef
from everyformer.context import Context
from everyformer.contracts import Backbone, Embedding, FeedForward, Head, Norm, Position, Residual
from everyformer.designs import Design
from everyformer.heads.pools import Pool
from everyformer.masks import Causal
from everyformer.norms.branches import Branch
from everyformer.published.informer import drawing_informer
from everyformer.tokens import Tokens, documents, pack
from support.parts import COUNT, GRID, HEADS, WIDTH, close, context, make, names, sample, spec_of, tokens
from support.rooms import example
from support.systems import idle, model_of, options_of, tiny

LENGTHS = (6, 3, 1)


def of(kind: type, *rooms: str) -> list[str]:
    """The parts of these rooms that are of a kind."""
    return [name for name in names(*rooms) if issubclass(spec_of(name).part, kind)]


def padded(left: int, *, prefix: int = 0, total: int = 9) -> Tokens:
    """Sequences of LENGTHS with rubbish in the padding, `left` tokens of it before them where there is room."""
    values = torch.full((3, total, WIDTH), 7.7)
    mask = torch.zeros(3, total, dtype=torch.bool)
    for row, length in enumerate(LENGTHS):
        start = min(left, total - length)
        values[row, start : start + length] = tokens(COUNT).values[row, :length]
        mask[row, start : start + length] = True
    return Tokens(values, mask=mask, prefix=prefix)


def alone(row: int, *, prefix: int = 0) -> Tokens:
    return Tokens(tokens(COUNT).values[row : row + 1, : LENGTHS[row]], prefix=prefix)


def only_token_changed(before: torch.Tensor, after: torch.Tensor, at: int) -> None:
    """Of two answers (B, N, ...) only one token differs."""
    others = [i for i in range(before.shape[1]) if i != at]
    close(after[:, others], before[:, others], 0.0)
    assert (after[:, at] - before[:, at]).abs().max() > 1e-4


def one_changed(at: int) -> Tokens:
    whole = tokens()
    whole.values[:, at] += torch.linspace(-1, 2, WIDTH)
    return whole


# feedforward, norms


@pytest.mark.parametrize("name", of(FeedForward, "feedforward"))
def test_a_feedforward_takes_each_token_by_itself(name: str) -> None:
    part = make(name)
    before = part(tokens(), context())
    assert before.shape == tokens().values.shape
    only_token_changed(before, part(one_changed(2), context()), 2)


@pytest.mark.parametrize("name", of(Norm, "norms"))
def test_a_norm_takes_each_token_or_each_sample_by_itself(name: str) -> None:
    part = make(name)
    before = part(tokens().values)
    assert before.shape == tokens().values.shape
    if part.together:
        alone = [part(tokens().values[row : row + 1]) for row in range(3)]
        close(torch.cat(alone), before)
    else:
        only_token_changed(before, part(one_changed(2).values), 2)


@pytest.mark.parametrize("name", of(Residual, "norms"))
def test_a_residual_adds_to_each_token_by_itself(name: str) -> None:
    part = make(name)

    def layer(given: Tokens) -> torch.Tensor:
        return given.values.tanh() * 0.5

    before = part(tokens(), layer, context())
    assert isinstance(before, Tokens)
    only_token_changed(before.values, part(one_changed(2), layer, context()).values, 2)


@pytest.mark.parametrize("name", of(Residual, "norms"))
def test_a_residual_keeps_what_is_known_about_the_tokens(name: str) -> None:
    whole = tokens(grid=True).replace(weights=torch.ones(3, 16), prefix=0)
    after = make(name)(whole, lambda given: given.values, context())
    assert (after.grid, after.positions is whole.positions, after.weights is whole.weights) == (GRID, True, True)


@pytest.mark.parametrize("name", of(Branch, "norms"))
def test_a_branch_treats_packed_as_padded(name: str) -> None:
    part = make(name)
    batch = padded(0)
    packed = pack(batch)
    close(part(packed.values, packed, context())[0], part(batch.values, batch, context())[batch.mask])


def test_stochastic_depth_leaves_out_whole_sequences_and_keeps_the_mean() -> None:
    part = make("norms.StochasticDepth", rate=0.25).train()
    many = Tokens(torch.ones(4000, 2, WIDTH))
    kept = part(many.values, many, Context())
    assert set(kept.unique().tolist()) == {0.0, 1 / 0.75} or kept.unique().numel() == 2
    assert torch.equal(kept[:, 0], kept[:, 1])
    assert kept.mean().item() == pytest.approx(1.0, abs=0.05)
    packed = Tokens(torch.ones(1, 9, WIDTH), lengths=torch.tensor([2, 3, 4]))
    values = part(packed.values, packed, Context())[0, :, 0]
    owner = documents(packed.lengths, 9)
    assert all(len(values[owner == i].unique()) == 1 for i in range(3))


def test_a_reversible_norm_gives_the_series_back() -> None:
    part = make("norms.ReversibleInstance")
    series = torch.randn(2, 12, 3) * 5 + 40
    normal, kept = part(series)
    close(normal.mean(1), torch.zeros(2, 3))
    close(normal.var(1, unbiased=False), torch.ones(2, 3), 1e-4)
    close(part.restore(normal, kept), series, 1e-4)


# positions


@pytest.mark.parametrize("name", of(Position, "positions"))
def test_a_position_does_something_where_it_stands(name: str) -> None:
    part, whole = make(name), tokens(grid=True)
    heads = whole.values.unflatten(-1, (HEADS, -1)).transpose(1, 2)
    shared = Context()
    added = part.add(whole) if "embedding" in part.stands else None
    turned = part.rotate(heads, whole.places, shared)
    biased = part.bias(heads, whole.places, whole.places, 0.5, shared)
    does = {"embedding": added is not None, "attention": biased is not None or not torch.equal(turned, heads)}
    for place in ("embedding", "attention"):
        if place in part.stands.split():
            assert does[place]
            part.stands_in(place)
        else:
            with pytest.raises(ef.DoesNotFit, match="stands in"):
                part.stands_in(place)


@pytest.mark.parametrize(
    "name", [n for n in of(Position, "positions") if n not in ("positions.ConvPlaces", "positions.HeatPlaces")]
)
def test_a_position_goes_by_places_and_not_by_values(name: str) -> None:
    """But for those that hear from the values where or by what they stand."""
    part, whole = make(name), tokens(grid=True)
    other = whole.update(whole.values * 3)
    if "embedding" in part.stands.split():
        close(part.add(other), part.add(whole), 0.0)
        return
    heads = whole.values.unflatten(-1, (HEADS, -1)).transpose(1, 2)
    turned = part.rotate(heads, whole.places, Context())
    close(turned.norm(dim=-1), heads.norm(dim=-1), 1e-4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    again = part.rotate(heads[:, :, order], whole.places[:, order], Context())
    close(again, turned[:, :, order])


@pytest.mark.parametrize(
    "name", [n for n in of(Position, "positions") if "attention" in spec_of(n).part.stands.split()]
)
def test_attention_with_positions_ignores_padding_and_goes_on_with_a_cache(name: str) -> None:
    mixer = make("mixers.Attention", heads=HEADS, positions=spec_of(name))
    for left in (0, 2, 9):
        batch = padded(left)
        got = mixer(batch, Context(mask=Causal()))
        packed = mixer(pack(batch), Context(mask=Causal()))
        wanted = [mixer(alone(row), Context(mask=Causal()))[0] for row in range(3)]
        close(got[batch.mask], torch.cat(wanted))
        close(packed[0], torch.cat(wanted))
    cached = Context(mask=Causal(), cache=ef.Cache())
    whole, found = tokens(), []
    for at in range(COUNT):
        cached.lowered.clear()
        piece = Tokens(whole.values[:, at : at + 1], positions=torch.tensor([[[at]]]))
        found.append(mixer(piece, cached))
        cached.cache.advance(piece)
    close(torch.cat(found, 1), mixer(whole, Context(mask=Causal())))


@pytest.mark.parametrize("form", ["padded", "packed"])
@pytest.mark.parametrize(
    "name", [n for n in of(Position, "positions") if "attention" in spec_of(n).part.stands.split()]
)
def test_attention_with_positions_trains_in_bfloat16(name: str, form: str) -> None:
    """As a model of that type, and as one of float32 under autocast; fused, and while its weights are watched."""
    wanted = make("mixers.Attention", heads=HEADS, positions=spec_of(name))(padded(2), Context(mask=Causal()))
    real = padded(2).mask
    for cast in (False, True):
        for watched in (False, True):
            mixer = make("mixers.Attention", heads=HEADS, positions=spec_of(name)).train()
            batch = padded(2) if form == "padded" else pack(padded(2))
            if not cast:
                mixer, batch = mixer.bfloat16(), batch.update(batch.values.bfloat16())
            if watched:
                mixer.weights.register_forward_hook(lambda *_: None)
            with torch.autocast("cpu", torch.bfloat16, enabled=cast):
                got = mixer(batch, Context(mask=Causal()))
            got.float().pow(2).sum().backward()
            assert all(p.grad.isfinite().all() for p in mixer.parameters())
            found = got[real] if form == "padded" else got[0]
            assert (found.float() - wanted[real]).norm() <= 0.03 * wanted[real].norm()


# backbones


@pytest.mark.parametrize("left", [0, 9, 2], ids=["right", "left", "both"])
@pytest.mark.parametrize("name", of(Backbone, "backbones"))
def test_padding_and_packing_change_no_token_of_a_backbone(name: str, left: int) -> None:
    part, shared = make(name), context()
    batch = padded(left)
    wanted = torch.cat([part(alone(row), sample(shared, row)).values[0] for row in range(3)])
    close(part(batch, shared).values[batch.mask], wanted)
    packed = part(pack(batch), shared.replace(lowered={}))
    close(packed.values[0], wanted)
    assert torch.equal(packed.lengths, torch.tensor(LENGTHS))


@pytest.mark.parametrize("name", of(Backbone, "backbones"))
def test_a_backbone_passes_on_what_is_known(name: str) -> None:
    whole = tokens(grid=True).replace(weights=torch.ones(3, 16))
    after = make(name)(whole, context())
    assert (after.grid, after.positions is whole.positions, after.weights is whole.weights) == (GRID, True, True)


@pytest.mark.parametrize("name", of(ef.backbones.Decoder, "backbones"))
def test_a_decoder_is_causal(name: str) -> None:
    part = make(name)
    before = part(tokens(), context()).values
    for at in range(COUNT):
        close(part(one_changed(at), context()).values[:, :at], before[:, :at], 1e-6)


@pytest.mark.parametrize("name", of(Backbone, "backbones"))
def test_a_backbone_never_loosens_the_mask_of_its_place(name: str) -> None:
    """An encoder inside a decoder is as causal as the decoder; what cannot be is refused there."""
    part, last = make(name), one_changed(COUNT - 1)
    outer = context(mask=Causal())
    inner = ef.spec(ef.backbones.Encoder, blocks=(spec_of(name),))
    within = ef.spec(ef.backbones.Decoder, blocks=(inner,))
    if part.sees_all:
        with pytest.raises(ef.BadInput, match="every token sees all"):
            part(tokens(), outer)
        with pytest.raises(ef.DoesNotFit, match="lets every token change every other"):
            within.build(WIDTH)
        return
    before = part(tokens(), outer).values
    close(part(last, outer.replace(lowered={})).values[:, 0], before[:, 0], 1e-6)
    assert outer.mask == Causal()
    decoder = within.build(WIDTH).eval()
    close(decoder(last, context()).values[:, 0], decoder(tokens(), context()).values[:, 0], 1e-6)


def test_layers_of_different_heads_share_what_they_can() -> None:
    blocks = tuple(
        ef.spec(ef.backbones.Block, mixer=ef.spec(ef.mixers.Attention, heads=n, head_width=8)) for n in (2, 4)
    )
    turned = ef.spec(ef.backbones.Encoder, blocks=blocks, positions=ef.spec(ef.positions.Rotary))
    assert turned.build(WIDTH)(tokens()).values.shape == (3, COUNT, WIDTH)
    for position in ("ALiBi", "Buckets", "Relative"):
        with pytest.raises(ef.DoesNotFit, match=f"cannot share positions.{position}") as error:
            turned.but(positions=spec_of(f"positions.{position}")).build(WIDTH)
        assert error.value.path == "positions"


# heads


@pytest.mark.parametrize("prefix", [0, 1, 2], ids=["no class token", "class token", "two leading tokens"])
@pytest.mark.parametrize("left", [0, 2], ids=["right", "both"])
@pytest.mark.parametrize("name", of(Head, "heads") + of(Pool, "heads"))
def test_a_head_ignores_padding_and_takes_packed(name: str, left: int, prefix: int) -> None:
    if prefix and left:
        pytest.skip("leading tokens stand before any padding")
    if name in ("heads.ForecastHead", "heads.CellHead", "heads.StepHead") or getattr(make(name), "needs_grid", False):
        pytest.skip("its tokens are variates, steps or cells: a batch has as many in every sample")
    if prefix < make(name).leads:
        with pytest.raises(ef.BadInput, match="lead"):
            make(name)(padded(left, prefix=prefix))
        return
    part = make(name)
    batch = padded(left, prefix=prefix)
    rows = [row for row in range(3) if LENGTHS[row] > prefix]
    if prefix == 2:
        batch = batch.replace(values=batch.values[rows], mask=batch.mask[rows])
    wanted = [part(alone(row, prefix=prefix))[0] for row in rows]
    got, packed = part(batch), part(pack(batch))
    if got.shape[:2] == batch.mask.shape:
        close(got[batch.mask], packed[0])
        close(torch.cat([got[row][batch.mask[row]] for row in rows]), torch.cat(wanted))
    else:
        close(got[rows], torch.stack(wanted))
        close(packed[rows], torch.stack(wanted))


# embeddings


@pytest.mark.parametrize("name", of(Embedding, "embeddings"))
def test_an_embedding_takes_its_example_each_sample_by_itself(name: str) -> None:
    part = make(name)
    batch = example(part, 3)
    whole = part(**batch)
    assert whole.width == WIDTH
    assert whole.mask is None or whole.mask.all()
    assert (whole.grid is not None) == part.gives_grid
    if whole.grid is not None:
        assert whole.count == whole.prefix + torch.tensor(whole.grid).prod()
        assert whole.places.shape[-1] == len(whole.grid)
    for row in range(3):
        close(part(**{key: value[row : row + 1] for key, value in batch.items()}).values[0], whole.values[row])


STRIDING = ("embeddings.ConvSteps", "embeddings.MaskedWaves", "embeddings.SpectrogramConvs", "embeddings.WaveConvs")
"""Make a token of several steps; what they make of padding is tested where their systems are."""


@pytest.mark.parametrize(
    "name", [n for n in of(Embedding, "embeddings") if "mask" in spec_of(n).part.fields and n not in STRIDING]
)
def test_an_embedding_places_real_tokens_from_zero(name: str) -> None:
    part = make(name, positions=ef.spec(ef.positions.Sinusoidal))
    inputs = example(part, 1)["inputs"][:, :8]
    shifted = torch.cat((inputs[:, :2], inputs[:, :6]), 1)
    mask = torch.arange(8)[None] >= 2
    whole, wanted = part(shifted, mask=mask), part(inputs[:, :6])
    close(whole.values[:, 2:], wanted.values)
    assert torch.equal(whole.places[:, 2:], wanted.places.expand(1, -1, -1))


@pytest.mark.parametrize("name", [n for n in of(Embedding, "embeddings") if "first" in options_of(spec_of(n))])
def test_leading_tokens_stand_in_front(name: str) -> None:
    part, plain = make(name, first=2), make(name)
    batch = example(part, 3)
    whole = part(**batch)
    assert (whole.prefix, whole.count) == (2, plain(**batch).count + 2)
    close(whole.values[:, :2, : part.first.shape[1]], part.first.expand(3, -1, -1))
    assert whole.grid == plain(**batch).grid


# objectives


def shared_case(name: str) -> tuple[nn.Module, dict[str, torch.Tensor]]:
    """A model that the objective can train, and a batch with labels."""
    system, labels = {
        "objectives.AlignedDistillation": ("transformer", "ids"),
        "objectives.BackwardCompatible": ("vit", "classes"),
        "objectives.Boxes": ("detr", "boxes"),
        "objectives.CTC": ("wav2vec2", "spelled"),
        "objectives.Classification": ("vit", "classes"),
        "objectives.ClassesAndWords": ("supervised-mim", "classes"),
        "objectives.Contrastive": ("clip", "none"),
        "objectives.DescribedRegions": ("grit", "boxes"),
        "objectives.DeepPixelClasses": ("vpnext", "map"),
        "objectives.Distillation": ("vit", "classes"),
        "objectives.EachPair": ("clip", "none"),
        "objectives.HardDistillation": ("vit", "classes"),
        "objectives.HiddenCodes": ("wav2vec2", "none"),
        "objectives.HeatBoxes": ("hmpe", "boxes"),
        "objectives.HiddenPixels": ("vit-mae", "none"),
        "objectives.HiddenWords": ("beit", "none"),
        "objectives.HybridDistillation": ("vit", "none"),
        "objectives.Places": ("mp3", "none"),
        "objectives.BinaryMasks": ("mask2former", "map"),
        "objectives.ClusterMasks": ("kmax-deeplab", "map"),
        "objectives.Interactions": ("agglomerative-transformer", "related"),
        "objectives.FutureTokens": ("ftp", "ids"),
        "objectives.Ranking": ("bert", "ranks"),
        "objectives.Rebuilding": ("fod-anomaly", "none"),
        "objectives.Remembered": ("hypothesis-c-across", "classes"),
        "objectives.RewardedPruning": ("ia-red2", "classes"),
        "objectives.SourcePruning": ("transformer", "ids"),
        "objectives.TokenPruning": ("dynamic-vit", "classes"),
        "objectives.Forecast": ("itransformer", "series"),
        "objectives.Likelihood": ("informer", "series"),
        "objectives.Masks": ("maskformer", "map"),
        "objectives.MarginalSpans": ("fie", "spans"),
        "objectives.MaskedTarget": ("transformer", "ids"),
        "objectives.MaskedToken": ("bert", "ids"),
        "objectives.MatchingTexts": ("bert", "none"),
        "objectives.NextToken": ("gpt", "ids"),
        "objectives.PixelsAndTraits": ("weedsense", "traits"),
        "objectives.PixelClasses": ("segmenter", "map"),
        "objectives.PolicyGradient": ("transformer", "ids"),
        "objectives.RegionBoxes": ("grit", "boxes"),
        "objectives.RebuiltCells": ("spot-object-centric", "none"),
        "objectives.SelfTaughtSlots": ("spot-object-centric", "none"),
        "objectives.ScaleInvariant": ("glpdepth", "depth"),
        "objectives.SequenceToSequence": ("transformer", "ids"),
        "objectives.ViewSynthesis": ("lka-monodepth", "views"),
    }.get(name) or pytest.fail(f"{name} has no case: add one to shared_case in {__file__}")
    words = {"objectives.HiddenWords": {"visual_words": 6}, "objectives.HiddenCodes": {"vocabulary": None}}.get(
        name, {}
    )
    heads = {
        "objectives.BackwardCompatible": ef.spec(ef.heads.BasisTransforms, classes=3, old=3, extra=2),
        "objectives.HybridDistillation": ef.spec(ef.heads.CellHead, outputs=tiny("vit").get("width")),
        "objectives.MatchingTexts": ef.spec(ef.heads.PoolHead),
        "objectives.Ranking": ef.spec(ef.heads.ClassHead, classes=1),
    }
    design = tiny(system, **words)
    if name == "objectives.Likelihood":
        design = drawing_informer(variates=3, lookback=8, horizon=4, lags=(1, 2), width=16, hidden=16, heads=2, depth=1)
    if name == "objectives.MaskedTarget":
        design = Design(spec_of("models.ParallelSeq2Seq"))
    model = model_of(design.swap("head", heads[name]) if name in heads else design)
    batch = example(model, 4)
    generator = torch.Generator().manual_seed(5)
    if labels == "classes":
        batch["labels"] = torch.randint(0, 3, (4,), generator=generator)
    elif labels == "ranks":
        batch["labels"] = torch.tensor([0, 1, 2, 0])
    elif labels == "map":
        batch["labels"] = torch.randint(0, 3, (4, 16, 16), generator=generator)
        batch["labels"][1, :5] = -100
    elif labels == "depth":
        batch["labels"] = torch.rand(4, 32, 32, generator=generator) * 9
        batch["labels"][1, :5] = 0
    elif labels == "boxes":
        batch["labels"] = torch.rand(4, 3, 5, generator=generator) / 2 + 0.1
        batch["labels"][..., 0] = torch.tensor([[0, 1, 2], [2, 2, -100], [-100, -100, -100], [1, -100, 0]])
    elif labels == "related":
        batch["labels"] = torch.rand(4, 3, 8, generator=generator) / 2 + 0.1
        batch["labels"][..., 0] = torch.tensor([[0, 1, 2], [2, 2, -100], [-100, -100, -100], [1, -100, 0]])
        batch["labels"][..., 5:] = -100
        batch["labels"][0, 0, 6] = batch["labels"][3, 2, 5] = 1
        batch["labels"][1, 1, 5] = 0
    elif labels == "views":
        batch["labels"] = torch.rand(4, 3, 3, 32, 32, generator=generator)
        batch["poses"] = torch.eye(3, 4) + torch.randn(4, 2, 3, 4, generator=generator) * 0.02
        batch["lens"] = torch.tensor([[30.0, 0, 16], [0, 30, 14], [0, 0, 1]]).expand(4, 3, 3)
    elif labels == "traits":
        batch["labels"] = torch.randint(0, 3, (4, 32, 32), generator=generator)
        batch["labels"][1, :5] = -100
        batch["figure"] = torch.rand(4, generator=generator)
        batch["stage"] = torch.tensor([0, 3, -100, 1])
    elif labels == "series":
        batch["labels"] = torch.randn(4, 4, 3, generator=generator)
    elif labels == "spans":
        batch["labels"] = (torch.rand(4, 2, 8, 3, generator=generator) < 0.1).long()
        batch["labels"][1] = 0
        batch["labels"][:, :, -1, 1:] = -100
    elif labels == "spelled":
        batch["labels"] = torch.tensor([[1, 2, -100], [2, 2, -100], [1, -100, -100], [3, 1, 2]])
    elif labels == "ids":
        batch["labels"] = torch.randint(0, 20, (4, 16), generator=generator)
        batch["labels"][1, 3:] = -100
        batch["labels"][2, :9] = -100
    if name == "objectives.PolicyGradient":
        batch["gains"] = torch.randn(4, generator=generator)
    return model, batch


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in names("objectives")
        if n.removeprefix("objectives.")
        not in ("Budgeted", "Contrastive", "EachPair", "ExpertGroups", "HiddenCodes", "MatchingTexts", "Ranking")
    ],
)
def test_an_objective_is_a_sum_over_what_it_counts(name: str) -> None:
    """The loss of a batch is the sum of those of its samples: micro-batches of any size give the same update.

    But for one that sets the samples of a batch against each other, or looks at all that the batch has used.
    """
    model, batch = shared_case(name)
    objective: Any = spec_of(name).build().eval()
    if hasattr(objective, "teach"):
        teachers = range(9, 9 + len(inspect.signature(objective.teach).parameters))
        teaching = {
            "objectives.AlignedDistillation": "llama",
            "objectives.SelfTaughtSlots": "spot-object-centric",
            "objectives.SourcePruning": "transformer",
        }
        objective.teach(*(model_of(tiny(teaching.get(name, "vit")), seed=seed) for seed in teachers))
    if hasattr(objective, "learn"):
        objective.learn(batch["inputs"])
    if name == "objectives.MaskedTarget":
        batch["noise"] = torch.rand(4, 17, generator=torch.Generator().manual_seed(4))
    if name == "objectives.Places":
        batch["noise"] = torch.rand(4, 16, generator=torch.Generator().manual_seed(4))
    whole = objective(model, batch)
    parts = [objective(model, {key: value[i : i + 1] for key, value in batch.items()}) for i in range(4)]
    assert whole.total.dim() == 0
    assert int(whole.count) == sum(int(each.count) for each in parts)
    close(sum(each.total for each in parts) / whole.count, whole.total / whole.count)
    learnt = next(each for path, each in model.named_parameters() if not path.startswith(idle(model)))
    (gradient,) = torch.autograd.grad(whole.total, [learnt], retain_graph=True)
    (others,) = torch.autograd.grad(sum(each.total for each in parts), [learnt])
    close(others / whole.count, gradient / whole.count)


# models


@pytest.mark.parametrize("name", of(ef.models.starts.Start, "models"))
def test_a_start_sets_every_weight_of_a_model(name: str) -> None:
    """Two builds from one seed agree, and whatever a start does, the model runs and no weight is lost."""
    design = tiny("gpt")
    one, two = (design.set("start", spec_of(name)).build(seed=3) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert all(p.isfinite().all() and p.requires_grad for p in one.parameters())
    assert one(**example(one)).isfinite().all()
