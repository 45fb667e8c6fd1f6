"""A text read in windows, each with a vector in front that says what stood in those before."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from everyformer.context import Context
from everyformer.contracts import Backbone, Embedding, FeedForward, Head
from everyformer.designs import Design, design_of
from everyformer.errors import BadInput, DoesNotFit
from everyformer.feedforward import MLP
from everyformer.mixers import Attention, FrontedAttention
from everyformer.mixers.fronted import BEFORE
from everyformer.models.model import Model, enter, run
from everyformer.models.starts import Start, Torch
from everyformer.registry import part
from everyformer.specs import Spec, spec
from everyformer.tokens import Tokens


@part("models")
class WindowRecurrent(Model):
    """A Model of windows of `window` tokens, the memory 'before' of each made by `recurrence` of the mean of the last states
    of the one before (Yoshida et al., Adding Recurrence to Pretrained Transformers, 2020).

    Positions are counted anew in each window, so that a text may be of any length. The gradient goes back through `through`
    windows and stops. Without a `recurrence` each window is read by itself.
    """

    def __init__(
        self,
        *,
        width: int,
        embedding: Spec[Embedding],
        backbone: Spec[Backbone],
        head: Spec[Head],
        window: int = 128,
        through: int = 4,
        recurrence: Spec[FeedForward] | None = spec(MLP, ratio=1.0),  # noqa: B008
        start: Spec[Start] = spec(Torch),  # noqa: B008
    ) -> None:
        super().__init__(width=width, embedding=embedding, backbone=backbone, head=head, start=start)
        if window < 1 or through < 1:
            raise BadInput(
                f"windows have at least 1 token and the gradient at least 1 of them; given {window}, {through}"
            )
        self.window, self.through = window, through
        self.recurrence: FeedForward | None = self.make("recurrence", recurrence, width)
        if self.recurrence is not None:
            self.start(self.recurrence)

    def forward(self, inputs: Tensor, *, context: Context | None = None, **fields: Any) -> Any:
        """The logits after each token."""
        context = context or Context()
        return self.speak(self.features(inputs, context=context, **fields), context)

    def features(self, inputs: Tensor, *, context: Context | None = None, **fields: Any) -> Tokens:
        """The last states of all windows, one after the other."""
        context = context or Context()
        if any(fields.get(name) is not None for name in ("mask", "lengths")):
            raise BadInput("windows are cut of texts of one length; give no padded and no packed ones")
        states: list[Tensor] = []
        memory = dict(context.memory)
        for place, piece in enumerate(inputs.split(self.window, 1)):
            within = context.replace(memory=memory, lowered={})
            tokens = run(self.backbone, enter(self.embedding, piece, within, {}), within)
            states.append(tokens.values)
            if self.recurrence is not None:
                said = tokens.mean() if (place + 1) % self.through else tokens.mean().detach()
                memory = {**context.memory, BEFORE: Tokens(self.recurrence(Tokens(said[:, None]), context))}
        return Tokens(torch.cat(states, 1))


def window_recurrence(
    model: Model, *, window: int, layer: int = 0, seed: int | None = None, **options: Any
) -> WindowRecurrent:
    """A trained decoder that reads windows of `window` tokens and knows of those before, to be tuned as any model.

    The vector stands in front of the attention of one `layer`; the other `options` are those of `WindowRecurrent`. All weights
    but those that make the vector are those of the model.
    """
    design = design_of(model)
    path = f"backbone.blocks.{layer}.mixer"
    mixer = design.get(path)
    if design.spec.part is not Model or mixer.part is not Attention:
        raise DoesNotFit(f"a vector stands in front of Attention in a Model; here is {mixer.name}", path)
    whole = design.swap(path, Spec(FrontedAttention, mixer.options, mixer.maps)).spec
    made: WindowRecurrent = Design(
        Spec(WindowRecurrent, {**whole.options, "window": window, **options}), design.name
    ).build(seed=seed)
    made.load_state_dict(
        model.state_dict() | {k: v for k, v in made.state_dict().items() if k.startswith("recurrence.")}
    )
    return made
