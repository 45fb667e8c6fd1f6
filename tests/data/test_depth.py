"""Depth: figures by hand, the loss against Hugging Face's, and rendered rooms whose truth is exact."""

import math

import numpy as np
import pytest
import torch
from transformers.models.glpn.modeling_glpn import SiLogLoss

from everyformer.data.scenes import EYE, FAR, FOCAL, render
from everyformer.data.tasks.depth import errors
from everyformer.objectives.depth import scale_invariant
from support.tiny_data import TINY


def test_the_figures_by_hand():
    """Of four pixels one has no truth; the others are off by nothing, by a half too much and by a fifth too little."""
    said, truth = torch.tensor([2.0, 3.0, 4.0, 9.0]), torch.tensor([2.0, 2.0, 5.0, 0.0])
    found = errors(said, truth)
    assert found["abs_rel"] == pytest.approx((0 + 0.5 + 0.2) / 3)
    assert found["squared"] == pytest.approx((0 + 1 + 1) / 3)
    assert found["delta1"] == pytest.approx(1 / 3)  # 5/4 is not below a quarter


def test_the_loss_equals_hugging_face_and_knows_no_scale_with_a_whole_share():
    said, truth = torch.rand(2, 4, 5) + 0.5, torch.rand(2, 4, 5) * 3
    truth[:, 0] = 0
    for row in range(2):
        wanted = SiLogLoss(0.5)(said[row], truth[row])
        assert scale_invariant(said, truth, 0.5)[row].item() == pytest.approx(wanted.item(), abs=1e-6)
    torch.testing.assert_close(scale_invariant(said * 3, truth, 1.0), scale_invariant(said, truth, 1.0))


def test_a_room_is_what_geometry_says():
    scenes = [render(seed, side=48) for seed in range(6)]
    row = (np.arange(48) + 0.5) / 48 - 0.45
    floor = EYE / np.maximum(row / FOCAL, 1e-9)
    for scene in scenes:
        columns = np.broadcast_to(floor[:, None], (48, 48))
        np.testing.assert_allclose(scene.depth[scene.classes == 1], columns[scene.classes == 1], rtol=1e-5)
        assert (scene.depth[scene.classes == 0] == FAR).all()
        assert ((scene.things >= 0) <= (scene.classes >= 2)).all()
        for number, (kind, box) in enumerate(zip(scene.kinds, scene.boxes, strict=True)):
            rows, columns = np.nonzero(scene.things == number)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert set(scene.classes[scene.things == number]) == {kind + 2}
    assert np.array_equal(render(3).picture, render(3).picture)


def test_depth_is_written_and_the_baseline_is_the_mean_map(tmp_path):
    tiny = TINY["depth"](tmp_path / "data")
    assert tiny.task.facts["max_depth"] == pytest.approx(4.0)
    assert 0 < tiny.task.baseline("test")["abs_rel"] < 0.5
    answers = tiny.task.predict(tiny.model, tiny.raw[:1])
    assert tiny.task.write(tiny.raw[:1], answers, tmp_path) == ["0.png", "0_overlay.png"]
    assert math.isfinite(answers[0]["depth"].sum())
