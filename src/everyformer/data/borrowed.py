"""The tokenizer of a checkpoint, from tokenizer.json or from BERT's vocab.txt, and the vocabulary that it is."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from everyformer.data.vocabulary import FILE, Vocabulary
from everyformer.errors import BadInput
from everyformer.jsons import read_json

_MASKS = ("[MASK]", "<mask>")
"""What the token is called that stands where one is missing."""
_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id")
IDS_FILE = "generation_config.json"
"""Where the ids of special tokens stand, beside config.json or alone."""


class Borrowed(Vocabulary):
    """The tokenizer of a checkpoint, with the special tokens that it puts around a text."""

    kind = "borrowed"
    specials = 0

    def __init__(self, tokenizer: Any, ids: Mapping[str, Any] | None = None) -> None:
        self.tokenizer, self._ids = tokenizer, dict(ids or {})
        self.size = tokenizer.get_vocab_size()
        probe = tokenizer.encode("a")
        special = probe.special_tokens_mask
        first = special.index(0) if 0 in special else len(special)
        last = len(special) - special[::-1].index(0) if 0 in special else len(special)
        self.opening, self.closing = tuple(probe.ids[:first]), tuple(probe.ids[last:])
        self.mask = next((i for name in _MASKS if (i := tokenizer.token_to_id(name)) is not None), None)

    @property
    def special_ids(self) -> dict[str, Any]:
        """What the checkpoint says."""
        return self._ids

    @property
    def pad(self) -> int:
        """The first id, where the checkpoint names none: what a mask hides may be anything."""
        return self._ids.get("pad_token_id", 0)

    @property
    def begin(self) -> int:
        """What its decoder starts with."""
        return self._asked("decoder_start_token_id")

    @property
    def end(self) -> int:
        """What ends a text."""
        return self._asked("eos_token_id")

    def _asked(self, name: str) -> int:
        if name not in self._ids:
            raise BadInput(f"the checkpoint has no {name} in config.json or {IDS_FILE}; add it there to have it write")
        found = self._ids[name]
        return found[0] if isinstance(found, list) else found

    @classmethod
    def open(cls, folder: Path) -> Borrowed:
        """The one in a folder."""
        found = tokenizer_in(folder)
        if found is None:
            raise BadInput(f"'{folder}' has no {FILE} and no vocab.txt; give data.tokenizer=FOLDER, one that has")
        return cls(found, special_ids(folder))

    def sentences(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Ids of each text with what the tokenizer puts around it, the end last."""
        found = [np.array(each.ids, dtype=np.int64) for each in self.tokenizer.encode_batch(list(texts))]
        return [ids if len(ids) and ids[-1] == self.end else np.append(ids, self.end) for ids in found]

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
        """Write `tokenizer.json` and the ids of special tokens as `tokenizers` and transformers read them."""
        self.tokenizer.save(str(folder / FILE))
        (folder / IDS_FILE).write_text(json.dumps(self._ids))


def special_ids(folder: Path) -> dict[str, Any]:
    """The ids of special tokens that a folder says; what ends a text may be several."""
    said: dict[str, Any] = {}
    for path in (folder / "config.json", folder / IDS_FILE):
        if path.is_file():
            said |= {name: value for name, value in read_json(path).items() if name in _IDS and value is not None}
    return said


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
