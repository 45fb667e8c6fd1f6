"""The tokenizer of a checkpoint, from tokenizer.json or from BERT's vocab.txt, and the vocabulary that it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from everyformer.data.vocabulary import FILE, Vocabulary
from everyformer.errors import BadInput
from everyformer.jsons import read_json

_MASKS = ("[MASK]", "<mask>")
"""What the token is called that stands where one is missing."""


class Borrowed(Vocabulary):
    """The tokenizer of a checkpoint, with the special tokens that it puts around a text."""

    kind = "borrowed"
    specials = 0

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.size = tokenizer.get_vocab_size()
        probe = tokenizer.encode("a")
        special = probe.special_tokens_mask
        first = special.index(0) if 0 in special else len(special)
        last = len(special) - special[::-1].index(0) if 0 in special else len(special)
        self.opening, self.closing = tuple(probe.ids[:first]), tuple(probe.ids[last:])
        self.mask = next((i for name in _MASKS if (i := tokenizer.token_to_id(name)) is not None), None)

    @classmethod
    def open(cls, folder: Path) -> Borrowed:
        """The one in a folder."""
        found = tokenizer_in(folder)
        if found is None:
            raise BadInput(f"'{folder}' has no {FILE} and no vocab.txt; give data.tokenizer=FOLDER, one that has")
        return cls(found)

    def encode(self, text: str) -> np.ndarray:
        """Ids of the tokens, without those around a text."""
        return np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)

    def encode_all(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of several texts, on all cores."""
        found = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [np.array(each.ids, dtype=np.int64) for each in found]

    def decode(self, ids: Iterable[int]) -> str:
        """Text."""
        text: str = self.tokenizer.decode([int(i) for i in ids], skip_special_tokens=True)
        return text

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` as `tokenizers` and transformers read it."""
        self.tokenizer.save(str(folder / FILE))


def tokenizer_in(folder: Path) -> Any:
    """The tokenizer, without padding and of any length; None where the folder has none."""
    from tokenizers import Tokenizer

    whole, words = folder / "tokenizer.json", folder / "vocab.txt"
    path = whole if whole.is_file() else words
    if not path.is_file():
        return None
    try:
        found = Tokenizer.from_file(str(whole)) if path is whole else _word_pieces(words)
    except Exception as error:
        raise BadInput(f"'{path}' is no tokenizer: {error}") from None
    found.no_padding()
    found.no_truncation()
    return found


def _word_pieces(path: Path) -> Any:
    """WordPiece over a file of one piece a line (Devlin et al., BERT, 2019, official code)."""
    from tokenizers.implementations import BertWordPieceTokenizer

    settings = path.with_name("tokenizer_config.json")
    said = read_json(settings) if settings.is_file() else {}
    return BertWordPieceTokenizer(
        str(path),
        lowercase=said.get("do_lower_case", True),
        strip_accents=said.get("strip_accents"),
        handle_chinese_chars=said.get("tokenize_chinese_chars", True),
    )
