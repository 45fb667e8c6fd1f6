"""A raw input for a run as a sample that a page shows: its batch, and names for what is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch

from everyformer.data.vocabulary import BOS, EOS, PAD, SPECIALS, Vocabulary
from everyformer.errors import BadInput, EveryformerError
from everyformer.generation import generate
from everyformer.report.inside import Sample
from everyformer.training import Run


def sample_of(run: Run, given: str, layers: Sequence[int] | None = None) -> Sample:
    """A text, or the file of a picture, a sound or a series, as the run takes it."""
    made = _KINDS.get(run.task.name)
    if made is None:
        raise EveryformerError(
            f"a run of {run.task.name} has no page yet; runs of {', '.join(_KINDS)} have one; of any other model "
            "ef.look(model, batch) makes one"
        )
    sample = made(run, given)
    sample.layers = layers
    sample.title = f"{run.design.name or type(run.model).__name__}: {given if len(given) < 60 else given[:57] + '...'}"
    return sample


def _pieces(vocabulary: Vocabulary, ids: Iterable[int]) -> list[str]:
    """Each token as a text of its own."""
    return [SPECIALS[i] if i < vocabulary.specials else vocabulary.decode([i]) for i in ids]


def _name(vocabulary: Vocabulary) -> Callable[[int], str]:
    return lambda i: _pieces(vocabulary, [i])[0]


def _filled(ids: Sequence[int], text: str) -> torch.Tensor:
    if not len(ids):
        raise BadInput(f"nothing to look at in {text!r}; give a text")
    return torch.tensor([list(ids)])


def _classes(run: Any, given: str) -> Sample:
    batch = run.task.prepare([given])
    vocabulary = getattr(run.task, "vocabulary", None)
    words = None if vocabulary is None else _pieces(vocabulary, batch["inputs"][0].tolist())
    return Sample(run.model, batch, words=words, name=lambda i: run.task.classes[i])


def _continued(run: Any, text: str) -> Sample:
    vocabulary = run.task.vocabulary
    ids = _filled(vocabulary.encode(text).tolist(), text)
    most = run.task.options.length
    if ids.shape[1] > most:
        raise BadInput(f"a text of {ids.shape[1]} tokens, and the run was trained on {most}; give a shorter one")
    return Sample(run.model, {"inputs": ids}, words=_pieces(vocabulary, ids[0].tolist()), name=_name(vocabulary))


def _masked(run: Any, text: str) -> Sample:
    vocabulary = run.task.vocabulary
    ids = _filled(run.task.encode(text), text)
    return Sample(run.model, {"inputs": ids}, words=_pieces(vocabulary, ids[0].tolist()), name=_name(vocabulary))


def _translated(run: Any, text: str) -> Sample:
    vocabulary = run.task.vocabulary
    source = _filled(run.task.encode([text])[0], text)
    said = generate(run.model, source, bos=BOS, eos=EOS, pad=PAD, max_tokens=2 * source.shape[1] + 10)[0]
    ids = torch.tensor([[BOS, *said]])
    return Sample(
        run.model, {"inputs": source, "target": ids}, words=_pieces(vocabulary, source[0].tolist()),
        target=_pieces(vocabulary, ids[0].tolist()), generated=torch.tensor(said), name=_name(vocabulary),
    )  # fmt: skip


def _forecast(run: Any, given: str) -> Sample:
    batch, _ = run.task.prepare(given)
    columns = run.task.state["columns"]
    return Sample(run.model, batch, words=columns)


_KINDS: dict[str, Callable[[Any, str], Sample]] = {
    "image-classification": _classes,
    "audio-classification": _classes,
    "text-classification": _classes,
    "language-modelling": _continued,
    "masked-language-modelling": _masked,
    "translation": _translated,
    "forecasting": _forecast,
}
