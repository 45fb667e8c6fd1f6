"""Text into words and marks, as translations are scored in papers that report tokenized BLEU."""

from __future__ import annotations

import re

_SIGNS = str.maketrans({
    "“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "‘": "'", "’": "'", "´": "'", "`": "'", "–": "-", "—": "-",
    "…": "...",
})  # fmt: skip


def words(text: str, language: str = "") -> str:
    """A line with a space between words and marks, after Moses (Koehn et al., 2007): signs made plain, marks set apart.

    Commas in numbers, dots inside words and German ordinals stay; English "'s" stays together, as Moses writes it.
    """
    text = text.translate(_SIGNS)
    text = re.sub(r"[^\w\s.',\-]|_", r" \g<0> ", text)
    text = re.sub(r"\.{2,}", r" \g<0> ", text)
    text = re.sub(r"(?<!\d),|,(?!\d)", " , ", text)
    if language == "en":
        text = re.sub(r"(?<=[^\W\d])'(?=[^\W\d])", " \0", text).replace("'", " ' ").replace("\0", "'")
        text = re.sub(r"(?<=[^\s.])\.(?=[\s\"]*$)", " .", text)
    else:
        text = text.replace("'", " ' ")
        if not re.search(r"(?:^|\s)(?:\d{1,2}|\w)\.\s*$", text):
            text = re.sub(r"(?<=[^\s.])\.\s*$", " .", text)
    return " ".join(text.split())
