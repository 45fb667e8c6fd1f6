"""Boxes and masks in COCO's format (Lin et al., 2014): read beside their pictures, and written for answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from everyformer.data.files import read_path
from everyformer.data.sources import Rows, Where, split_called
from everyformer.errors import BadInput, EveryformerError

NEEDED = ("images", "annotations", "categories")
"""The keys of such a file."""


def read_coco(path: Path, where: Where) -> dict[str, Rows]:
    """The rows of a folder with a file of boxes beside the pictures, at the top or in each part; else those of a table.

    The file is JSON with `images` (id, file_name), `annotations` (id, image_id, category_id, bbox: left, top, width and
    height in pixels) and `categories` (id, name); annotations may have a `caption`, the file `relations` (subject_id, object_id: ids of annotations;
    relation: a name), and images a depth_file_name.
    """
    if not path.is_dir():
        return read_path(path, where)
    folders = {split_called(each.name): each for each in sorted(path.iterdir()) if each.is_dir()}
    parts = {split: _inside(folder) for split, folder in folders.items() if split and list(folder.glob("*.json"))}
    if parts:
        return parts
    return {"train": _inside(path)} if list(path.glob("*.json")) else read_path(path, where)


def _inside(folder: Path) -> Rows:
    files = sorted(folder.glob("*.json"))
    if len(files) > 1:
        raise EveryformerError(f"'{folder}' has {len(files)} files of boxes ({files[0].name}, ...); give it one")
    return read_boxes(files[0])


def read_boxes(path: Path) -> Rows:
    """The rows of a file of boxes, beside which the pictures lie."""
    try:
        found = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise EveryformerError(f"'{path}' is no JSON: {error}; repair it") from None
    lacking = [name for name in NEEDED if name not in found] if isinstance(found, dict) else list(NEEDED)
    if lacking:
        raise EveryformerError(f"'{path}' has no {', '.join(lacking)}; boxes are read from COCO's format")
    names = {each["id"]: each["name"] for each in found["categories"]}
    boxes: dict[Any, list[list[float]]] = {each["id"]: [] for each in found["images"]}
    kinds: dict[Any, list[str]] = {each["id"]: [] for each in found["images"]}
    captions: dict[Any, list[Any]] = {each["id"]: [] for each in found["images"]}
    places: dict[Any, tuple[Any, int]] = {}
    for each in found["annotations"]:
        if each["image_id"] not in boxes or each["category_id"] not in names:
            raise BadInput(f"'{path}' has a box of an image or a category that it does not list: {each}")
        places[each.get("id")] = each["image_id"], len(boxes[each["image_id"]])
        left, top, width, height = each["bbox"]
        boxes[each["image_id"]].append([left, top, left + width, top + height])
        kinds[each["image_id"]].append(names[each["category_id"]])
        captions[each["image_id"]].append(each.get("caption"))
    columns: dict[str, list[Any]] = {
        "image": [each["file_name"] for each in found["images"]],
        "boxes": list(boxes.values()),
        "kinds": list(kinds.values()),
    }
    if found["annotations"] and all("caption" in each for each in found["annotations"]):
        columns["captions"] = list(captions.values())
    if "relations" in found:
        columns["relations"] = _related(found["relations"], places, boxes, f"'{path}'")
    if found["images"] and all("depth_file_name" in each for each in found["images"]):
        columns["depth"] = [each["depth_file_name"] for each in found["images"]]
    return Rows(columns, columns, len(boxes), f"'{path}'", {"kinds": list(names.values())}, folder=path.parent)


def _related(
    told: Sequence[Mapping[str, Any]], places: Mapping[Any, tuple[Any, int]], images: Iterable[Any], where: str
) -> list[list[dict[str, Any]]]:
    """What the things of each image are to each other, these by their places among its boxes."""
    found: dict[Any, list[dict[str, Any]]] = {each: [] for each in images}
    for each in told:
        one, other = (places.get(each.get(name)) for name in ("subject_id", "object_id"))
        if one is None or other is None or one[0] != other[0] or "relation" not in each:
            raise BadInput(
                f"{where} has the relation {each}; it takes subject_id and object_id, the ids of two boxes of one image, and "
                "relation, a name"
            )
        found[one[0]].append({"subject": one[1], "object": other[1], "relation": each["relation"]})
    return list(found.values())


def as_coco(
    names: Sequence[str], sizes: Iterable[tuple[int, int]], answers: Sequence[Mapping[str, Any]], classes: Sequence[str]
) -> dict[str, Any]:
    """Answers about pictures of these names and sizes (height, width) as `read_coco` reads them; what else the answers say
    of a thing beside its label and box stands with it.
    """
    numbers = {name: i + 1 for i, name in enumerate(classes)}
    annotations = [
        {
            "image_id": i + 1, "category_id": numbers[each["label"]], "bbox": each["box"],
            **{name: value for name, value in each.items() if name not in ("label", "box")},
        }
        for i, answer in enumerate(answers)
        for each in answer["things"]
    ]  # fmt: skip
    return {
        "images": [
            {"id": i + 1, "file_name": name, "height": size[0], "width": size[1]}
            for i, (name, size) in enumerate(zip(names, sizes, strict=True))
        ],
        "categories": [{"id": number, "name": name} for name, number in numbers.items()],
        "annotations": [
            {"id": i + 1, "area": float(np.prod(each["bbox"][2:])), "iscrowd": 0, **each}
            for i, each in enumerate(annotations)
        ],
    }


def region(mask: np.ndarray) -> dict[str, Any]:
    """The box of a mask (Y, X), its area in pixels, and itself as COCO's run lengths: of 0 first, column by column."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    box = [int(columns[0]), int(rows[0]), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1]
    flat = np.concatenate(([False], mask.T.reshape(-1), [True]))
    turns = np.flatnonzero(flat[1:] != flat[:-1])
    counts = np.diff(turns[turns < mask.size], prepend=0, append=mask.size)
    return {"box": box, "area": int(mask.sum()), "segmentation": {"size": list(mask.shape), "counts": counts.tolist()}}
