"""How a checkpoint wants its sounds, from preprocessor_config.json."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from everyformer.errors import BadInput, UnknownName
from everyformer.interop.pictures import FILE
from everyformer.jsons import read_json

Sounds = Callable[[Sequence[Any]], Tensor]
"""Files, bytes or (samples, rate) into a batch."""


def sounds_of(folder: Path) -> Sounds | None:
    """What the file in a folder says; None where there is none, or it does not speak of sound."""
    said = read_json(folder / FILE) if (folder / FILE).is_file() else {}
    if "sampling_rate" not in said:
        return None
    named = str(said.get("feature_extractor_type"))
    if named not in _KINDS:
        raise UnknownName(f"way to read sounds in {FILE}", named, _KINDS)
    read = _KINDS[named](said)

    def batch(sounds: Sequence[Any]) -> Tensor:
        from everyformer.data.sounds import decode

        samples = [decode(each, int(said["sampling_rate"])) for each in sounds]
        found = [read(torch.from_numpy(each).double()).float() for each in samples]
        if len({each.shape for each in found}) > 1:
            raise BadInput("sounds of several lengths, and the checkpoint brings them to none; give them one by one")
        return torch.stack(found)

    return batch


def fbank(said: Mapping[str, Any]) -> Callable[[Tensor], Float[Tensor, "T F"]]:
    """Log energies as Kaldi's (Povey et al., 2011) of 25 ms every 10 ms, cut or filled up to one length, as AST reads them."""
    from everyformer.data.sounds import triangles

    rate, mels, frames = said["sampling_rate"], said["num_mel_bins"], said["max_length"]
    size = 512
    scale = 1127 * torch.log1p(torch.linspace(0, rate / 2, size // 2 + 1, dtype=torch.float64) / 700)
    edges = torch.linspace(float(1127 * math.log1p(20 / 700)), float(scale[-1]), mels + 2, dtype=torch.float64)
    filters = triangles(edges, scale)
    window = torch.hann_window(400, periodic=False, dtype=torch.float64)

    def read(samples: Tensor) -> Tensor:
        pieces = F.pad(samples, (0, max(0, 400 - len(samples)))).unfold(0, 400, 160)
        pieces = pieces - pieces.mean(1, keepdim=True)
        pieces = pieces - 0.97 * torch.cat((pieces[:, :1], pieces[:, :-1]), 1)
        energy = torch.fft.rfft(pieces * window, size).abs() ** 2 @ filters.T
        found = energy.clamp(min=torch.finfo(torch.float32).eps).log()[:frames]
        found = F.pad(found, (0, 0, 0, frames - len(found)))
        return (found - said["mean"]) / (2 * said["std"]) if said.get("do_normalize", True) else found

    return read


def log_mel(said: Mapping[str, Any]) -> Callable[[Tensor], Float[Tensor, "T F"]]:
    """Log energies of the sound cut or filled up to one length, within 8 powers of ten of the loudest (Whisper, 2.2)."""
    from everyformer.data.sounds import triangles

    rate, size, hop = said["sampling_rate"], said["n_fft"], said["hop_length"]
    length = int(said["chunk_length"] * rate)
    given = torch.linspace(0, rate / 2, size // 2 + 1, dtype=torch.float64)
    top = float(_slaney(torch.tensor(rate / 2, dtype=torch.float64)))
    edges = _hertz(torch.linspace(0, top, said["feature_size"] + 2, dtype=torch.float64))
    filters = triangles(edges, given) * (2 / (edges[2:] - edges[:-2]))[:, None]
    window = torch.hann_window(size, dtype=torch.float64)

    def read(samples: Tensor) -> Tensor:
        sound = F.pad(samples[:length], (0, max(0, length - len(samples))))
        spectrum = torch.stft(sound, size, hop, window=window, return_complex=True)[:, :-1]
        found = (filters @ spectrum.abs() ** 2).clamp(min=1e-10).log10()
        return ((found.maximum(found.max() - 8) + 4) / 4).T

    return read


def waves(said: Mapping[str, Any]) -> Callable[[Tensor], Float[Tensor, " T"]]:
    """The samples themselves, of mean 0 and variance 1 where the file says so (wav2vec 2.0)."""

    def read(samples: Tensor) -> Tensor:
        spread = (samples.var(correction=0) + 1e-7).sqrt()
        return (samples - samples.mean()) / spread if said.get("do_normalize", True) else samples

    return read


_STEP = math.log(6.4) / 27
"""Of Slaney's scale (Auditory Toolbox, 1998), which is linear up to 1000 Hz."""


def _slaney(hertz: Tensor) -> Tensor:
    return torch.where(hertz < 1000, 3 * hertz / 200, 15 + (hertz / 1000).clamp(min=1).log() / _STEP)


def _hertz(mels: Tensor) -> Tensor:
    return torch.where(mels < 15, 200 * mels / 3, 1000 * (_STEP * (mels - 15)).exp())


_KINDS: dict[str, Callable[[Mapping[str, Any]], Callable[[Tensor], Tensor]]] = {
    "ASTFeatureExtractor": fbank,
    "WhisperFeatureExtractor": log_mel,
    "Wav2Vec2FeatureExtractor": waves,
}
