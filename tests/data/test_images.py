"""Pictures: what is read, how it is brought to size, augmented and normalised, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from everyformer.data import find_task
from everyformer.data.pictures import augment, decode, normalise, to_array
from everyformer.errors import BadInput, DoesNotFit
from support.tiny_data import TINY, pictures

IMAGES = find_task("image-classification")


def test_mean_and_deviation_are_those_of_the_training_pictures(tmp_path: Path) -> None:
    task = IMAGES.open(path=str(pictures(tmp_path)))
    values = task.parts["train"][0].double() / 255
    np.testing.assert_allclose(task.state["mean"], values.mean((0, 2, 3)), rtol=1e-9)
    np.testing.assert_allclose(task.state["std"], values.std((0, 2, 3), correction=0), rtol=1e-9)
    batch = task.batch("train", range(task.size("train")))["inputs"]
    torch.testing.assert_close(batch.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert task.facts == {"classes": 2, "channels": 3, "image": 8}
    given = IMAGES.open(path=str(tmp_path), mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])
    torch.testing.assert_close(
        given.batch("train", [4])["inputs"][0], (given.parts["train"][0][4].float() / 255 - 0.5) / 0.5
    )


def test_gray_pictures_have_one_channel_unless_told(tmp_path: Path) -> None:
    pictures(tmp_path, colour=False)
    assert IMAGES.open(path=str(tmp_path)).facts["channels"] == 1
    assert IMAGES.open(path=str(tmp_path), channels=3).batch("test", [0])["inputs"].shape == (1, 3, 8, 8)


def test_the_same_picture_in_any_form_is_the_same(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (6, 6, 3)).astype(np.uint8)
    path = tmp_path / "a.png"
    Image.fromarray(array).save(path)
    forms = [
        path, str(path), path.read_bytes(), {"bytes": path.read_bytes(), "path": None}, {"bytes": None, "path": path},
        Image.fromarray(array), array, array.transpose(2, 0, 1), array.astype(np.float64) / 255, torch.from_numpy(array),
    ]  # fmt: skip
    for form in forms:
        np.testing.assert_array_equal(to_array(decode(form), 6, 3, "crop"), array.transpose(2, 0, 1))


def test_modes_are_brought_to_gray_or_colour() -> None:
    gray = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16
    for mode in ("L", "LA", "RGB", "RGBA", "P"):
        picture = Image.fromarray(gray).convert(mode)
        assert np.abs(to_array(picture, 4, 1, "crop")[0].astype(int) - gray).max() <= 1
    deep = Image.fromarray(gray.astype(np.uint16) * 257)
    np.testing.assert_array_equal(to_array(deep, 4, 1, "crop")[0], gray)


def test_a_long_picture_is_cropped_in_the_middle_or_stretched() -> None:
    picture = Image.fromarray(np.repeat(np.array([0, 0, 90, 90, 90, 90, 0, 0], np.uint8)[None], 4, 0))
    assert set(to_array(picture, 4, 1, "crop").flatten()) == {90}
    stretched = to_array(picture, 4, 1, "stretch")[0, 0]
    assert stretched[0] < 20
    assert stretched[1] > 70


def test_augmentation_moves_flips_and_cuts_each_picture_on_its_own() -> None:
    given = torch.arange(1, 1 + 64 * 16).view(64, 1, 4, 4).remainder(251).add(1).byte()
    rows = list(range(64))
    moved = augment(given, rows, 0, 1, False, 0)
    padded = torch.nn.functional.pad(given, (1, 1, 1, 1))
    offsets = set()
    for before, after in zip(padded, moved):
        found = [(y, x) for y in range(3) for x in range(3) if torch.equal(before[:, y : y + 4, x : x + 4], after)]
        assert found
        offsets.add(found[0])
    assert len(offsets) == 9
    flipped = augment(given, rows, 0, 0, True, 0)
    same = [torch.equal(a, b) for a, b in zip(flipped, given)]
    assert all(s or torch.equal(a, b.flip(2)) for s, a, b in zip(same, flipped, given))
    assert 20 < sum(same) < 44
    cut = augment(given, rows, 0, 0, False, 2)
    for before, after in zip(given, cut):
        black = after == 0
        assert 1 <= int(black.sum()) <= 4
        assert torch.equal(after[~black], before[~black])
    assert augment(given, rows, 0, 0, False, 0) is given


def test_normalise_is_the_equation() -> None:
    given = torch.tensor([[[[0, 255]], [[51, 102]]]], dtype=torch.uint8)
    wanted = torch.tensor([[[[-0.5 / 0.25, 0.5 / 0.25]], [[(0.2 - 0.1) / 0.2, (0.4 - 0.1) / 0.2]]]])
    torch.testing.assert_close(normalise(given, [0.5, 0.1], [0.25, 0.2]), wanted)


def test_a_broken_picture_in_the_middle_is_named_or_skipped(tmp_path: Path) -> None:
    pictures(tmp_path)
    whole = IMAGES.open(path=str(tmp_path))
    path = tmp_path / "train" / "cat" / "4.png"
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BadInput, match=r"4.png' is no picture .* or set data.broken=skip \(row 4 of 18\)"):
        IMAGES.open(path=str(tmp_path), fractions=[1.0, 0.0, 0.0])
    task = IMAGES.open(path=str(tmp_path), broken="skip", fractions=[1.0, 0.0, 0.0])
    assert task.size("train") == 17
    assert task.parts["train"][1].tolist() == [0] * 8 + [1] * 9
    assert whole.size("train") == 16
    for each in (tmp_path / "test").rglob("*.png"):
        each.write_text("nothing")
    with pytest.raises(BadInput, match="none of the 18 pictures"):
        IMAGES.open(path=str(tmp_path), broken="skip")


def test_sizes_must_be_equal_or_stated(tmp_path: Path) -> None:
    pictures(tmp_path)
    Image.new("RGB", (12, 9)).save(tmp_path / "train" / "dog" / "odd.png")
    with pytest.raises(BadInput, match=r"8x8, 12x9 \(width x height\), not all of one square size.*data.image=8"):
        IMAGES.open(path=str(tmp_path), fractions=[1.0, 0.0, 0.0])
    assert IMAGES.open(path=str(tmp_path), image=16).batch("test", [0])["inputs"].shape == (1, 3, 16, 16)


def test_inputs_that_are_no_pictures_are_refused(tmp_path: Path) -> None:
    tiny = TINY["image-classification"](tmp_path / "data")
    for given, message in (
        (tmp_path / "none.png", "no picture at '.*none.png'"),
        (b"hello", "no picture that can be read"),
        (np.zeros((2, 3, 4, 5), np.uint8), r"of shape \(2, 3, 4, 5\) is no picture"),
        (np.zeros((8, 8, 5), np.uint8), r"of shape \(8, 8, 5\) is no picture"),
        (np.full((8, 8), 700), "of int64 from 700 to 700 is no picture"),
        (np.full((8, 8), -0.5), "of float64 from -0.5 to -0.5 is no picture"),
    ):
        with pytest.raises(BadInput, match=message):
            tiny.task.predict(tiny.model, [given])


def test_wrong_channels_and_classes_are_refused(tmp_path: Path) -> None:
    import everyformer as ef

    path = str(pictures(tmp_path))
    with pytest.raises(BadInput, match=r"data.mean has 1 values and the pictures have 3 channels"):
        IMAGES.open(path=path, mean=[0.5])
    task = IMAGES.open(path=path)
    gray = ef.create("vit", classes=2, image=8, patch=4, channels=1, width=16, depth=1, heads=2)
    with pytest.raises(BadInput, match="channels=3"):
        task.evaluate(gray, "test")
    many = ef.create("vit", classes=5, image=8, patch=4, channels=3, width=16, depth=1, heads=2)
    with pytest.raises(DoesNotFit, match="answers with 5 classes and the data has 2; build the design with classes=2"):
        task.evaluate(many, "test")


def test_examples_show_the_picture_that_was_answered(tmp_path: Path) -> None:
    import base64
    import io

    tiny = TINY["image-classification"](tmp_path / "data")
    examples = tiny.task.evaluate(tiny.model, "test").examples
    shown = [*examples["right"], *examples["wrong"]]
    assert shown
    picture = Image.open(io.BytesIO(base64.b64decode(shown[0]["input"].split(",")[1])))
    arrays = tiny.task.parts["test"][0].permute(0, 2, 3, 1).numpy()
    assert any(np.array_equal(np.asarray(picture), each) for each in arrays)
    assert all(e["answer"] == e["expected"] for e in examples["right"])
    assert all(e["answer"] != e["expected"] for e in examples["wrong"])
