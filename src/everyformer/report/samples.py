"""A raw input for a run as a sample that a page shows: its batch, and names for what is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from everyformer.data.tasks.objects import called
from everyformer.data.vocabulary import SPECIALS, Vocabulary
from everyformer.errors import BadInput, EveryformerError
from everyformer.generation import generate
from everyformer.heads import TokenHead
from everyformer.interop.checkpoint import Checkpoint
from everyformer.models import Seq2Seq
from everyformer.report.inside import Sample
from everyformer.training import Run


def opened(path: str | Path) -> Run | Checkpoint:
    """The run in a folder, or the checkpoint in the Hugging Face format there or under an id."""
    return Run.open(path) if (Path(path) / "recipe.yaml").is_file() else Checkpoint.open(path)


def sample_of(run: Run | Checkpoint, given: str, layers: Sequence[int] | None = None) -> Sample:
    """A text, or the file of a picture, a sound or a series, as the run takes it."""
    if isinstance(run, Checkpoint):
        sample = _of_checkpoint(run, given)
    elif run.task.name in _KINDS:
        sample = _KINDS[run.task.name](run, given)
    else:
        raise EveryformerError(
            f"a run of {run.task.name} has no page yet; runs of {', '.join(_KINDS)} have one; of any other model "
            "ef.look(model, batch) makes one"
        )
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


def _of_checkpoint(checkpoint: Checkpoint, text: str) -> Sample:
    if checkpoint.tokenizer is None:
        raise BadInput(f"'{checkpoint.folder}' has no tokenizer.json; ef.look(model, batch) makes a page of any batch")
    model, tokenizer = checkpoint.model, checkpoint.tokenizer

    def name(i: int) -> str:
        return tokenizer.decode([i], skip_special_tokens=False)

    ids = _filled(checkpoint.encode([text])[0], text)
    words = [name(i) for i in ids[0].tolist()]
    if not isinstance(model, Seq2Seq):
        named = name if isinstance(model.head, TokenHead) else str
        return Sample(model, {"inputs": ids}, words=words, name=named)
    begin, ends, pad = (checkpoint.ids[which] for which in ("start", "eos", "pad"))
    said = generate(model, ids, bos=begin, eos=ends, pad=pad or 0, max_tokens=2 * ids.shape[1] + 10)[0]
    target = torch.tensor([[begin, *said]])
    return Sample(
        model, {"inputs": ids, "target": target}, words=words, target=[name(i) for i in target[0].tolist()],
        generated=torch.tensor(said), name=name,
    )  # fmt: skip


def _classes(run: Any, given: str) -> Sample:
    batch = run.task.prepare([given])
    vocabulary = getattr(run.task, "vocabulary", None)
    words = None if vocabulary is None else _pieces(vocabulary, batch["inputs"][0].tolist())
    return Sample(run.model, batch, words=words, name=lambda i: run.task.classes[i])


def _things(run: Any, given: str) -> Sample:
    names = [*run.task.classes, "nothing"]
    return Sample(run.model, run.task.prepare([given]), name=names.__getitem__)


def _mapped(name: Callable[[int], str]) -> Callable[[Any, str], Sample]:
    return lambda run, given: Sample(run.model, run.task.prepare([given]), name=name)


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
    ends = {"bos": vocabulary.begin, "eos": vocabulary.end, "pad": vocabulary.pad}
    said = generate(run.model, source, **ends, max_tokens=2 * source.shape[1] + 10)[0]
    ids = torch.tensor([[vocabulary.begin, *said]])
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
    "segmentation": _classes,
    "depth": _mapped(lambda _: "the mean distance"),
    "anomaly-detection": _mapped(lambda _: "the mean score"),
    "object-discovery": _mapped(called),
    "detection": _things,
    "text-classification": _classes,
    "language-modelling": _continued,
    "masked-language-modelling": _masked,
    "translation": _translated,
    "forecasting": _forecast,
}
