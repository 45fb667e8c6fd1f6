"""Sounds: anything that holds one into a log-mel spectrogram."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from everyformer.errors import BadInput

FLOOR = 1e-5
"""What silence counts as, in energy."""


def decode(value: Any, rate: int, name: str = "") -> Float[np.ndarray, " T"]:
    """A path, bytes, a `datasets` sound, or (samples, rate) as one channel at `rate` samples a second."""
    import soundfile

    if isinstance(value, tuple):
        samples, found = np.asarray(value[0], dtype=np.float32), int(value[1])
    else:
        if isinstance(value, Mapping):
            value = value["bytes"] if value.get("bytes") is not None else value["path"]
        if isinstance(value, (str, Path)) and not Path(value).is_file():
            raise BadInput(f"no sound at '{value}'; give the path of a sound file")
        try:
            source = io.BytesIO(value) if isinstance(value, bytes) else str(value)
            samples, found = soundfile.read(source, dtype="float32")
        except (soundfile.SoundFileError, TypeError, ValueError) as error:
            shown = name or (f"'{value}'" if isinstance(value, (str, Path)) else "sound")
            raise BadInput(f"{shown} is no sound that can be read: {error}; repair or remove it") from None
    if samples.ndim == 2:
        samples = samples.mean(1)
    if not len(samples):
        raise BadInput(f"{name or 'a sound'} holds no samples; repair or remove it")
    return resample(samples, found, rate)


def resample(samples: np.ndarray, found: int, wanted: int) -> Float[np.ndarray, " T"]:
    """The same sound at another number of samples a second."""
    if found == wanted:
        return samples
    from scipy.signal import resample_poly

    shared = math.gcd(found, wanted)
    return resample_poly(samples, wanted // shared, found // shared).astype(np.float32)


def mel_filters(mels: int, bins: int, rate: int, low: float = 20.0) -> Float[Tensor, "F bins"]:
    """Triangles evenly apart on the mel scale 2595 log10(1 + f / 700) (O'Shaughnessy, 1987), from `low` Hz to rate / 2."""
    first, last = (2595 * math.log10(1 + hertz / 700) for hertz in (low, rate / 2))
    hertz = 700 * (10 ** (torch.linspace(first, last, mels + 2, dtype=torch.float64) / 2595) - 1)
    given = torch.linspace(0, rate / 2, bins, dtype=torch.float64)
    return triangles(hertz, given).float()


def triangles(edges: Float[Tensor, " edges"], given: Float[Tensor, " bins"]) -> Float[Tensor, "F bins"]:
    """How much of each place a band has that rises from one edge to the next and falls to the one after."""
    rise = (given - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - given) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rise, fall).clamp(min=0)


def log_mel(
    samples: Float[np.ndarray, " T"], filters: Float[Tensor, "F bins"], window: int, hop: int
) -> Float[Tensor, "frames F"]:
    """Log energy of each mel band in each frame, of the sound at its loudest 1."""
    sound = torch.from_numpy(np.ascontiguousarray(samples))
    sound = sound / sound.abs().max().clamp(min=1e-6)
    size = 2 * (filters.shape[1] - 1)
    sound = F.pad(sound, (0, max(0, size - len(sound))))
    spectrum = torch.stft(sound, size, hop, window, torch.hann_window(window), return_complex=True)
    return (filters @ spectrum.abs() ** 2 + FLOOR).log().T


def fit(spectrogram: Float[Tensor, "frames F"], frames: int, silence: float) -> Float[Tensor, "frames F"]:
    """Exactly so many frames: the middle ones, or all with silence on both sides."""
    over = len(spectrogram) - frames
    if over >= 0:
        return spectrogram[over // 2 : over // 2 + frames]
    return F.pad(spectrogram, (0, 0, -over // 2, -over - (-over // 2)), value=silence)
