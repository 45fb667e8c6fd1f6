"""Costs: parameters, FLOPs by path, and the printed tree."""

from __future__ import annotations

import everyformer as ef
from everyformer.costs import flops, on_meta, parameters, tree
from support.systems import tiny


def test_tied_weights_count_once() -> None:
    model = tiny("gpt").build()
    untied = tiny("gpt").swap("head", ef.spec(ef.heads.TokenHead, vocabulary=20)).build()
    assert parameters(untied) - parameters(model) == 20 * 32


def test_flops_of_the_whole_are_those_of_its_parts() -> None:
    counts = flops(on_meta(tiny("transformer")))
    assert counts[""] == counts["encoder"] + counts["decoder"] + counts["head"]
    assert counts["encoder"] == counts["encoder.blocks.0"] + counts["encoder.blocks.1"]


def test_nothing_is_computed_or_kept() -> None:
    model = on_meta(ef.design("llama", size="65b"))
    assert parameters(model) > 6e10
    assert all(p.is_meta for p in model.parameters())


def test_a_design_that_cannot_run_on_its_example_is_printed_without_flops() -> None:
    design = tiny("vit").set("embedding.first", 0).swap("head.pool", ef.spec(ef.heads.LeadingMean))
    text = tree(design)
    assert "LeadingMean" in text
    assert text.splitlines()[1].split()[-1].replace(",", "").isdigit(), "parameters, and nothing after them"
