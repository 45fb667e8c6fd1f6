"""Contrastive search: probable tokens whose states are unlike those before."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from everyformer.errors import BadInput, DoesNotFit
from everyformer.generation.decoding import Decoding
from everyformer.generation.stops import Ends
from everyformer.generation.strategies import Hypothesis, Strategy, Stream, unfinished
from everyformer.registry import method, part


@part("generation")
class Contrastive(Strategy):
    """Of the `top_k` most probable tokens the best by (1 - alpha) p - alpha s (Su et al., 2022, equation 5).

    s is the largest cosine between the state of the token, before the head, and those of all before it. `penalty` is alpha:
    0, like a `top_k` of 1, is `Greedy`.
    """

    def __init__(self, *, top_k: int = 4, penalty: float = 0.6) -> None:
        super().__init__()
        if top_k < 1 or not 0 <= penalty <= 1:
            raise BadInput(f"top_k {top_k} is at least 1 and penalty {penalty} between 0 and 1")
        self.top_k, self.penalty = top_k, penalty

    def forward(
        self, decoding: Decoding, ends: Ends, max_tokens: int, stream: Stream | None = None
    ) -> list[list[Hypothesis]]:
        """One hypothesis for each sequence."""
        if decoding.held:
            raise DoesNotFit(
                "contrastive search compares with the states of all tokens, and those of a prefix are not kept; "
                "put it before the prompts instead",
                "prefix",
            )
        rows = list(range(len(decoding.ids)))
        found: list[list[int]] = [[] for _ in rows]
        logits = decoding.start()
        states = decoding.states.values
        for _ in range(max_tokens):
            tokens, logits, states = self.choose(decoding, logits, states)
            going = unfinished(tokens, rows, found, ends, stream)
            if not going:
                break
            if len(going) < len(rows):
                kept = torch.tensor(going, device=tokens.device)
                decoding.select(kept)
                rows, logits, states = [rows[i] for i in going], logits[kept], states[kept]
        return [[Hypothesis(tokens)] for tokens in found]

    def choose(
        self, decoding: Decoding, logits: Float[Tensor, "B V"], states: Float[Tensor, "B N D"]
    ) -> tuple[Int[Tensor, " B"], Float[Tensor, "B V"], Float[Tensor, "B M D"]]:
        """The next token of each sequence, the logits after it, and the states with its own."""
        batch, real = len(logits), decoding.mask
        probable, tokens = logits.softmax(-1).topk(min(self.top_k, logits.shape[-1]))
        count = tokens.shape[1]
        decoding.select(torch.arange(batch, device=tokens.device).repeat_interleave(count))
        logits = decoding.step(tokens.flatten()).unflatten(0, (batch, count))
        coming = decoding.states.values[:, -1].unflatten(0, (batch, count))
        score = (1 - self.penalty) * probable - self.penalty * likeness(coming, states, real)
        best, each = score.argmax(-1), torch.arange(batch, device=tokens.device)
        decoding.select(each * count + best)
        return tokens[each, best], logits[each, best], torch.cat((states, coming[each, best][:, None]), 1)


def likeness(
    coming: Float[Tensor, "B k D"], states: Float[Tensor, "B N D"], real: Bool[Tensor, "B N"] | None
) -> Float[Tensor, "B k"]:
    """The largest cosine of each with those before it, padding apart."""
    cosines = F.normalize(coming.float(), dim=-1) @ F.normalize(states.float(), dim=-1).mT
    return (cosines if real is None else cosines.masked_fill(~real[:, None], -1.0)).amax(-1)


@method(
    "contrastive-search",
    title="A Contrastive Framework for Neural Text Generation",
    authors="Su et al.",
    year=2022,
    arxiv="2202.06417",
    idea="A probable token, but one whose state is unlike all states before it: text that does not repeat itself.",
)
def contrastive_search(*, top_k: int = 4, penalty: float = 0.6) -> Contrastive:
    """The strategy, for `generate(model, ..., strategy=contrastive_search())`: see `Contrastive`."""
    return Contrastive(top_k=top_k, penalty=penalty)
