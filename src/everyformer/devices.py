"""What accelerators can do, by their makers' data sheets: dense products, without sparsity."""

from __future__ import annotations

from dataclasses import dataclass

from everyformer.errors import UnknownName

GIB = 2**30


@dataclass(frozen=True)
class Device:
    """One device: floating-point operations a second, bytes of memory, and bytes a second from memory and from others."""

    name: str
    bf16: float
    fp32: float
    memory: float
    bandwidth: float
    link: float
    """What a device takes in from the others of its group."""

    def flops(self, precision: str) -> float:
        """Operations a second in 'bf16' or 'fp32'."""
        return self.bf16 if precision == "bf16" else self.fp32


DEVICES = {
    each.name: each
    for each in (
        Device("a100", 312e12, 19.5e12, 80 * GIB, 2.039e12, 300e9),
        Device("h100", 989e12, 66.9e12, 79.6 * GIB, 3.35e12, 450e9),
        Device("h200", 989e12, 66.9e12, 140.4 * GIB, 4.8e12, 450e9),
        Device("b200", 2250e12, 75e12, 178 * GIB, 8e12, 900e9),
        Device("mi300x", 1307e12, 163.4e12, 192 * GIB, 5.3e12, 448e9),
        Device("l4", 121e12, 30.3e12, 22.5 * GIB, 300e9, 32e9),
        Device("rtx-4090", 165.2e12, 82.6e12, 24 * GIB, 1.008e12, 32e9),
        Device("tpu-v4", 275e12, 275e12, 32 * GIB, 1.2e12, 270e9),  # it has no faster float32 and no slower one
    )
}
"""Devices by name; a TPU v4 as Pope et al. (2022, section 4) give it."""


def find_device(name: str) -> Device:
    """The device of that name."""
    if name not in DEVICES:
        raise UnknownName("device", name, DEVICES)
    return DEVICES[name]
