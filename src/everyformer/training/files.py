"""Files that are whole or absent: written beside their place, flushed to the disk, renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from everyformer.errors import RunFailed

_TYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


def write_text(path: Path, text: str) -> None:
    """Put `text` at `path`; a crash leaves the old file or the new one."""
    with _replacing(path) as fresh:
        write_bytes(fresh, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Put `value` at `path` as JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Put tensors at `path` as safetensors and return the file's SHA-256."""
    with _replacing(path) as fresh:
        return write_tensors(fresh, tensors)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a new file and flush it to the disk."""
    with open(path, "wb") as file:
        write_all(file, data)
        file.flush()
        os.fsync(file.fileno())


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Write a new safetensors file, one tensor after the other, and return its SHA-256."""
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in plain.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    written = json.dumps(header).encode()
    written += b" " * (-len(written) % 8)
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for piece in (len(written).to_bytes(8, "little"), written, *map(_bytes, plain.values())):
            write_all(file, piece)
            digest.update(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def write_all(file: BinaryIO, data: Any) -> None:
    """Write all of `data`."""
    file.write(data)


def hash_of(path: Path) -> str:
    """SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def delete_folder(folder: Path) -> None:
    """Delete a folder; a crash leaves it whole or out of the way."""
    if folder.is_dir():
        gone = folder.with_name(f".gone-{folder.name}")
        shutil.rmtree(gone, ignore_errors=True)
        folder.rename(gone)
        shutil.rmtree(gone)


@contextmanager
def full_disk_stops(folder: Path, what: str) -> Iterator[None]:
    """Turn a full disk into one message."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise RunFailed(
            f"the disk of '{folder}' is full: {what} could not be written; what was saved before is intact. "
            "Free some space, then go on with resume (--resume)"
        ) from error


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    fresh = path.with_name(f".{path.name}.new")
    try:
        yield fresh
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    fresh.replace(path)
    flush_folder(path.parent)


def _bytes(tensor: Tensor) -> memoryview:
    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())
