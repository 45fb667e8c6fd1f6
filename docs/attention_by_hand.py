"""Attention whose weights are set by hand: the identity, a permutation and a convolution.

`tests/systems/test_attention_facts.py` holds these to what they claim; `draw_attention.py` draws them.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

import everyformer as ef
from everyformer.mixers import Attention


def _without_biases(mixer: Attention) -> Attention:
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.zero_()
    return mixer


def identity(width: int, beta: float = 1e4) -> Attention:
    """W_q = W_k = W_v = W_o = I: orthonormal tokens each find themselves alone."""
    return permutation(torch.eye(width), torch.arange(width), beta)


def permutation(tokens: Tensor, order: Tensor, beta: float = 1e4) -> Attention:
    """W_q = P W_k with P x_i = x_order(i): orthonormal tokens (D, D), each finds the one that `order` names."""
    width = len(tokens)
    mixer = _without_biases(Attention(width, heads=1, scale=beta))
    query, key, value = mixer.qkv.weight.data.split(width)
    query.copy_(tokens[order].T @ tokens)
    for each in (key, value, mixer.output.weight.data):
        each.copy_(torch.eye(width))
    return mixer


def convolution(kernel: Tensor, row: int = 0, beta: float = 1e4) -> Attention:
    """A convolution with `kernel` (D, D, K) or (D, D, K, K): a head for each tap, W_o holds the taps.

    Head m asks for one relative position alone, whatever the tokens: its queries are constant, and only the vector of
    its own distance answers. A picture comes as a line of tokens, `row` in a row; its border must be zeros.
    """
    width, sides = kernel.shape[0], kernel.shape[2:]
    taps = list(itertools.product(*(range(side) for side in sides)))
    distances = [sum((t - s // 2) * step for t, s, step in zip(tap, sides, (row, 1)[-len(sides) :])) for tap in taps]
    head, farthest = max(width, len(taps)), max(distances) + 1
    positions = ef.spec(ef.positions.Relative, farthest=farthest)
    mixer = _without_biases(Attention(width, heads=len(taps), head_width=head, scale=1.0, positions=positions))
    query = mixer.qkv.bias.data[: len(taps) * head].view(len(taps), head)
    value = mixer.qkv.weight.data[-len(taps) * head :].view(len(taps), head, width)
    table = mixer.positions.table.weight.data  # type: ignore[union-attr]
    for m, (tap, distance) in enumerate(zip(taps, distances)):
        query[m, m] = beta
        table[farthest + distance, m] = 1.0
        value[m, :width] = torch.eye(width)
        mixer.output.weight.data[:, m * head : m * head + width] = kernel[(slice(None), slice(None), *tap)]
    return mixer
