"""Tiny data for every task, written as a user's files, with a model that fits."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

import everyformer as ef
from everyformer.data import Task, find_task


@dataclass
class Tiny:
    """A task opened on tiny data."""

    task: Task
    model: nn.Module
    raw: list[Any]
    """The test part as raw inputs."""
    split: str = "test"


def pictures(folder: Path, side: int = 8, count: int = 9, colour: bool = True) -> Path:
    """train/ and test/, each with a folder of pictures for 'cat' and 'dog'."""
    from PIL import Image

    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                shape = (side, side, 3) if colour else (side, side)
                array = random.integers(0, 120, shape) + (100 if name == "dog" else 0)
                Image.fromarray(array.astype(np.uint8)).save(folder / split / name / f"{i}.png")
    return folder


def masked(folder: Path, size: tuple[int, int] = (10, 12), count: int = 10, void: int = 255) -> Path:
    """train/ and test/, each with images/ of a bright square on dark ground and masks/: 0 ground, 1 square, or void."""
    from PIL import Image

    random = np.random.default_rng(5)
    for split in ("train", "test"):
        for name in ("images", "masks"):
            (folder / split / name).mkdir(parents=True)
        for i in range(count):
            top, left = random.integers(0, 5, 2)
            mask = np.zeros(size, dtype=np.uint8)
            mask[top : top + 5, left : left + 5] = 1
            array = random.integers(0, 60, (*size, 3)) + 150 * mask[..., None]
            mask[:, -1] = void
            Image.fromarray(array.astype(np.uint8)).save(folder / split / "images" / f"{i}.png")
            Image.fromarray(mask).save(folder / split / "masks" / f"{i}.png")
    return folder


def depths(folder: Path, size: tuple[int, int] = (10, 12)) -> Path:
    """The same pictures, the squares nearer: 2500 against 4000, and 0 where nothing is known."""
    from PIL import Image

    for path in sorted(masked(folder, size).glob("*/masks/*.png")):
        near = np.asarray(Image.open(path))
        Image.fromarray(np.where(near == 255, 0, 4000 - 1500 * (near == 1)).astype(np.uint16)).save(path)
    return folder


def boxed(folder: Path, size: tuple[int, int] = (16, 24), count: int = 9) -> Path:
    """train/ and test/, each with pictures of bright and dark squares on gray ground, and boxes.json in COCO's format."""
    from PIL import Image

    random = np.random.default_rng(6)
    for split in ("train", "test"):
        (folder / split).mkdir(parents=True)
        images, annotations = [], []
        for i in range(count):
            array = random.integers(100, 130, (*size, 3))
            for kind in range(i % 3):
                top, left = (int(random.integers(0, side - 8)) for side in size)
                array[top : top + 6, left : left + 8] = 250 * kind
                box = {"bbox": [left, top, 8, 6], "category_id": 7 + kind, "image_id": 40 + i}
                annotations.append({"id": len(annotations), **box})
            images.append({"id": 40 + i, "file_name": f"{i}.png"})
            Image.fromarray(array.astype(np.uint8)).save(folder / split / f"{i}.png")
        names = [{"id": 7, "name": "dark"}, {"id": 8, "name": "bright"}]
        found = {"images": images, "annotations": annotations, "categories": names}
        (folder / split / "boxes.json").write_text(json.dumps(found))
    return folder


def captioned(folder: Path, size: tuple[int, int] = (16, 24), count: int = 9) -> Path:
    """The same, with a caption of each square."""
    boxed(folder, size, count)
    for path in sorted(folder.glob("*/boxes.json")):
        found = json.loads(path.read_text())
        for each in found["annotations"]:
            each["caption"] = ("a dark square", "a bright one")[each["category_id"] - 7]
        path.write_text(json.dumps(found))
    return folder


def related(folder: Path) -> Path:
    """The same, in each picture with two squares the dark one 'beside' the bright one, and that 'far from' it, with depths."""
    from PIL import Image

    boxed(folder, count=15)
    for path in sorted(folder.glob("*/boxes.json")):
        found = json.loads(path.read_text())
        of: dict[int, list[int]] = {}
        for each in found["annotations"]:
            of.setdefault(each["image_id"], []).append(each["id"])
        pairs = [pair for pair in of.values() if len(pair) == 2]
        found["relations"] = [
            {"subject_id": pair[turn], "object_id": pair[1 - turn], "relation": name}
            for pair in pairs for turn, name in enumerate(("beside", "far from"))
        ]  # fmt: skip
        (path.parent / "depths").mkdir()
        for each in found["images"]:
            each["depth_file_name"] = f"depths/{each['file_name']}"
            far = np.full((16, 24), 1000 + each["id"], dtype=np.uint16)
            Image.fromarray(far).save(path.parent / each["depth_file_name"])
        path.write_text(json.dumps(found))
    return folder


def roads(folder: Path, size: tuple[int, int] = (12, 16), count: int = 9) -> Path:
    """train.jsonl and test.jsonl, and pictures with one to three bright lines from the middle of the upper edge to the lower one."""
    from PIL import Image, ImageDraw

    random = np.random.default_rng(7)
    height, width = size
    (folder / "images").mkdir(parents=True)
    for split in ("train", "test"):
        rows = []
        for i in range(count):
            picture = Image.fromarray(random.integers(0, 60, (*size, 3)).astype(np.uint8))
            ends = [[1 + int(random.integers(0, 4)) + 5 * k, height] for k in range(1 + i % 3)]
            lanes = [[[width / 2, 0], end] for end in ends]
            for lane in lanes:
                ImageDraw.Draw(picture).line([tuple(point) for point in lane], fill=(255, 255, 255))
            picture.save(folder / "images" / f"{split}{i}.png")
            rows.append({"image": f"images/{split}{i}.png", "lanes": lanes})
        table(folder / f"{split}.jsonl", rows)
    return folder


def mixed_pictures(folder: Path, count: int = 12) -> Path:
    """A folder of pictures of many sizes and shapes for 'dark' and 'light'."""
    from PIL import Image

    random = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 120)):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            array = random.integers(low, low + 100, (9 + i % 5, 12 + i % 4, 3))
            Image.fromarray(array.astype(np.uint8)).save(folder / name / f"{i}.png")
    return folder


def sounds(folder: Path, count: int = 6) -> Path:
    """train/ and test/, each with a folder of WAV files for 'high' and 'low'."""
    import soundfile

    for split in ("train", "test"):
        for name, hertz in (("high", 1500), ("low", 200)):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                time = np.arange(1600 + 100 * i) / 8000
                soundfile.write(folder / split / name / f"{i}.wav", np.sin(2 * np.pi * (hertz + i) * time), 8000)
    return folder


def table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A CSV or JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


WORDS = [
    "the",
    "a",
    "dog",
    "cat",
    "house",
    "tree",
    "runs",
    "sleeps",
    "barks",
    "near",
    "under",
    "with",
    "red",
    "green",
    "old",
]


def sentence(random: np.random.Generator) -> str:
    """A few words."""
    return " ".join(random.choice(WORDS, int(random.integers(2, 9))))


def texts(folder: Path) -> Path:
    """train.csv and test.csv with columns text and label."""
    random = np.random.default_rng(1)
    for split, count in (("train", 24), ("test", 13)):
        rows = [{"text": sentence(random) + (" good" if i % 2 else " bad"), "label": i % 2} for i in range(count)]
        table(folder / f"{split}.csv", rows)
    return folder


def pairs(folder: Path) -> Path:
    """train.jsonl, valid.jsonl and test.jsonl with columns en and xx."""
    random = np.random.default_rng(2)
    for split, count in (("train", 30), ("valid", 5), ("test", 11)):
        sources = [sentence(random) for _ in range(count)]
        table(folder / f"{split}.jsonl", [{"en": s.capitalize() + ".", "xx": s.upper() + "!"} for s in sources])
    return folder


def series(path: Path, steps: int = 120) -> Path:
    """A CSV of two hourly series."""
    rows = [
        {
            "date": str(datetime(2026, 1, 1) + timedelta(hours=t)),
            "load": round(100 + 30 * float(np.sin(t / 4)), 4),
            "heat": round(-5 + float(np.cos(t / 9)), 4),
        }
        for t in range(steps)
    ]
    return table(path, rows)


def _images(folder: Path) -> Tiny:
    pictures(folder)
    task = find_task("image-classification").open(path=str(folder), shift=1, flip=True, cutout=2)
    model = ef.create("vit", classes=2, image=8, patch=4, channels=3, width=16, depth=1, heads=2, seed=0)
    raw = [folder / "test" / name / f"{i}.png" for name in ("cat", "dog") for i in range(9)]
    return Tiny(task, model, raw)


def _segmentation(folder: Path) -> Tiny:
    masked(folder)
    task = find_task("segmentation").open(path=str(folder), ignored=[255], crop=8, zoom=[0.8, 1.5], flip=True)
    model = ef.create(
        "segmenter", classes=2, image=8, patch=4, width=16, depth=1, heads=2, head_depth=1, seed=0
    )  # fmt: skip
    return Tiny(task, model, [folder / "test" / "images" / f"{i}.png" for i in range(10)])


def _depth(folder: Path) -> Tiny:
    depths(folder)
    task = find_task("depth").open(path=str(folder), unit=0.001, flip=True)
    sizes = {"widths": (8, 12), "depths": (1, 1), "heads": (1, 2), "reductions": (1, 1), "hidden": 8, "max_depth": 4.0}
    model = ef.create("glpdepth", image=12, **sizes, seed=0)
    return Tiny(task, model, [folder / "test" / "images" / f"{i}.png" for i in range(10)])


def _detection(folder: Path) -> Tiny:
    boxed(folder)
    task = find_task("detection").open(path=str(folder), crop=16, zoom=[0.8, 1.5], flip=True, surest=0.1)
    sizes = {"stem": 4, "convs": (1,), "width": 16, "depth": 1, "decoder_depth": 1, "heads": 2, "hidden": 16}
    model = ef.create("detr", classes=2, image=16, **sizes, queries=4, seed=0)
    return Tiny(task, model, [folder / "test" / f"{i}.png" for i in range(9)])


def _captions(folder: Path) -> Tiny:
    captioned(folder, (16, 16))
    task = find_task("dense-captioning").open(path=str(folder), tokens="words", flip=True, surest=0.0)
    sizes = {"patch": 4, "width": 8, "depth": 1, "heads": 2, "window": 2, "whole": 1, "pretrained": 4, "hidden": 8}
    more = {"groups": 2, "coarser": 1, "looks": 1, "look_hidden": 8, "before": 6, "count": 3, "side": 2}
    words = {"text_width": 8, "text_depth": 1, "text_heads": 2, "dropout": 0.0}
    facts = {name: task.facts[name] for name in ("image", "vocabulary", "length")}
    model = ef.create("grit", **facts, **sizes, **more, **words, seed=0)
    return Tiny(task, model, [folder / "test" / f"{i}.png" for i in range(9)])


def _anomaly(folder: Path) -> Tiny:
    pictures(folder, side=16)
    task = find_task("anomaly-detection").open(path=str(folder), normal=["cat"], channels=3)
    sizes = {"stem": 4, "convs": (1, 1), "levels": (0, 1), "inner": (4, 8), "depth": 1, "heads": 2}
    model = ef.create("fod-anomaly", image=16, **sizes, seed=0)
    task.settle(model)
    return Tiny(task, model, [folder / "test" / name / f"{i}.png" for name in ("cat", "dog") for i in range(9)])


def _objects(folder: Path) -> Tiny:
    masked(folder, (12, 12), void=0)
    task = find_task("object-discovery").open(path=str(folder), flip=True)
    sizes = {"patch": 4, "width": 8, "depth": 0, "heads": 2, "decoder_depth": 1, "decoder_heads": 2}
    model = ef.create("spot-object-centric", image=12, **sizes, slots=3, slot_width=8, slot_hidden=8, seed=0)
    return Tiny(task, model, [folder / "test" / "images" / f"{i}.png" for i in range(10)])


def _lanes(folder: Path) -> Tiny:
    roads(folder)
    task = find_task("lane-detection").open(
        path=str(folder), points=4, bins=20, formats=["anchor", "parameter"], flip=True, zoom=[0.9, 1.2]
    )
    sizes = {"picture_width": 16, "picture_depth": 1, "picture_heads": 2, "width": 16, "depth": 1, "heads": 2}
    model = ef.create("lane2seq", image=16, patch=4, **sizes, bins=20, length=task.facts["length"], seed=0)
    return Tiny(task, model, [folder / "images" / f"test{i}.png" for i in range(9)])


def _relations(folder: Path) -> Tiny:
    related(folder)
    task = find_task("relations").open(path=str(folder), crop=16, zoom=[0.8, 1.5], surest=0.0)
    sizes = {"stem": 4, "convs": (1,), "width": 16, "heads": 2, "hidden": 16, "stage_depth": 1, "groups": (4,)}
    more = {"decoder_depth": 1, "queries": 4, "name_width": 4}
    model = ef.create("agglomerative-transformer", classes=2, relations=2, image=16, **sizes, **more, seed=0)
    return Tiny(task, model, [folder / "test" / f"{i}.png" for i in range(9)])


def _pairs(folder: Path) -> Tiny:
    related(folder)
    task = find_task("relations-of-things").open(path=str(folder), cells=4)
    sizes = {"words": 4, "place_width": 4, "width": 16, "depth_width": 8, "depth": 1, "heads": 2}
    model = ef.create(
        "veto", groups=(1, 1), channels=3, depth_channels=1, side=4, kinds=2, **sizes, seed=0
    )  # fmt: skip
    return Tiny(task, model, [folder / "test" / "boxes.json"])


def _audio(folder: Path) -> Tiny:
    sounds(folder)
    task = find_task("audio-classification").open(
        path=str(folder), rate=4000, mels=16, frames=24, shift=3, mask_mels=3, mask_frames=4
    )
    model = ef.create(
        "ast", classes=2, mels=16, frames=24, patch=8, stride=8, width=16, depth=1, heads=2, seed=0
    )  # fmt: skip
    return Tiny(task, model, [folder / "test" / name / f"{i}.wav" for name in ("high", "low") for i in range(6)])


def _texts(folder: Path, **options: Any) -> Tiny:
    texts(folder)
    task = find_task("text-classification").open(path=str(folder), vocabulary=300, length=12, **options)
    model = ef.create("bert", "tiny", classes=2, vocabulary=task.facts["vocabulary"], length=12, width=16, seed=0)
    return Tiny(task, model, list(task.texts["test"]))


def _language(folder: Path) -> Tiny:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(3)
    path = folder / "book.txt"
    path.write_text("\n".join(sentence(random) for _ in range(60)))
    task = find_task("language-modelling").open(path=str(path), tokens="characters", length=16)
    model = ef.create(
        "gpt", vocabulary=task.facts["vocabulary"], length=16, width=16, depth=1, heads=2, seed=0
    )  # fmt: skip
    return Tiny(task, model, ["the dog", "a"], split="valid")


def _streamed(folder: Path) -> Tiny:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(3)
    for shard in range(3):
        (folder / f"part-{shard}.txt").write_text("\n".join(sentence(random) for _ in range(20)))
    table(folder / "valid.jsonl", [{"text": sentence(random)} for _ in range(12)])
    task = find_task("streamed-language-modelling").open(
        path=str(folder), tokens="characters", length=16, index=str(folder / "index")
    )  # fmt: skip
    model = ef.create(
        "gpt", vocabulary=task.facts["vocabulary"], length=16, width=16, depth=1, heads=2, seed=0
    )  # fmt: skip
    return Tiny(task, model, ["the dog", "a"], split="valid")


def _endless(folder: Path) -> Tiny:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(3)
    for shard in range(2):
        table(folder / f"part-{shard}.jsonl", [{"text": sentence(random)} for _ in range(30)])
    task = find_task("endless-language-modelling").open(
        path=str(folder), tokens="characters", length=16, lanes=2, held=12, index=str(folder / "index")
    )  # fmt: skip
    model = ef.create(
        "gpt", vocabulary=task.facts["vocabulary"], length=16, width=16, depth=1, heads=2, seed=0
    )  # fmt: skip
    return Tiny(task, model, ["the dog", "a"], split="valid")


def _masked(folder: Path) -> Tiny:
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(4)
    path = folder / "book.txt"
    path.write_text("\n".join(sentence(random) for _ in range(80)))
    task = find_task("masked-language-modelling").open(path=str(path), tokens="bytes", length=16, hidden=0.3)
    model = ef.create("bert", "tiny", vocabulary=task.facts["vocabulary"], length=16, width=16, seed=0)
    return Tiny(task, model, ["the <mask>og"], split="valid")


def _translation(folder: Path) -> Tiny:
    pairs(folder)
    task = find_task("translation").open(path=str(folder), input="en", target="xx", vocabulary=300, length=64)
    model = ef.create("transformer", vocabulary=task.facts["vocabulary"], width=16, hidden=16, depth=1, heads=2, seed=0)
    return Tiny(task, model, list(task.texts["test"][0]))


def _series(folder: Path) -> Tiny:
    path = series(folder / "series.csv")
    task = find_task("forecasting").open(path=str(path), lookback=12, horizon=6, marks=True)
    model = ef.create("itransformer", lookback=12, horizon=6, variates=2, width=16, hidden=16, depth=1, heads=2, seed=0)
    return Tiny(task, model, [path])


TINY: dict[str, Callable[[Path], Tiny]] = {
    "anomaly-detection": _anomaly,
    "audio-classification": _audio,
    "dense-captioning": _captions,
    "depth": _depth,
    "detection": _detection,
    "endless-language-modelling": _endless,
    "forecasting": _series,
    "image-classification": _images,
    "lane-detection": _lanes,
    "language-modelling": _language,
    "masked-language-modelling": _masked,
    "object-discovery": _objects,
    "relations": _relations,
    "relations-of-things": _pairs,
    "segmentation": _segmentation,
    "streamed-language-modelling": _streamed,
    "text-classification": _texts,
    "translation": _translation,
}
"""A task by name, opened on tiny data in a folder."""
