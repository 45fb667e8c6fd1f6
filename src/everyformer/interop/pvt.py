"""PVT, PVT v2 and SegFormer's encoder of Hugging Face transformers, PVT v2 and Twins of timm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from everyformer.designs import Design
from everyformer.heads import MLPDecoder
from everyformer.interop.config import Always, Key, Labels, Square, labels
from everyformer.interop.family import Family, Top, register
from everyformer.interop.forms import Following, Leading, Pointwise, Shares, Wrapped
from everyformer.interop.pyramids import (
    ACTIVATION,
    BLOCK,
    CHANNELS,
    STAGE,
    Alike,
    Depths,
    DropPath,
    Fixed,
    Stages,
    Whole,
    Widths,
    maps,
    norms,
    stages,
)
from everyformer.interop.timm import TimmFamily, register_timm
from everyformer.interop.weights import Pair, batch_norm, layer
from everyformer.specs import spec

MIXER = f"{BLOCK}.mixer"
SIZES = (
    CHANNELS,
    Widths(),
    Stages("num_attention_heads", "blocks.*.mixer.heads", "heads"),
)
"""What all of them say."""
RATIOS = Stages("mlp_ratios", "blocks.*.feedforward.ratio", "ratios")
WHOLE_RATIOS = Whole(RATIOS)
BODY = (
    *SIZES,
    Depths(count="num_encoder_blocks"),
    ACTIVATION,
    Key("hidden_dropout_prob", f"{BLOCK}.residual.dropout", "dropout", default=0.0),
    Key("attention_probs_dropout_prob", f"{MIXER}.dropout", "attention_dropout", default=0.0),
    DropPath(),
)
"""What the configs of Hugging Face say."""
LABELS = Labels("head.classes")
EPS = Key("layer_norm_eps", "embedding.norm.eps", "eps", default=1e-6)
BIAS = Key("qkv_bias", f"{MIXER}.bias", default=True)
OVERLAPPING = (
    Square("image_size", "embedding.image", "image", default=224),
    Stages("sr_ratios", "blocks.*.mixer.reduce.kernel", "reductions", absent=1),
    Fixed("patch_sizes", 7, 3),
    Fixed("strides", 4, 2),
)
"""Of PVT v2 and what follows it."""
MIXED = (
    *OVERLAPPING,
    Whole(Alike(Key("mlp_ratios", f"{BLOCK}.feedforward.ratio", "ratio", default=4))),
    Always("eps", 1e-5),  # their norms take no heed of layer_norm_eps
)
"""Of the Mix Transformer."""


def attention(theirs: str, own: Sequence[str], output: str, reduction: str, norm: str) -> list[Pair]:
    """Attention to a coarser map, or to all where there is none; `own` are the maps of queries, keys and values."""
    query, key, value = (f"{theirs}.{name}" for name in own)
    return [
        *layer(f"{MIXER}.query", query),
        *layer(f"{MIXER}.key_value", key, value),
        *layer(f"{MIXER}.qkv", query, key, value),
        *layer(f"{MIXER}.output", f"{theirs}.{output}"),
        *layer(f"{MIXER}.reduce.project", f"{theirs}.{reduction}"),
        *layer(f"{MIXER}.reduce.norm", f"{theirs}.{norm}"),
    ]


def patches(project: str, norm: str) -> list[Pair]:
    """Embedding and ways into later stages, which their libraries make alike; `*` stands for the stage."""
    return [
        *layer("embedding.project", project.replace("*", "0", 1)),
        *layer("embedding.norm", norm.replace("*", "0", 1)),
        *layer(f"{STAGE}.enter.project", project),
        *layer(f"{STAGE}.enter.norm", norm),
    ]


CLASSIFIER = Top(settings=(LABELS,), table=(*layer("head.classify", "classifier"),))
BARE = Top(head=lambda config: None, prefix="")
"""The last map."""


def table(design: Design) -> list[Pair]:
    """The body of PVT; the last stage has a class token, which takes its position along."""
    block, embedding, last = "encoder.block.*.*", "encoder.patch_embeddings", stages(design) - 1
    own = ("self.query", "self.key", "self.value")
    end = f"{embedding}.{last}.cls_token", f"{embedding}.{last}.position_embeddings"
    return [
        *attention(f"{block}.attention", own, "output.dense", "self.sequence_reduction", "self.layer_norm"),
        *norms(f"{block}.layer_norm_1", f"{block}.layer_norm_2"),
        *maps(f"{block}.mlp.dense1", f"{block}.mlp.dense2"),
        *patches(f"{embedding}.*.projection", f"{embedding}.*.layer_norm"),
        Pair(f"backbone.stages.{last}.first", end, Leading()),
        Pair(f"backbone.stages.{last}.places.table", end[1:], Following(1, wrapped=True)),
        *(
            Pair(f"backbone.stages.{i}.places.table", (f"{embedding}.{i}.position_embeddings",), Wrapped(1))
            for i in range(last)
        ),
        *layer("backbone.norm", "encoder.layer_norm"),
    ]


def table_v2(design: Design) -> list[Pair]:
    """The body of PVT v2."""
    stage = "encoder.layers.*"
    block = f"{stage}.blocks.*"
    own = ("query", "key", "value")
    return [
        *attention(f"{block}.attention", own, "proj", "spatial_reduction", "layer_norm"),
        *norms(f"{block}.layer_norm_1", f"{block}.layer_norm_2"),
        *maps(f"{block}.mlp.dense1", f"{block}.mlp.dense2"),
        *layer(f"{BLOCK}.feedforward.conv", f"{block}.mlp.dwconv.dwconv"),
        *patches(f"{stage}.patch_embedding.proj", f"{stage}.patch_embedding.layer_norm"),
        *layer(f"{STAGE}.norm", f"{stage}.layer_norm"),
    ]


def table_segformer(design: Design) -> list[Pair]:
    """The body of SegFormer."""
    block, own = "encoder.block.*.*", ("self.query", "self.key", "self.value")
    return [
        *attention(f"{block}.attention", own, "output.dense", "self.sr", "self.layer_norm"),
        *norms(f"{block}.layer_norm_1", f"{block}.layer_norm_2"),
        *maps(f"{block}.mlp.dense1", f"{block}.mlp.dense2"),
        *layer(f"{BLOCK}.feedforward.conv", f"{block}.mlp.dwconv.dwconv"),
        *patches("encoder.patch_embeddings.*.proj", "encoder.patch_embeddings.*.layer_norm"),
        *layer(f"{STAGE}.norm", "encoder.layer_norm.*"),
    ]


DECODER = Top(
    table=(
        Pair("head.project.*.weight", ("decode_head.linear_c.*.proj.weight",), Pointwise()),
        Pair("head.project.*.bias", ("decode_head.linear_c.*.proj.bias",)),
        *layer("head.fuse.conv", "decode_head.linear_fuse", bias=False),
        *batch_norm("head.fuse.norm", "decode_head.batch_norm"),
        *layer("head.classify", "decode_head.classifier"),
    ),
    settings=(
        LABELS,
        Key("decoder_hidden_size", "head.hidden", default=256),
        Key("classifier_dropout_prob", "head.dropout", default=0.1),
    ),
    head=lambda config: spec(MLPDecoder, classes=len(labels(config))),
)
"""All levels through linear maps alone."""
register(
    Family(
        name="pvt",
        system="pvt",
        settings=(
            *BODY,
            EPS,
            BIAS,
            WHOLE_RATIOS,
            Square("image_size", "embedding.image", "image", default=224),
            Stages("sequence_reduction_ratios", "blocks.*.mixer.reduce.kernel", "reductions", absent=1),
            Fixed("patch_sizes", 4, 2),
            Fixed("strides", 4, 2),
        ),
        table=table,
        prefix="pvt",
        tops={"PvtForImageClassification": CLASSIFIER, "PvtModel": BARE},
    )
)
register(
    Family(
        name="pvt_v2",
        system="pvt-v2",
        settings=(*BODY, *OVERLAPPING, EPS, BIAS, WHOLE_RATIOS),
        table=table_v2,
        prefix="pvt_v2",
        only={"linear_attention": False},
        tops={"PvtV2ForImageClassification": CLASSIFIER, "PvtV2Model": BARE},
    )
)
SEGFORMER = register(
    Family(
        name="segformer",
        system="segformer",
        settings=(*BODY, *MIXED),
        table=table_segformer,
        prefix="segformer",
        only={"reshape_last_stage": True},
        tops={"SegformerForImageClassification": CLASSIFIER, "SegformerModel": BARE},
    )
)
register(replace(SEGFORMER, system="segformer-segmentation", tops={"SegformerForSemanticSegmentation": DECODER}))
FUSION = "decoder.stages.{}.fusion.convolutional_layer{}"
register(
    Family(
        name="glpn",
        system="glpdepth",
        settings=(
            *BODY,
            *MIXED,
        ),
        table=table_segformer,
        prefix="glpn",
        only={"head_in_index": -1},
        tops={
            "GLPNForDepthEstimation": Top(
                settings=(
                    Key("decoder_hidden_size", "head.hidden", "hidden", default=64),
                    Key("max_depth", "head.max_depth", "max_depth", default=10),
                ),
                table=(
                    *layer("head.project.*", "decoder.stages.*.convolution"),
                    *layer("head.before", "head.head.0"),
                    *layer("head.last", "head.head.2"),
                    *(pair for i in range(3) for pair in layer(f"head.fusion.{i}.convs.2", FUSION.format(i + 1, 3))),
                    *(
                        pair
                        for i in range(3)
                        for k in range(2)
                        for pair in (
                            *layer(f"head.fusion.{i}.convs.{k}.conv", f"{FUSION.format(i + 1, k + 1)}.0"),
                            *batch_norm(f"head.fusion.{i}.convs.{k}.norm", f"{FUSION.format(i + 1, k + 1)}.1"),
                        )
                    ),
                ),
            ),
            "GLPNModel": BARE,
        },
    )
)


TIMM_SETTINGS = (
    *SIZES,
    Key("classes", "head.classes", "classes"),
    RATIOS,
    Depths(),
    Stages("reductions", "blocks.*.mixer.reduce.kernel", "reductions", absent=1),
)


def timm_sizes(model: Any, blocks: Sequence[Any]) -> dict[str, Any]:
    """What both families of timm say; `blocks` are those of each stage."""
    firsts = [each[-1] for each in blocks]
    return {
        "classes": model.num_classes,
        "hidden_sizes": [each.norm1.normalized_shape[0] for each in firsts],
        "depths": [len(each) for each in blocks],
        "num_attention_heads": [each.attn.num_heads for each in firsts],
        "mlp_ratios": [each.mlp.fc1.out_features / each.mlp.fc1.in_features for each in firsts],
        "reductions": [max(map(_reduction, each)) for each in blocks],
    }


def _reduction(block: Any) -> int:
    """The stride of its convolution; 1 for a block without, whose windows or tokens need none."""
    reduction = getattr(block.attn, "sr", None)
    return 1 if reduction is None else int(reduction.kernel_size[0])


def timm_blocks(theirs: str) -> list[Pair]:
    """The blocks of both families of timm."""
    own = f"{theirs}.attn"
    return [
        *layer(f"{MIXER}.query", f"{own}.q"),
        *layer(f"{MIXER}.key_value", f"{own}.kv"),
        *layer(f"{MIXER}.qkv", f"{own}.q", f"{own}.kv", form=Shares((1, 2))),
        *layer(f"{MIXER}.output", f"{own}.proj"),
        *layer(f"{MIXER}.reduce.project", f"{own}.sr"),
        *layer(f"{MIXER}.reduce.norm", f"{own}.norm"),
        *norms(f"{theirs}.norm1", f"{theirs}.norm2"),
        *maps(f"{theirs}.mlp.fc1", f"{theirs}.mlp.fc2"),
    ]


def facts_v2(model: Any) -> dict[str, Any]:
    """What a timm `PyramidVisionTransformerV2` is."""
    return {
        **timm_sizes(model, [each.blocks for each in model.stages]),
        "num_channels": model.patch_embed.proj.in_channels,
        "eps": model.stages[0].norm.eps,
        "patch_eps": model.patch_embed.norm.eps,
    }


def timm_table_v2(design: Design) -> list[Pair]:
    """All tensors of timm's PVT v2."""
    block = "stages.*.blocks.*"
    return [
        *timm_blocks(block),
        *layer(f"{BLOCK}.feedforward.conv", f"{block}.mlp.dwconv"),
        *layer("embedding.project", "patch_embed.proj"),
        *layer("embedding.norm", "patch_embed.norm"),
        *layer(f"{STAGE}.enter.project", "stages.*.downsample.proj"),
        *layer(f"{STAGE}.enter.norm", "stages.*.downsample.norm"),
        *layer(f"{STAGE}.norm", "stages.*.norm"),
        *layer("head.classify", "head"),
    ]


register_timm(
    TimmFamily(
        name="PyramidVisionTransformerV2",
        system="pvt-v2",
        facts=facts_v2,
        settings=(
            *TIMM_SETTINGS,
            Key("eps", f"{STAGE}.norm.eps", "eps"),
            *(Key("patch_eps", f"{at}.norm.eps") for at in ("embedding", f"{STAGE}.enter", f"{MIXER}.reduce")),
        ),
        table=timm_table_v2,
    )
)


def facts_twins(model: Any) -> dict[str, Any]:
    """What a timm `Twins` is."""
    return {
        **timm_sizes(model, model.blocks),
        "num_channels": model.patch_embeds[0].proj.in_channels,
        "patch": model.patch_embeds[0].patch_size,
        "window": getattr(model.blocks[0][0].attn, "ws", None),
        "eps": model.norm.eps,
    }


def timm_table_twins(design: Design) -> list[Pair]:
    """All tensors of timm's Twins; the block of positions is our second of each stage."""
    shared = [
        *timm_blocks("blocks.*.*"),
        *layer(f"{MIXER}.mixer.qkv", "blocks.*.*.attn.qkv"),
        *layer(f"{MIXER}.mixer.output", "blocks.*.*.attn.proj"),
    ]
    found = []
    for j in range(max(len(each.get("blocks")) for each in design.get("backbone.stages")) - 1):
        ours, theirs = f"{STAGE}.blocks.{j + (j > 0)}", f"blocks.*.{j}"
        for pair in shared:
            names = tuple(name.replace("blocks.*.*", theirs) for name in pair.theirs)
            found.append(replace(pair, ours=pair.ours.replace(BLOCK, ours), theirs=names))
    return [
        *patches("patch_embeds.*.proj", "patch_embeds.*.norm"),
        *layer(f"{STAGE}.blocks.1.mixer.conv", "pos_block.*.proj.0"),
        *found,
        *layer("backbone.norm", "norm"),
        *layer("head.classify", "head"),
    ]


register_timm(
    TimmFamily(
        name="Twins",
        system="twins",
        facts=facts_twins,
        settings=(
            *TIMM_SETTINGS,
            Square("patch", "embedding.patch", "patch"),
            Key("window", f"{MIXER}.size", "window"),
            Key("eps", "backbone.norm.eps", "eps"),
        ),
        table=timm_table_twins,
    )
)
