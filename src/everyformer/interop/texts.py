"""The tokenizer of a checkpoint, from tokenizer.json or from BERT's vocab.txt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from everyformer.errors import BadInput
from everyformer.interop.files import read_json


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
