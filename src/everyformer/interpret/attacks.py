"""Pictures changed a little so that what a model sees in them is another."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.errors import BadInput
from everyformer.registry import method

Encode = Callable[[Float[Tensor, "B C H W"]], Tensor]
"""What a model makes of pictures before it writes: one vector, or several, for each."""


@method(
    "gray-box-captioning-attack",
    title="I See Dead People: Gray-Box Adversarial Attack on Image-To-Text Models",
    authors="Lapid and Sipper",
    year=2023,
    arxiv="2306.07591",
    idea="A small change of a picture moves what the encoder says of it, and with that the text, by a decoder never asked.",
)
def gray_box(
    encode: Encode,
    pictures: Float[Tensor, "B C H W"],
    *,
    epsilon: float,
    target: Float[Tensor, "B C H W"] | None = None,
    weight: float = 0.1,
    steps: int = 1000,
    lr: float = 0.01,
    between: tuple[float, float] = (0.0, 1.0),
    generator: torch.Generator | None = None,
) -> Float[Tensor, "B C H W"]:
    """Pictures within `epsilon` of those given, in every value, and within `between`, of which `encode` says something else:
    Adam on the cosine of what is said of both and `weight` times the Euclidean length of the change, cut to `epsilon` after
    each step. With `target` pictures the cosine with what is said of those grows instead.

    The change begins as noise as large as it may be, because at no change at all the cosine has no gradient.
    """
    low, high = between
    if epsilon < 0 or not low < high:
        raise BadInput(
            f"a change is of 0 or more, between a lower and a higher value; given {epsilon}, {low} and {high}"
        )
    if pictures.amin() < low or pictures.amax() > high:
        raise BadInput(
            f"pictures with values of {pictures.amin():.3g} to {pictures.amax():.3g}, where {low:g} to {high:g} are "
            "allowed; give what their values lie between as between=(low, high)"
        )
    if target is not None and target.shape != pictures.shape:
        raise BadInput(f"{tuple(target.shape)} pictures to be taken for, of {tuple(pictures.shape)}; give one for each")
    with torch.no_grad():
        wanted = encode(pictures if target is None else target).flatten(1)
    sign = 1.0 if target is None else -1.0
    change = (torch.rand(pictures.shape, generator=generator) * 2 - 1).to(pictures) * epsilon
    change.requires_grad_()
    optimizer = torch.optim.Adam([change], lr=lr)
    for _ in range(steps):
        with torch.enable_grad():
            said = encode((pictures + change).clamp(low, high)).flatten(1)
            alike = torch.cosine_similarity(said, wanted, dim=1)
            loss = (sign * alike + weight * change.flatten(1).norm(dim=1)).sum()
        (change.grad,) = torch.autograd.grad(loss, [change])
        optimizer.step()
        with torch.no_grad():
            change.clamp_(-epsilon, epsilon)
    return (pictures + change.detach()).clamp(low, high)
