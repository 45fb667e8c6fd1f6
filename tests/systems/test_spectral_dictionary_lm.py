"""`spectral-dictionary-lm`: the sum of atoms a wave at a time, and what its losses are made of."""

import math

import pytest
import torch
from sklearn.mixture import GaussianMixture

import everyformer as ef
from everyformer.auxiliary import listening
from everyformer.mixers import SpectralDictionary
from everyformer.mixers.dictionary import Mixture
from support.agreement import perturb, same_as_function
from support.parity import ids
from support.parts import close, tokens


def literal(p, x):
    """One layer, a token, an atom and a channel at a time; polynomials of degree 1 over a length of 8."""
    rows = []
    name = "backbone.blocks.0.mixer"
    for text in x:
        values = torch.stack([p["embedding.table.weight"][i] for i in text.tolist()])
        width, found = values.shape[1], []
        padded = torch.cat((torch.zeros(2, width), values))
        for t in range(len(values)):
            c = p[f"{name}.coefficients.weight"] @ padded[t : t + 3].flatten() + p[f"{name}.coefficients.bias"]
            a, f, s = (p[f"{name}.{n}"][0] + p[f"{name}.{n}"][1] * t / 8 for n in ("amplitude", "frequency", "phase"))
            waves = torch.stack([a[k] * torch.sin(2 * math.pi * f[k] * t / 8 + s[k]) for k in range(len(c))])
            found.append((c[:, None] * waves).sum(0))
        rows.append(torch.stack(found))
    made = torch.nn.functional.layer_norm(
        torch.stack(rows), (width,), p["backbone.norm.weight"], p["backbone.norm.bias"]
    )
    return made @ p["embedding.table.weight"].T


def test_equals_the_equation():
    model = ef.create("spectral-dictionary-lm", vocabulary=11, width=6, length=8, atoms=5)
    same_as_function(perturb(model, std=0.3), literal, ids(11, 2, 7))


def test_atoms_of_whole_frequencies_rebuild_everything():
    """cos and sin of the frequencies 0 to T/2 are a basis of T tokens."""
    mixer = SpectralDictionary(1, atoms=16, length=8, order=0)
    with torch.no_grad():
        mixer.amplitude.fill_(1.0)
        mixer.frequency.copy_((torch.arange(16) // 2)[None, :, None])
        mixer.phase.copy_((torch.arange(16) % 2 * math.pi / 2)[None, :, None])
    basis = mixer.atoms(torch.arange(8)[None, :, None])[0, ..., 0].detach()
    signal = torch.randn(8)
    close(basis @ torch.linalg.pinv(basis) @ signal, signal)


def test_losses_are_the_distances_in_time_and_in_magnitude():
    torch.manual_seed(0)
    mixer = SpectralDictionary(4, atoms=3, length=12, window=4, likely=1.0).train()
    whole = tokens(12, 2, width=4)
    with listening(mixer) as heard:
        found = mixer(whole)
    window = torch.hann_window(4)
    apart = [
        torch.stft(x.mT.flatten(0, 1), 4, 1, window=window, center=False, return_complex=True).abs()
        for x in (whole.values, found)
    ]
    close(heard[0], 0.1 * (whole.values - found).square().mean())
    close(heard[1], 0.01 * (apart[0] - apart[1]).abs().mean())
    close(mixer.magnitudes(found), mixer.magnitudes(-found))
    assert len(heard) == 3


def test_the_mixture_is_scikit_learns():
    torch.manual_seed(0)
    x = torch.cat((torch.randn(60, 3) * 0.5 + 2, torch.randn(60, 3) - 1)).double()
    mine = Mixture(3, 2).double()
    mine.means.copy_(x[[0, -1]])
    theirs = GaussianMixture(
        2, covariance_type="diag", means_init=x[[0, -1]].numpy(), tol=1e-9, max_iter=500, reg_covar=1e-6
    )
    theirs.fit(x.numpy())
    mine.fit(x, steps=300)
    close(mine(x), torch.from_numpy(theirs.score_samples(x.numpy())), 1e-3)
    for name, value in (("means", theirs.means_), ("variances", theirs.covariances_), ("shares", theirs.weights_)):
        getattr(mine, name).copy_(torch.from_numpy(value))
    close(mine(x), torch.from_numpy(theirs.score_samples(x.numpy())), 1e-9)


def test_sizes_without_atoms_are_refused():
    with pytest.raises(ValueError, match="atoms, kernel and length are at least 1"):
        SpectralDictionary(4, atoms=0)
