"""How a test makes an instance of any registered part, and something for it to work on.

A part whose options all have defaults needs nothing here.
"""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch

import everyformer as ef
from everyformer.context import Context
from everyformer.contracts import MapHead, Mixer, Transition
from everyformer.heads import Looking, Pixels, Proposals
from everyformer.masks import Causal, Window
from everyformer.mixers import FeatureMap
from everyformer.registry import find_part
from everyformer.specs import Spec, signature
from everyformer.tokens import Tokens

WIDTH = 32
HEADS = 4
COUNT = 6
MEMORY = 5
VOCABULARY = 20
GRID = (4, 4)

_block = ef.spec(
    ef.backbones.Block,
    mixer=ef.spec(ef.mixers.Attention, heads=HEADS),
    feedforward=ef.spec(ef.feedforward.MLP, hidden=48),
)
_series = ef.spec(ef.embeddings.TimeSteps, variates=3, lookback=12)
_text = ef.spec(ef.embeddings.Text, vocabulary=VOCABULARY)
_waves = {"widths": (8, 8), "kernels": (4, 2), "strides": (2, 2), "samples": 40}
_added = {"places": ef.spec(ef.positions.Carried), "memory_places": ef.spec(ef.positions.SinusoidalGrid)}
_asking = _block.but(
    residual=ef.spec(ef.norms.PostNorm),
    mixer=None,
    cross=(ef.spec(ef.mixers.PlacedCrossAttention, memory="cells", heads=HEADS, **_added),),
)
_across = _block.but(mixer=None, cross=(ef.spec(ef.mixers.CrossAttention, heads=HEADS, memory="across"),))
_round = ef.spec(ef.backbones.Round, local=(_block,), read=_across, outer=(_block,), write=_across)
_usual = ef.spec(
    ef.backbones.Encoder,
    blocks=(_block.but(mixer=ef.spec(ef.mixers.CrossCorrelation, heads=HEADS, memory="normal")),) * 2,
)
_encoder = ef.spec(ef.backbones.Encoder, blocks=(_block, _block))
_pair = ef.spec(
    ef.backbones.PairedBlock,
    mixer=ef.spec(ef.mixers.PairedAttention, heads=HEADS),
    feedforward=ef.spec(ef.feedforward.MLP, hidden=48),
)
_partial = _block.but(
    mixer=ef.spec(ef.mixers.PartialAttention, heads=HEADS, steps=(ef.spec(ef.scores.Added),)), feedforward=None
)
_together = ef.spec(
    ef.heads.LevelsTogether,
    places=ef.spec(ef.positions.ScaledSinusoidal),
    body=_block.but(
        mixer=ef.spec(ef.mixers.DeformableAttention, heads=HEADS, points=2, places=ef.spec(ef.positions.Carried))
    ),
    levels=1,
    groups=4,
)

_towers: dict[str, Any] = {
    "picture": ef.spec(
        ef.models.Model,
        width=WIDTH,
        embedding=ef.spec(ef.embeddings.Patches, patch=4, image=16),
        backbone=_encoder,
        head=ef.spec(ef.heads.PoolHead, output=8),
    ),
    "text": ef.spec(
        ef.models.Model, width=WIDTH, embedding=_text, backbone=_encoder, head=ef.spec(ef.heads.PoolHead, output=8)
    ),
}
_seq2seq = {
    "width": WIDTH,
    "source": _text,
    "encoder": _encoder,
    "decoder": ef.spec(
        ef.backbones.Decoder,
        blocks=(_block.but(cross=(ef.spec(ef.mixers.CrossAttention, heads=HEADS),)),) * 2,
    ),
    "head": ef.spec(ef.heads.TokenHead, vocabulary=VOCABULARY),
}
_clusters = {
    "classes": 3,
    "queries": 5,
    "hidden": WIDTH,
    "heads": HEADS,
    "mlp": 48,
    "depths": (1,),
    "pixels": _together,
}
_regions = ef.spec(
    ef.heads.Regions,
    proposals=ef.spec(ef.heads.CenterProposals, depth=1, groups=4, reach=1.0),
    looks=(ef.spec(ef.heads.RegionMLP, hidden=12),) * 2,
    side=2,
    shown=2,
    before=6,
    count=4,
)
_by_levels = {
    "classes": 3,
    "queries": 5,
    "hidden": WIDTH,
    "pixels": _together,
    "blocks": (_asking, _asking),
    "norm": ef.spec(ef.norms.LayerNorm),
}
OPTIONS: dict[str, dict[str, Any]] = {
    "backbones.AdaptiveLoop": {"blocks": (_block,), "times": 3, "bias": -1.0},
    "backbones.Apart": {"body": _block},
    "backbones.Bilateral": {
        "stages": (ef.spec(ef.backbones.Stage, blocks=(_block,)),) * 2,
        "detail": _block,
        "join": ef.spec(ef.backbones.Added),
    },
    "backbones.BranchedBlock": {
        "mixers": (ef.spec(ef.mixers.Attention, heads=HEADS),) * 2,
        "feedforwards": (ef.spec(ef.feedforward.MLP, hidden=48),) * 2,
    },
    "backbones.ClassBlock": {"mixer": ef.spec(ef.mixers.CrossAttention, heads=HEADS, memory="tokens")},
    "backbones.CoScale": {
        "stages": (ef.spec(ef.backbones.Stage, blocks=(_block,)),) * 3,
        "layers": (ef.spec(ef.backbones.ScaleLayer, mixer=ef.spec(ef.mixers.Attention, heads=HEADS)),),
    },
    "backbones.ChosenDepth": {"blocks": (_block, _block), "least": 1, "chances": (0.0, 1.0)},
    "backbones.Chunked": {
        "encoder": _encoder.but(blocks=(_block,)),
        "inner": _encoder,
        "decoder": _encoder.but(blocks=(_block,)),
    },
    "backbones.Decoder": {"blocks": (_block, _block)},
    "backbones.Elastic": {"body": ef.spec(ef.backbones.Decoder, blocks=(_block,)), "rate": 0.0},
    "backbones.Encoder": {"blocks": (_block, _block)},
    "backbones.FreeLatent": {"bits": 3, "block": _pair, "encoder": _pair},
    "backbones.FirstScores": {"heads": HEADS, "body": ef.spec(ef.backbones.Encoder, blocks=(_partial,))},
    "backbones.HaltingEncoder": {"blocks": (_block, _block), "scale": 1.0, "shift": -1.0},
    "backbones.Interleaved": {"group": 2, "latents": 2, "rounds": (_round,)},
    "backbones.Landmarks": {"body": ef.spec(ef.backbones.Decoder, blocks=(_block,)), "block": 2},
    "backbones.LinearExpansion": {"block": _block, "depth": 3},
    "backbones.Loop": {"blocks": (_block,), "times": 2},
    "backbones.Multiscale": {
        "patch": 2,
        "outer": ef.spec(ef.backbones.Encoder, blocks=(_block,)),
        "inner": ef.spec(ef.backbones.Encoder, blocks=(_block,)),
    },
    "backbones.PairedBlock": dict(_pair.options),
    "backbones.PassingClassBlock": {"mixer": ef.spec(ef.mixers.CrossAttention, heads=HEADS, memory="tokens")},
    "backbones.Bottlenecks": {"depth": 2},
    "backbones.SimplePyramid": {"body": _block, "to": 16},
    "backbones.Pervasive": {"layers": 2, "growth": 6},
    "backbones.PrioritisedBlock": {**_block.options, "exact": 2, "size": 2, "fine": 1, "explore": 0.0},
    "backbones.Pyramid": {"stages": (ef.spec(ef.backbones.Stage, blocks=(_block,)),) * 2},
    "backbones.Round": dict(_round.options),
    "backbones.Reversible": {"blocks": (ef.spec(ef.backbones.ReversibleBlock),) * 2},
    "backbones.SharingStage": {"blocks": (_block, _block), "shared": ("feedforward",)},
    "backbones.Spelled": {
        "chunks": ef.spec(ef.backbones.FixedChunks, length=3),
        "encoder": _encoder.but(blocks=(_block,)),
        "inner": _encoder.but(blocks=(_block,)),
        "decoder": _encoder.but(blocks=(_block,)),
        "inner_width": 48,
    },
    "backbones.RememberingStage": {"blocks": (_block,)},
    "backbones.Stage": {"blocks": (_block, _block)},
    "backbones.Summaries": {"body": ef.spec(ef.backbones.Encoder, blocks=(_block,)), "block": 2},
    "backbones.Summed": {"bodies": (_encoder.but(blocks=(_block,)),) * 2},
    "backbones.WarpedPair": {"grid": GRID, "points": (2, 3)},
    "backbones.WordBlock": {
        "words": 2,
        "inner": ef.spec(ef.backbones.Block, mixer=ef.spec(ef.mixers.Attention, heads=2)),
        "outer": ef.spec(ef.backbones.Block, mixer=ef.spec(ef.mixers.Attention, heads=HEADS)),
    },
    "embeddings.ActivatedPatches": {"patch": 4, "image": 16},
    "backbones.Skipping": {
        "blocks": (_block.but(feedforward=None), _block.but(mixer=None)),
        "router": ef.spec(ef.feedforward.TopK, k=1),
    },
    "backbones.StandardBottlenecks": {"depth": 2, "groups": 2},
    "embeddings.AnchoredPatches": {"patch": 4, "image": 16},
    "embeddings.BinaryFilters": {"hidden": 24, "books": 3, "codes": 5},
    "embeddings.ConvStem": {"image": 16},
    "embeddings.ConvSteps": {"variates": 3, "lookback": 12},
    "embeddings.DomainText": {"vocabulary": VOCABULARY, "domains": 3},
    "embeddings.FinePatches": {"patch": 4, "stride": 2, "image": 16},
    "embeddings.FrameConvs": {"mels": 12, "frames": 20, "convs": 2},
    "embeddings.HalvingStem": {"patch": 4, "image": 16},
    "embeddings.MarkedText": {"vocabulary": VOCABULARY},
    "embeddings.MaskedPatches": {"patch": 4, "image": 16},
    "embeddings.MaskedWaves": _waves,
    "embeddings.OverlapPatches": {"image": 16},
    "embeddings.NormedPatches": {"patch": 4, "image": 16, "patch_norm": ef.spec(ef.norms.LayerNorm)},
    "embeddings.PairPatches": {
        "channels": 3,
        "depth_channels": 2,
        "side": 4,
        "kinds": 20,
        "words": 8,
        "place_width": 8,
        "depth_width": 8,
        "dropout": 0.0,
    },
    "embeddings.PairStem": {"image": 16},
    "embeddings.Passages": {"vocabulary": VOCABULARY, "shared": 2, "passages": 3, "pad": -1},
    "embeddings.PatchWords": {"patch": 4, "stride": 2, "word_width": 2, "image": 16},
    "embeddings.PatchesOfWords": {"patch": 4, "stride": 2, "word_width": 2, "image": 16},
    "embeddings.Patches": {"patch": 4, "image": 16},
    "embeddings.PatchwiseStem": {"image": 16},
    "embeddings.Patterns": {"image": 8, "stages": (6, 8), "patterns": 6, "side": 4},
    "embeddings.QuadPatches": {"image": 16, "patch": 8, "smallest": 4, "tokens": 7},
    "embeddings.SeenPatches": {"patch": 4, "image": 16},
    "embeddings.SpectrogramConvs": {"mels": 12, "frames": 20},
    "embeddings.SpectrogramFrames": {"mels": 12, "frames": 20},
    "embeddings.SpectrogramPatches": {"mels": 12, "frames": 20, "patch": 4, "stride": 3},
    "embeddings.RealFilters": {"hidden": 24, "books": 3, "codes": 5},
    "embeddings.ResidualStem": {"image": 16},
    "embeddings.SpelledText": {"vocabulary": VOCABULARY},
    "embeddings.SpikingFrameConvs": {"mels": 12, "frames": 20, "convs": 2},
    "embeddings.StandardStem": {"image": 16, "groups": 2},
    "embeddings.ResidualPatches": {"image": 16, "patch": 4, "middle": 4},
    "embeddings.StridedStem": {"image": 16},
    "embeddings.Text": {"vocabulary": VOCABULARY},
    "embeddings.TiedText": {"vocabulary": VOCABULARY},
    "embeddings.TimeSteps": {"variates": 3, "lookback": 12},
    "embeddings.TokensToToken": {"image": 16, "narrow": 8},
    "embeddings.Variates": {"variates": 3, "lookback": 12},
    "embeddings.WaveConvs": _waves,
    "feedforward.Experts": {"count": 4, "expert": ef.spec(ef.feedforward.MLP, hidden=16)},
    "heads.Beside": {
        "head": ef.spec(ef.heads.TiedHead, vocabulary=VOCABULARY),
        "beside": (ef.spec(ef.heads.ClassHead, classes=3),),
        "names": ("next",),
    },
    "feedforward.NormedMLP": {"norm": ef.spec(ef.norms.LayerNorm), "ratio": 1.5},
    "heads.BasisTransforms": {"classes": 3, "old": 8, "extra": 4},
    "feedforward.SampleGate": {"opening": 0.0},
    "heads.CellHead": {"outputs": 3},
    "heads.ClusterQueries": _clusters,
    "heads.SoftClusterQueries": _clusters,
    "heads.ClassHead": {"classes": 3},
    "heads.CodePredictor": {"channels": 8, "output": 12},
    "heads.DistilledHead": {"classes": 3},
    "heads.ForecastHead": {"horizon": 4},
    "heads.MLPHead": {"classes": 3},
    "heads.FutureHead": {
        "vocabulary": VOCABULARY,
        "ahead": 3,
        "pseudo": 2,
        "decoder": ef.spec(
            ef.backbones.Decoder, blocks=(_block.but(cross=(ef.spec(ef.mixers.CrossAttention, heads=HEADS),)),)
        ),
    },
    "heads.LinearDecoder": {"classes": 3},
    "heads.MLPDecoder": {"classes": 3, "hidden": 16},
    "heads.MixedLevels": {
        "classes": 3,
        "hidden": 16,
        "groups": 2,
        "mixer": ef.spec(ef.mixers.Hamburger, rank=3),
    },
    "heads.MaskTransformer": {"classes": 3, "body": _block, "norm": ef.spec(ef.norms.LayerNorm)},
    "feedforward.ReusingMLP": {"norm": ef.spec(ef.norms.LayerNorm), "reused": 8, "inner": 12},
    "heads.AttentiveDecoder": {"classes": 3, "bodies": (_block,) * 2, "hidden": 16},
    "heads.WideHead": {"classes": 3, "hidden": 16, "norm": ef.spec(ef.norms.LayerNorm)},
    "heads.BoxQueries": {
        "classes": 3,
        "queries": 5,
        "body": _asking,
        "norm": ef.spec(ef.norms.LayerNorm),
    },
    "heads.ClassQueries": {"classes": 3, "body": _asking, "norm": ef.spec(ef.norms.LayerNorm)},
    "heads.LevelQueries": _by_levels,
    "heads.MaskedQueries": _by_levels,
    "heads.MaskedStates": {name: option for name, option in _by_levels.items() if name != "classes"},
    "heads.LevelsTogether": {**_together.options},
    "heads.MaskQueries": {
        "classes": 3,
        "queries": 5,
        "hidden": WIDTH,
        "groups": 4,
        "body": _asking,
        "norm": ef.spec(ef.norms.LayerNorm),
    },
    "heads.ProbePool": {
        "mixer": ef.spec(ef.mixers.CrossAttention, heads=HEADS, memory="pool"),
        "feedforward": ef.spec(ef.feedforward.MLP, hidden=48),
        "norm": ef.spec(ef.norms.LayerNorm),
    },
    "heads.Queries": {"queries": 5, "body": _asking, "norm": ef.spec(ef.norms.LayerNorm)},
    "heads.Reassembled": {"hidden": (8, 12), "factors": (2, 0.5), "fused": 8, "narrow": 4},
    "heads.ReassembledClasses": {"classes": 3, "hidden": (8, 12), "factors": (2, 0.5), "fused": 8},
    "heads.MeanOfLevels": {"heads": (ef.spec(ef.heads.LinearDecoder, classes=3),) * 2, "finer": 2},
    "heads.ContextReplay": {
        "classes": 3,
        "head": ef.spec(ef.heads.MLPDecoder, classes=3, hidden=16),
        "levels": (1,),
        "inner": 8,
    },
    "heads.Rebuilt": {"grid": (3, 4), "inner": 16, "body": _usual, "positions": ef.spec(ef.positions.Sinusoidal)},
    "heads.Refined": {"feedforward": ef.spec(ef.feedforward.MLP, hidden=48), "norm": ef.spec(ef.norms.LayerNorm)},
    "heads.SelectiveFusion": {"hidden": 16},
    "heads.PlainUPerHead": {"classes": 3, "hidden": 16, "pools": (1, 2), "levels": (0, 0, -1, -1)},
    "heads.XVector": {"classes": 3, "output": 8, "widths": (8, 12), "kernels": (1, 1), "dilations": (1, 1)},
    "heads.ExpertClasses": {"groups": (2, 3)},
    "heads.Interactions": {
        "classes": 3,
        "relations": 2,
        "queries": 5,
        "name_width": 8,
        "body": _asking.but(cross=(_asking.get("cross")[0].but(memory_places=None),)),
        "norm": ef.spec(ef.norms.LayerNorm),
    },
    "heads.LearnedSlots": {"iterations": 1},  # whose gradient is its derivative
    "heads.SlotMasks": {
        "slots": ef.spec(ef.heads.SlotAttention, slots=3, slot_width=16, hidden=24),
        "body": _block.but(
            mixer=ef.spec(ef.mixers.Attention, heads=HEADS, mask=Causal()),
            cross=(ef.spec(ef.mixers.CrossAttention, heads=HEADS, memory="slots", steps=(ef.spec(ef.scores.Noted),)),),
        ),
    },
    "heads.DepthByScales": {"block": _block.but(mixer=ef.spec(ef.mixers.Depthwise)), "hidden": (16, 8), "factor": 2},
    "heads.DeepMaps": {
        "head": ef.spec(ef.heads.LinearDecoder, classes=3),
        "beside": (ef.spec(ef.heads.Shuffled, classes=3, hidden=8, factor=1),),
    },
    "heads.CenterProposals": {"depth": 1, "groups": 4, "reach": 1.0},
    "heads.RegionMLP": {"hidden": 12},
    "heads.Regions": {**_regions.options},
    "heads.FigureAndClass": {"classes": 3, "body": _block, "hidden": WIDTH, "widths": (24, 16)},
    "heads.Shuffled": {"classes": 3, "hidden": 16, "factor": 2},
    "heads.HeatQueries": {
        "classes": 3,
        "queries": 5,
        "hidden": WIDTH,
        "encoder": _block.but(
            mixer=ef.spec(ef.mixers.PlacedAttention, places=ef.spec(ef.positions.Carried), heads=HEADS)
        ),
        "body": _asking.but(cross=(_asking.get("cross")[0].but(memory_places=ef.spec(ef.positions.Carried)),)),
        "places": ef.spec(ef.positions.HeatPlaces),
        "norm": ef.spec(ef.norms.LayerNorm),
    },
    "heads.UPerHead": {"classes": 3, "hidden": 16, "pools": (1, 2)},
    "heads.UShaped": {"classes": 3, "hidden": (16, 8)},
    "heads.UnwarpedUShaped": {"classes": 3, "hidden": (16, 8)},
    "heads.SpanHead": {"shared": 1, "longest": 2},
    "heads.NegativeBinomialHead": {"variates": 3},
    "heads.NormalHead": {"variates": 3},
    "heads.StudentTHead": {"variates": 3},
    "heads.StepHead": {"horizon": 4, "variates": 3},
    "heads.TiedHead": {"vocabulary": VOCABULARY},
    "heads.TokenHead": {"vocabulary": VOCABULARY},
    "heads.Transform": {"norm": ef.spec(ef.norms.LayerNorm)},
    "heads.WordsBeside": {"head": ef.spec(ef.heads.ClassHead, classes=3), "decoder": _block, "words": 5},
    "mixers.BigBirdAttention": {"block": 1, "random": 0},
    "mixers.Chain": {
        "mixer": ef.spec(ef.mixers.Depthwise),
        "norm": ef.spec(ef.norms.LayerNorm),
        "feedforward": ef.spec(ef.feedforward.MLP, hidden=48),
    },
    "mixers.CombinerAttention": {"segment": 2},
    "mixers.MemorizingAttention": {"keep": 3},
    "mixers.EmbeddingFree": {"reduce": ef.spec(ef.backbones.MeanMerging, size=2)},
    "mixers.DeformableAttention": {"places": ef.spec(ef.positions.SinusoidalGrid), "heads": HEADS},
    "mixers.FilledWindows": {"size": 3, "shift": 1},
    "mixers.FixedPointAttention": {"iterations": 1},
    "mixers.FusedAttention": {"shared": 1},
    "mixers.GlobalLocal": {"mask": Window(1, 1)},
    "mixers.HierarchicalCross": {"memories": ("encoder", "encoder")},
    "mixers.LSHAttention": {"buckets": 2},
    "mixers.LabelledGlobalLocal": {"mask": Window(1, 1), "farthest": 3},
    "mixers.LongformerAttention": {"mask": Window(1, 1)},
    "mixers.MultiResolution": {"block": 2, "exact": 1},
    "mixers.NystromAttention": {"landmarks": 2},
    "mixers.PlacedAttention": {"places": ef.spec(ef.positions.SinusoidalGrid), "heads": HEADS},
    "mixers.Difference": {
        "first": ef.spec(ef.mixers.Attention, heads=HEADS),
        "second": ef.spec(ef.mixers.Attention, heads=HEADS, temperature=2.0),
    },
    "mixers.PlacedCrossAttention": {**_added, "heads": HEADS},
    "mixers.RandomMixing": {"grid": GRID},
    "mixers.ReducedAttention": {"reduce": ef.spec(ef.backbones.ConvMerging, kernel=2)},
    "mixers.RoutedGlobal": {"mask": Window(1, 1), "segment": 2, "chosen": 1},
    "mixers.SpectralDictionary": {"atoms": 6, "length": 8, "window": 4},
    "mixers.Spread": {"size": 2},
    "mixers.TokenMLP": {"grid": GRID, "hidden": 24},
    "mixers.After": {"mixer": ef.spec(ef.mixers.Attention, heads=HEADS)},
    "mixers.Anchored": {"size": 2, "mixer": ef.spec(ef.mixers.Windows, size=2)},
    "mixers.Windows": {"size": 3, "shift": 1},
    "models.Cascade": {
        "members": tuple(
            ef.spec(
                ef.models.Model,
                width=WIDTH,
                embedding=ef.spec(ef.embeddings.Patches, patch=patch, image=16, first=1),
                backbone=_encoder,
                head=ef.spec(ef.heads.ClassHead, classes=3),
            )
            for patch in (8, 4)
        )
    },
    "models.BiasedTowers": _towers,
    "models.FixedBody": {
        "width": WIDTH,
        "embedding": ef.spec(ef.embeddings.Patches, patch=4, image=16),
        "backbone": _encoder,
        "head": ef.spec(ef.heads.ClassHead, classes=3),
    },
    "models.Forecaster": {
        "width": WIDTH,
        "source": _series,
        "target": _series,
        "encoder": _encoder,
        "decoder": ef.spec(
            ef.backbones.Encoder, blocks=(_block.but(cross=(ef.spec(ef.mixers.CrossAttention, heads=HEADS),)),)
        ),
        "head": ef.spec(ef.heads.StepHead, horizon=4, variates=3),
        "horizon": 4,
        "known": 6,
    },
    "models.Described": {
        "width": WIDTH,
        "embedding": ef.spec(ef.embeddings.Patches, patch=4, image=16),
        "backbone": ef.spec(ef.backbones.SimplePyramid, body=_block, to=16, coarser=0),
        "head": _regions,
        "describer": ef.spec(
            ef.models.Prefixed,
            width=WIDTH,
            source=ef.spec(ef.embeddings.Patches, patch=1, channels=16, image=2),
            encoder=_encoder.but(blocks=()),
            target=_text,
            decoder=_encoder,
            head=_seq2seq["head"],
        ),
        "side": 2,
    },
    "models.Detecting": {
        **_seq2seq,
        "source": _text.but(segments=3),
        "target": _text,
        "detector": ef.spec(
            ef.models.Model,
            width=WIDTH,
            embedding=_text,
            backbone=_encoder,
            head=ef.spec(ef.heads.ClassHead, classes=3),
        ),
    },
    "models.DrawingForecaster": {
        "width": WIDTH,
        "variates": 3,
        "source": ef.spec(ef.embeddings.TimeSteps, variates=12, lookback=8, bias=False),
        "target": ef.spec(ef.embeddings.TimeSteps, variates=12, lookback=8, begin=8),
        "encoder": _encoder,
        "decoder": ef.spec(
            ef.backbones.Encoder, blocks=(_block.but(cross=(ef.spec(ef.mixers.CrossAttention, heads=HEADS),)),)
        ),
        "head": ef.spec(ef.heads.NegativeBinomialHead, variates=3),  # whose mean depends on all its parameters
        "lookback": 10,
        "horizon": 4,
        "lags": (1, 2),
    },
    "models.LongSource": {**_seq2seq, "length": 4},
    "models.MaskedAutoencoder": {
        "width": WIDTH,
        "narrow": 16,
        "embedding": ef.spec(ef.embeddings.Patches, patch=4, image=16, first=1),
        "backbone": _encoder,
        "decoder": _encoder,
        "positions": ef.spec(ef.positions.SinusoidalGrid),
        "head": ef.spec(ef.heads.CellHead, outputs=48),
    },
    "mixers.ProjectedAttention": {"heads": HEADS, "projection": ef.spec(ef.feedforward.Pattention, tokens=12)},
    "models.Model": {
        "width": WIDTH,
        "embedding": _text,
        "backbone": _encoder,
        "head": ef.spec(ef.heads.TokenHead, vocabulary=VOCABULARY),
    },
    "models.MultiSource": {**_seq2seq, "encoder": (_encoder,)},
    "models.ParallelSeq2Seq": {
        **_seq2seq,
        "decoder": ef.spec(
            ef.backbones.Encoder, blocks=(_block.but(cross=(ef.spec(ef.mixers.CrossAttention, heads=HEADS),)),)
        ),
        "lengths": ef.spec(ef.heads.ClassHead, classes=17),
    },
    "models.Prefixed": {**_seq2seq, "target": _text, "decoder": _encoder},
    "models.ResidualMemory": {
        **_seq2seq,
        "language": ef.spec(ef.backbones.Decoder, blocks=(_block,)),
        "voice": _seq2seq["head"],
    },
    "models.Seq2Seq": _seq2seq,
    "models.SharedSeq2Seq": _seq2seq,
    "models.TwoDecoders": {**_seq2seq, "reader": _encoder},
    "models.TwoTowers": _towers,
    "models.TwoBranches": {
        "widths": (16, WIDTH),
        "embeddings": (ef.spec(ef.embeddings.Patches, patch=4, image=16, first=1),) * 2,
        "stages": ((_block, _block),),
        "mixers": ((ef.spec(ef.mixers.CrossAttention, heads=HEADS, memory="tokens"),) * 2,),
        "heads": (ef.spec(ef.heads.ClassHead, classes=3),) * 2,
        "norm": ef.spec(ef.norms.LayerNorm),
        "scales": (1.0, 0.5),
    },
    "models.WindowRecurrent": {
        "width": WIDTH,
        "embedding": _text,
        "backbone": ef.spec(
            ef.backbones.Decoder, blocks=(_block.but(mixer=ef.spec(ef.mixers.FrontedAttention, heads=HEADS)),)
        ),
        "head": _seq2seq["head"],
        "window": 3,
    },
    "objectives.BackwardCompatible": {"old": 1.0},
    "objectives.ClassesAndWords": {"patch": 4, "words": 6},
    "objectives.DescribedRegions": {"texts": ((0, 3, 1), (0, 4, 5, 1), (0, 6, 1)), "shares": (0.3, 0.3)},
    "objectives.MaskedTarget": {"hidden": 1},
    "objectives.Ranking": {"candidates": 2},
    "objectives.HiddenPixels": {"patch": 4},
    "objectives.HiddenWords": {"patch": 4, "words": 6},
    "objectives.RegionBoxes": {"shares": (0.3, 0.3)},
    "positions.LeadingGrid": {"window": 4, "leading": 0},
    "positions.LearnedAxes": {"grid": GRID},
    "positions.LearnedGrid": {"grid": GRID},
    "reduction.Grouping": {"groups": 3, "body": _block},
    "reduction.Patchout": {"rows": 1, "columns": 2},
    "reduction.Threshold": {"least": 1.0},
}
"""Options for parts that have some without a default, and smaller sizes where the default is slow."""


def names(*rooms: str) -> list[str]:
    """'room.Part' of everything registered in these rooms."""
    return [f"{room}.{name}" for room in rooms for name in ef.parts(room)]


def mixers() -> list[str]:
    """'mixers.Part' of every registered mixer; the room also holds the parts that mixers are made of."""
    return [name for name in names("mixers") if issubclass(find_part(name), Mixer)]


def spec_of(name: str, **more: Any) -> Spec[Any]:
    """A spec of the part 'room.Part'."""
    cls = find_part(name)
    options = {**OPTIONS.get(name, {}), **more}
    lacking = [n for n, p in signature(cls).items() if p.default is inspect.Parameter.empty and n not in options]
    if lacking:
        pytest.fail(f"{name} has no default for {lacking}: add {name!r} to OPTIONS in tests/support/parts.py")
    return Spec(cls, options)


def place_for(name: str, width: int = WIDTH) -> tuple[Any, ...]:
    """What a place gives the part: its width, for positions the number of heads, for transitions the width that comes,
    for heads of maps the widths of two levels.
    """
    if find_part(name).linear_map:
        return width, 2 * width, True
    found = inspect.signature(find_part(name)).parameters.values()
    given = [p for p in found if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    if issubclass(find_part(name), MapHead):
        return ((width, width),)
    if issubclass(find_part(name), Pixels):
        return (width, width), width
    if issubclass(find_part(name), (Proposals, Looking)):
        return width, 2
    if issubclass(find_part(name), FeatureMap):
        width //= HEADS
    return (width, 2 * width if issubclass(find_part(name), Transition) else HEADS)[: len(given)]


def make(name: str, *, seed: int = 0, width: int = WIDTH, **more: Any) -> Any:
    """An instance of the part in evaluation mode, every parameter nudged so that none is exactly zero or one."""
    torch.manual_seed(seed)
    made = spec_of(name, **more).build(*place_for(name, width))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    return made.eval()


def tokens(count: int = COUNT, batch: int = 3, *, width: int = WIDTH, seed: int = 1, grid: bool = False) -> Tokens:
    """Random tokens; on a grid, where asked for."""
    generator = torch.Generator().manual_seed(seed)
    if not grid:
        return Tokens(torch.randn(batch, count, width, generator=generator))
    values = torch.randn(batch, GRID[0] * GRID[1], width, generator=generator)
    rows, columns = torch.meshgrid(*(torch.arange(n) for n in GRID), indexing="ij")
    return Tokens(values, positions=torch.stack((rows, columns), -1).view(1, -1, 2), grid=GRID)


def context(batch: int = 3, *, width: int = WIDTH, seed: int = 2, **more: Any) -> Context:
    """A context that has whatever a part may read: a memory of its own for each sample, and a condition."""
    generator = torch.Generator().manual_seed(seed)
    memory = Tokens(torch.randn(batch, MEMORY, width, generator=generator))
    condition = torch.randn(batch, width, generator=generator)
    return Context(memory={"encoder": memory}, condition=condition, **more)


def sample(which: Context, row: int) -> Context:
    """The context of one sample of a batch."""
    return Context(
        mask=which.mask,
        memory={name: Tokens(each.values[row : row + 1]) for name, each in which.memory.items()},
        condition=None if which.condition is None else which.condition[row : row + 1],
    )


def close(got: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Fail with the largest difference where two tensors are further apart than the tolerance, taken absolutely."""
    assert got.shape == wanted.shape, f"{tuple(got.shape)} and {tuple(wanted.shape)}"
    gap = (got - wanted).abs().max().item() if got.numel() else 0.0
    assert gap <= tolerance, f"largest difference {gap:.3g}"
