"""Things that tokens stand for each, and queries that say what those are to each other."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from everyformer.context import Context
from everyformer.contracts import Backbone, Norm
from everyformer.heads.queries import Perceptron, Queries, asked
from everyformer.registry import part
from everyformer.specs import Spec
from everyformer.tokens import Tokens, unpack


@part("heads")
class Interactions(Queries):
    """Each token says a thing, its class (or none) and its box; queries run through `body`, which reads the tokens with what they
    said added as the memory "cells", and each says a relation (or none) and points at its two things (Tu et al., AGER, 2023).

    The answer is (B, N, E) for N queries: the logits of the relations and of none, then for subject and object what the
    tokens pointed at say, by their shares: the logits of the classes and of none and the box (centre x and y, width and
    height as shares). Noted are the `things` (B, K, V + 5), the likeness to the `names` of the classes (B, K, V), a cosine
    over `temperature`, and of every layer of the body the `relations` (L, B, N, R + 1), `subjects` and `objects` (L, B, N, K).

    `names` is a table to be filled with the embeddings of a text encoder, CLIP's in the paper; no gradient changes it.
    """

    needs_grid = False

    def __init__(
        self,
        width: int,
        *,
        classes: int,
        relations: int,
        body: Spec[Backbone],
        norm: Spec[Norm],
        queries: int = 100,
        name_width: int = 512,
        temperature: float = 0.07,
    ) -> None:
        super().__init__(width, body=body, norm=norm, queries=queries)
        self.temperature = temperature
        self.classify = nn.Linear(width, classes + 1)
        self.box = Perceptron(width, width, width, 4)
        self.naming = nn.Linear(width, name_width)
        self.register_buffer("names", torch.randn(classes, name_width))
        self.name_cue = nn.Linear(name_width, width)
        self.box_cue = Perceptron(4, width, width)
        self.gate = nn.Linear(width, 2)
        self.relate = nn.Linear(width, relations + 1)
        self.subject, self.object, self.key = (nn.Linear(width, width) for _ in range(3))

    def forward(self, tokens: Tokens, context: Context | None = None) -> Float[Tensor, "B N E"]:
        """What the queries say at the end."""
        tokens = tokens if tokens.lengths is None else unpack(tokens)
        logits, boxes = self.classify(tokens.values), self.box(tokens.values).sigmoid()
        things = torch.cat((logits, boxes), -1)
        named = self.named(tokens.values)
        known = tokens.update(tokens.values + self.cues(tokens.values, named, boxes))
        layers = self.told(asked(self.body, self.queries, known))
        subjects, objects = (self.pointed(each(layers), known) for each in (self.subject, self.object))
        relations = self.relate(layers)
        if context is not None and context.notes is not None:
            context.notes.update(things=things, names=named, relations=relations, subjects=subjects, objects=objects)
        return torch.cat((relations[-1], *(each[-1].softmax(-1) @ things for each in (subjects, objects))), -1)

    def pointed(self, pointers: Float[Tensor, "L B N D"], tokens: Tokens) -> Float[Tensor, "L B N K"]:
        """The score of every token for each pointer."""
        scores = pointers @ self.key(tokens.values).mT * tokens.width**-0.5
        if tokens.mask is None:
            return scores
        return scores.masked_fill(~tokens.mask[:, None], torch.finfo(scores.dtype).min)

    def cues(
        self, values: Float[Tensor, "B K D"], named: Float[Tensor, "B K V"], boxes: Float[Tensor, "B K 4"]
    ) -> Float[Tensor, "B K D"]:
        """The names that tokens are like and the boxes that they say, each as far as its gate lets it."""
        name, box = self.gate(values).sigmoid().split(1, -1)
        return name * self.name_cue(named.softmax(-1) @ self.names) + box * self.box_cue(boxes)

    def named(self, values: Float[Tensor, "B K D"]) -> Float[Tensor, "B K V"]:
        """How like each token is to the name of each class."""
        return F.normalize(self.naming(values), dim=-1) @ F.normalize(self.names, dim=-1).mT / self.temperature
