"""A head of maps beside another library's: both read the same maps, of their own widths, and give the same answers."""

from __future__ import annotations

import torch

from everyformer.context import Context
from everyformer.grids import as_tokens
from everyformer.interop.weights import fill, tensors
from support.agreement import perturb, same_answers, same_gradients


def maps(*widths: int, side: int = 8) -> list[torch.Tensor]:
    """A random map of each width, each half as fine as the one before."""
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(2, width, side >> i, (side + 4) >> i, generator=generator) for i, width in enumerate(widths)]


def answered(head, given):
    """What a head of ours says to the maps, as the levels of a body."""
    levels = {torch.nn.Identity(): as_tokens(each) for each in given}
    return head(list(levels.values())[-1], Context(levels=levels))


def agree(spec, theirs, pairs, given, expected=None):
    """Their weights in ours: the same answers and gradients; theirs is called with a list of maps. Gives our head."""
    perturb(theirs, std=0.1)
    ours = spec.build(tuple(each.shape[1] for each in given)).eval()
    fill(ours, pairs, tensors(theirs))
    answer, wanted = answered(ours, given), (expected or theirs)(given)
    same_answers(answer, wanted)
    weights = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1)) / wanted[0].numel() ** 0.5
    (answer * weights).sum().backward()
    (wanted * weights).sum().backward()
    found = {name: each.grad for name, each in tensors(theirs).items() if each.grad is not None}
    learnt = {name for name, _ in ours.named_parameters()}
    same_gradients(_Learnt(ours), [pair for pair in pairs if any(pair.at(name) for name in learnt)], found)
    return ours


class _Learnt(torch.nn.Module):
    """The parameters of a module under their names, its running figures left out."""

    def __init__(self, module):
        super().__init__()
        self._module = [module]

    def state_dict(self, **_):
        return dict(self._module[0].named_parameters())
