"""Data that comes with what is installed: nothing is fetched."""

from __future__ import annotations

import sysconfig
from collections.abc import Callable
from pathlib import Path

import numpy as np

from everyformer.data.sources import Rows
from everyformer.data.splits import places


def digits() -> dict[str, Rows]:
    """scikit-learn's 1,797 handwritten digits, 8x8 (Alpaydin and Kaynak, 1998): 70 % train, 10 % valid, 20 % test."""
    from sklearn.datasets import load_digits

    found = load_digits()
    pictures = np.round(found.images * (255 / 16)).astype(np.uint8)
    labels = found.target.tolist()
    place = places(len(labels), seed=0, labels=labels)
    rows = Rows(
        {"image": pictures, "label": labels}, ("image", "label"), len(labels), "digits",
        {"label": [str(i) for i in range(10)]},
    )  # fmt: skip
    parts = {"test": place < 0.2, "valid": (place >= 0.2) & (place < 0.3), "train": place >= 0.3}
    return {split: rows.take(np.flatnonzero(chosen).tolist()) for split, chosen in parts.items()}


def python() -> dict[str, Rows]:
    """The source code of the standard library of the Python that runs, its own tests left out; a row a file."""
    library = Path(sysconfig.get_paths()["stdlib"])
    left_out = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "__pycache__"}
    texts = []
    for path in sorted(library.rglob("*.py")):
        if not left_out & set(path.relative_to(library).parts):
            texts.append(path.read_text(encoding="utf-8", errors="replace"))
    return {"train": Rows({"text": texts}, ("text",), len(texts), "the standard library of Python")}


def scenes() -> dict[str, Rows]:
    """Rendered rooms of 64x64 pixels: classes, depth and things (0: none) of each pixel, boxes and kinds of the things, and
    what they are to each other; no two parts share one.
    """
    return {
        split: _rendered(range(start, start + count))
        for split, start, count in (("train", 0, 500), ("valid", 500, 60), ("test", 560, 120))
    }


def _rendered(seeds: range) -> Rows:
    from everyformer.data.scenes import GROUND, KINDS, RELATIONS, related, render

    made = [render(seed) for seed in seeds]
    columns = {
        "image": [each.picture for each in made],
        "mask": [each.classes.astype(np.uint8) for each in made],
        "depth": [each.depth for each in made],
        "things": [(each.things + 1).astype(np.uint8) for each in made],
        "boxes": [each.boxes for each in made],
        "kinds": [each.kinds for each in made],
        "relations": [
            [{"subject": a, "object": b, "relation": RELATIONS[n]} for a, b, n in related(each) if n] for each in made
        ],
    }
    classes = {"mask": [*GROUND, *KINDS], "kinds": list(KINDS), "relations": list(RELATIONS[1:])}
    return Rows(columns, columns, len(made), "rendered scenes", classes)


def pasted() -> dict[str, Rows]:
    """Gray pictures of 64x64 pixels with one to four handwritten digits each: their boxes, and of each its size and its name; no
    digit stands in two parts.
    """
    from everyformer.data.canvases import canvases

    found = {}
    for seed, (split, count) in enumerate({"train": 1500, "valid": 100, "test": 200}.items()):
        rows = digits()[split]
        drawn, things = canvases(np.asarray(rows.column("image")), np.asarray(rows.column("label")), count, seed)
        columns = {
            "image": list(drawn.clip(0, 255).astype(np.uint8)),
            "boxes": [np.array([thing.box for thing in each], np.float32) for each in things],
            "captions": [[thing.caption for thing in each] for each in things],
        }
        found[split] = Rows(columns, columns, count, "pasted digits")
    return found


def roads() -> dict[str, Rows]:
    """Rendered roads of 32x32 pixels, and the lanes on each as points in pixels; no two parts share one."""
    from everyformer.data.roads import render_road

    found = {}
    for split, start, count in (("train", 0, 1500), ("valid", 40_000, 100), ("test", 50_000, 200)):
        made = [render_road(seed, side=32) for seed in range(start, start + count)]
        columns = {"image": [each.picture for each in made], "lanes": [each.lanes * 32 for each in made]}
        found[split] = Rows(columns, columns, len(made), "rendered roads")
    return found


SETS: dict[str, Callable[[], dict[str, Rows]]] = {
    "digits": digits, "pasted-digits": pasted, "python": python, "roads": roads, "scenes": scenes,
}  # fmt: skip
"""The built-in sets by name."""
