"""The largest memory in use over a stretch of time."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from pathlib import Path

import torch

_STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class Peak:
    """Bytes: what the GPU's tensors took at most since this was made, or else the resident size of this process.

    Linux can forget an older peak; elsewhere the peak is that since the process began.
    """

    def __init__(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        elif sys.platform == "linux":
            _REFERENCES.write_text("5")

    def so_far(self) -> int:
        """The peak until now."""
        if torch.cuda.is_available():
            return torch.cuda.max_memory_allocated()
        if sys.platform == "linux":
            found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())
            assert found is not None
            return int(found.group(1)) * 1024
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def give_back() -> None:
    """Return what is free to the system, so that one training's leavings are not counted as the next one's."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
