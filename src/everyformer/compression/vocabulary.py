"""Rows of a vocabulary that a language does not use, left out of a model and of its tokenizer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from everyformer.designs import design_of, matches
from everyformer.errors import BadInput, UnknownName
from everyformer.registry import method


@method(
    "idt5",
    title="idT5: Indonesian Version of Multilingual T5 Transformer",
    authors="Fuadi et al.",
    year=2023,
    arxiv="2302.00856",
    idea="Shrink a multilingual model to one language by keeping only the rows of the vocabulary that the language uses.",
)
@torch.no_grad()
def idt5(model: nn.Module, *, kept: Sequence[int], paths: str = "**") -> Any:
    """A copy of the model that knows the tokens `kept` alone: its token i is token kept[i] of before.

    No other weight changes, so that its logits are those of before at the tokens that stay. The parts with a vocabulary at
    `paths` must have one of the same size. See `frequent` for what to keep and `trimmed` for the tokenizer.
    """
    before = design_of(model)
    sizes = {path: spec.options["vocabulary"] for path, spec in before.walk() if "vocabulary" in spec.options}
    chosen = {path: size for path, size in sizes.items() if matches(path, paths)}
    if not chosen:
        raise UnknownName("part with a vocabulary", paths, sizes)
    if len(set(chosen.values())) > 1:
        told = ", ".join(f"{path} {size}" for path, size in chosen.items())
        raise BadInput(f"vocabularies of several sizes ({told}); give the `paths` of one")
    rows = _numbers(kept, next(iter(chosen.values())))
    after = before
    for path in chosen:
        after = after.set(f"{path}.vocabulary", len(rows))
    made, given = after.build(), model.state_dict()
    weights = {
        name: given[name] if given[name].shape == mine.shape else given[name][rows.to(given[name].device)]
        for name, mine in made.state_dict().items()
    }
    weight = next(model.parameters())
    made.to(device=weight.device, dtype=weight.dtype).load_state_dict(weights)
    return made.train(model.training)


def _numbers(kept: Sequence[int], size: int) -> torch.Tensor:
    rows = torch.tensor(list(kept), dtype=torch.long)
    if not len(rows) or int(rows.min()) < 0 or int(rows.max()) >= size or len(rows.unique()) < len(rows):
        raise BadInput(
            f"kept are some of the tokens 0 to {size - 1}, each once; given {len(rows)}: {list(kept)[:8]}..."
        )
    return rows


def frequent(tokenizer: Any, texts: Iterable[str], size: int, always: Iterable[int] = ()) -> list[int]:
    """The tokens of a `tokenizers.Tokenizer` to keep for a language: the most frequent in `texts`, `size` in all, in order.

    Added tokens, those that a text is put between, the unknown one, single characters and `always` stay in any case, so
    that every text of the alphabet can still be written; a pair that byte-pair encoding makes brings what it is made of.
    """
    plain = json.loads(tokenizer.to_str())
    made_of = _pairs(plain["model"])
    kept = {each["id"] for each in plain["added_tokens"]} | {*always, *_special(plain)}
    kept |= {number for piece, number in tokenizer.get_vocab().items() if len(piece.strip("▁Ġ#")) <= 1}
    if len(kept) > size:
        raise BadInput(f"{len(kept)} tokens stay in any case; given size={size}")
    for number, _ in Counter(number for text in texts for number in tokenizer.encode(text).ids).most_common():
        wider = kept | _closure(number, made_of)
        kept = wider if len(wider) <= size else kept
    return sorted(kept)


def _pairs(model: Mapping[str, Any]) -> dict[int, tuple[int, int]]:
    """The two tokens that byte-pair encoding makes each token of; none for other models."""
    known = model["vocab"]
    pairs = [each if isinstance(each, list) else each.split(" ") for each in model.get("merges", [])]
    return {known[one + other]: (known[one], known[other]) for one, other in pairs}


def _closure(number: int, made_of: Mapping[int, tuple[int, int]]) -> set[int]:
    """A token and those that it is made of."""
    return {number}.union(*(_closure(each, made_of) for each in made_of.get(number, ())))


def trimmed(tokenizer: Any, kept: Sequence[int]) -> Any:
    """The tokenizer that knows the tokens `kept` alone, numbered as they stand there.

    Scores stay, so that a text is cut as before where nothing of it is gone; what is gone is written with what is left.
    """
    from tokenizers import Tokenizer

    plain = json.loads(tokenizer.to_str())
    numbers = {old: new for new, old in enumerate(kept)}
    lost = sorted(set(_special(plain)) - set(numbers))
    if lost:
        raise BadInput(f"the special token {tokenizer.id_to_token(lost[0])!r} ({lost[0]}) must stay; add it to `kept`")
    plain["added_tokens"] = [
        {**each, "id": numbers[each["id"]]} for each in plain["added_tokens"] if each["id"] in numbers
    ]
    model = plain["model"]
    if model["type"] == "Unigram":
        model["vocab"] = [model["vocab"][old] for old in kept if old < len(model["vocab"])]
        model["unk_id"] = None if model["unk_id"] is None else numbers[model["unk_id"]]
    else:
        model["vocab"] = {piece: numbers[old] for piece, old in model["vocab"].items() if old in numbers}
    if model["type"] == "BPE":
        model["merges"] = [pair for pair in model["merges"] if _whole(pair, model["vocab"])]
    plain["post_processor"] = _renumbered(plain["post_processor"], numbers)
    return Tokenizer.from_str(json.dumps(plain))


def _whole(pair: Any, vocabulary: Mapping[str, int]) -> bool:
    one, other = pair if isinstance(pair, list) else pair.split(" ")
    return {one, other, one + other} <= set(vocabulary)


def _special(plain: Mapping[str, Any]) -> list[int]:
    """The tokens that a text is put between, and the unknown one."""
    found: list[int] = []
    _renumbered(plain["post_processor"], _Listed(found))
    model = plain["model"]
    unknown = model.get("unk_id") if model["type"] == "Unigram" else model["vocab"].get(model.get("unk_token"))
    return found if unknown is None else [*found, unknown]


class _Listed(dict[int, int]):
    """Numbers as they are, written down when they are asked for."""

    def __init__(self, found: list[int]) -> None:
        super().__init__()
        self.found = found

    def __missing__(self, number: int) -> int:
        self.found.append(number)
        return number


def _renumbered(post: Any, numbers: Mapping[int, int]) -> Any:
    """A post-processor with other numbers for its tokens: 'ids' in a template, (token, number) as BERT's has them."""
    if isinstance(post, list):
        if len(post) == 2 and isinstance(post[0], str) and isinstance(post[1], int):
            return [post[0], numbers[post[1]]]
        return [_renumbered(each, numbers) for each in post]
    if not isinstance(post, dict):
        return post
    return {
        name: [numbers[each] for each in value] if name == "ids" else _renumbered(value, numbers)
        for name, value in post.items()
    }
