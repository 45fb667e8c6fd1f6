"""`export`: a trained model in the formats of others."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from everyformer.cli.app import is_checkpoint, opened
from everyformer.errors import BadInput


class Format(StrEnum):
    """What a model is written as."""

    hf = "hf"
    torch = "torch"
    onnx = "onnx"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    path: Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint's.")],
    to: Annotated[Format, typer.Option(help="hf: a folder for transformers; torch: torch.export; onnx: ONNX.")],
    out: Annotated[Path, typer.Option(help="The folder that is written.")],
    top: Annotated[str | None, typer.Option(help="The class of transformers; the first that fits by default.")] = None,
) -> None:
    """Write a trained model in another format; a design that does not fit there is refused with the part's path."""
    from everyformer.interop import to_folder, to_onnx, to_torch

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"'{out}' is there already; give a new folder")
    held = opened(path)
    if to is Format.hf:
        said = to_folder(held.model, out, top=top, config=_said(held, path))
        _tokenizer(path, out)
        _processor(held, path, out)
        print(f"{out}: a {said['architectures'][0]}")
        return
    axes = (to_torch if to is Format.torch else to_onnx)(held.model, out)
    for name, sizes in axes.items():
        print(f"{name}: {' x '.join('any' if size is None else str(size) for size in sizes)}")


def _said(held: Any, path: Path) -> dict[str, Any]:
    """What a config says beside the design."""
    if is_checkpoint(path):
        return dict(held.config)
    classes = held.task.state.get("classes") or []
    vocabulary = getattr(held.task, "vocabulary", None)
    said = {} if vocabulary is None else vocabulary.special_ids
    if classes:
        said = {**said, "id2label": dict(enumerate(classes)), "label2id": {name: i for i, name in enumerate(classes)}}
    return said


def _tokenizer(path: Path, out: Path) -> None:
    """The tokenizer goes along, where it is one that transformers reads."""
    from everyformer.jsons import read_json

    source = (path if is_checkpoint(path) else path / "task") / "tokenizer.json"
    if source.is_file() and "model" in read_json(source):
        (out / source.name).write_bytes(source.read_bytes())


def _processor(held: Any, path: Path, out: Path) -> None:
    """How pictures and sounds are read goes along, where transformers has a word for it."""
    name = "preprocessor_config.json"
    if is_checkpoint(path):
        if (path / name).is_file():
            (out / name).write_bytes((path / name).read_bytes())
        return
    said = held.task.processor()
    if said is not None:
        (out / name).write_text(json.dumps(said, indent=2) + "\n")
