"""Sounds: decoding, resampling, log-mel spectrograms against the equations, and what is refused."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from everyformer.data import find_task
from everyformer.data.sounds import FLOOR, decode, fit, log_mel, mel_filters
from everyformer.errors import BadInput, EveryformerError
from support.tiny_data import TINY, sounds

AUDIO = find_task("audio-classification")


def tone(hertz: float, rate: int, seconds: float = 0.5) -> np.ndarray:
    return np.sin(2 * math.pi * hertz * np.arange(int(rate * seconds)) / rate).astype(np.float32)


def test_a_log_mel_spectrogram_is_the_equation() -> None:
    samples = np.random.default_rng(0).normal(size=900).astype(np.float32)
    filters = mel_filters(10, 65, 8000)
    found = log_mel(samples, filters, window=100, hop=40)
    scaled = np.pad(samples / np.abs(samples).max(), 64, mode="reflect")
    window = np.pad(0.5 - 0.5 * np.cos(2 * math.pi * np.arange(100) / 100), 14)
    for frame in range(0, len(found), 5):
        piece = scaled[frame * 40 : frame * 40 + 128] * window
        turns = np.exp(-2j * math.pi * np.outer(np.arange(65), np.arange(128)) / 128)
        energy = np.abs(turns @ piece) ** 2
        np.testing.assert_allclose(
            found[frame], np.log(filters.double().numpy() @ energy + FLOOR), rtol=1e-3, atol=1e-3
        )


def test_mel_filters_are_triangles_on_the_mel_scale() -> None:
    mels = 12
    filters = mel_filters(mels, 2001, 8000)

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    step = (mel(4000) - mel(20)) / (mels + 1)
    for band in range(mels):
        peak = float(filters[band].argmax()) * 2.0
        assert mel(peak) == pytest.approx(mel(20) + (band + 1) * step, abs=4)
        assert filters[band].max() == pytest.approx(1, abs=0.05)
    assert filters.min() == 0


def test_a_tone_is_brightest_in_its_band() -> None:
    filters = mel_filters(20, 129, 8000)
    bands = [int(log_mel(tone(h, 8000), filters, 200, 80).mean(0).argmax()) for h in (200, 800, 2000, 3500)]
    assert bands == sorted(set(bands))
    for hertz, band in zip((200, 800, 2000, 3500), bands):
        assert filters[band, round(hertz / 4000 * 128)] > 0.3


def test_resampling_keeps_the_tone(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([tone(440, 22050)] * 2, 1), 22050)
    samples = decode(path, 8000)
    assert len(samples) == 4000
    peak = np.abs(np.fft.rfft(samples)).argmax() * 8000 / len(samples)
    assert peak == pytest.approx(440, abs=2)
    np.testing.assert_array_equal(decode(path.read_bytes(), 8000), samples)
    np.testing.assert_array_equal(decode({"bytes": None, "path": str(path)}, 8000), samples)
    np.testing.assert_array_equal(decode((tone(440, 8000), 8000), 8000), tone(440, 8000))


def test_spectrograms_are_brought_to_a_length() -> None:
    given = torch.arange(10.0)[:, None].expand(10, 2)
    assert fit(given, 4, -1.0)[:, 0].tolist() == [3, 4, 5, 6]
    assert fit(given[:3], 6, -1.0)[:, 0].tolist() == [-1, 0, 1, 2, -1, -1]
    assert torch.equal(fit(given, 10, -1.0), given)


def test_training_sounds_are_moved_and_masked(tmp_path: Path) -> None:
    path = str(sounds(tmp_path))
    plain = AUDIO.open(path=path, rate=4000, mels=16, frames=24)
    moved = AUDIO.open(path=path, rate=4000, mels=16, frames=24, shift=3)
    rows = list(range(plain.size("train")))
    before, after = (t.batch("train", rows, train=True, seed=2)["inputs"] for t in (plain, moved))
    offsets = set()
    for a, b in zip(before, after):
        wide = torch.cat((torch.full((3, 16), moved.silence), a, torch.full((3, 16), moved.silence)))
        found = [k for k in range(7) if torch.allclose(wide[6 - k : 6 - k + 24], b)]
        assert found
        offsets.add(found[0])
    assert len(offsets) > 2
    masked = AUDIO.open(path=path, rate=4000, mels=16, frames=24, mask_mels=4, mask_frames=5)
    hidden = masked.batch("train", rows, train=True, seed=2)["inputs"] == 0
    frames, mels = hidden.all(2).sum(1), hidden.all(1).sum(1)
    assert frames.max() <= 5
    assert mels.max() <= 4
    assert frames.max() > 0
    assert mels.max() > 0


def test_broken_and_missing_sounds_are_named(tmp_path: Path) -> None:
    sounds(tmp_path)
    (tmp_path / "train" / "low" / "2.wav").write_bytes(b"RIFFnothing")
    options = {"path": str(tmp_path), "rate": 4000, "mels": 16, "frames": 24, "fractions": [1.0, 0.0, 0.0]}
    with pytest.raises(BadInput, match=r"2.wav' is no sound .* or set data.broken=skip \(row 8 of 12\)"):
        AUDIO.open(**options)
    assert AUDIO.open(**options, broken="skip").size("train") == 11
    with pytest.raises(BadInput, match=r"no sound at 'nowhere.wav'"):
        decode("nowhere.wav", 8000)
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(0, np.float32), 8000, format="WAV")
    with pytest.raises(BadInput, match="holds no samples"):
        decode(stream.getvalue(), 8000)
    with pytest.raises(EveryformerError, match=r"data.mels=400 bands are finer than a window of 25 ms at 4000 Hz"):
        AUDIO.open(**{**options, "mels": 400})


def test_the_hash_is_that_of_the_sounds(tmp_path: Path) -> None:
    tiny = TINY["audio-classification"](tmp_path / "a")
    other = AUDIO.open(path=str(tmp_path / "a"), rate=4000, mels=16, frames=24, hop=8.0)
    assert tiny.task.evaluate(tiny.model, "test").hash == other.evaluate(tiny.model, "test").hash
