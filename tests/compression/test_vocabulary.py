"""A model and its tokenizer with fewer tokens: what is left says what it said."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import everyformer as ef
from everyformer.compression.vocabulary import frequent, trimmed
from everyformer.costs import on_meta, parameters
from support.agreement import close, perturb

KEPT = [0, 1, 3, 7, 8, 19, 12]
TEXTS = ["the cat sat on the mat", "a cat and a dog", "the dog sat", "el gato se sienta", "un gato y un perro"]


@pytest.mark.parametrize("name", ["t5", "gpt", "llama"])
def test_logits_are_those_of_before_at_the_tokens_that_stay(name: str) -> None:
    """Tied and untied; and the probabilities are those of before among these tokens."""
    shape: dict[str, Any] = {"vocabulary": 20, "width": 16, "depth": 1, "heads": 2}
    shape |= {"hidden": 24, "head_width": 8} if name == "t5" else {"length": 8} if name == "gpt" else {"hidden": 24}
    model: Any = perturb(ef.create(name, seed=0, **shape).eval(), seed=1, std=0.2)
    small = ef.compression.idt5(model, kept=KEPT)
    new = torch.randint(len(KEPT), (2, 6), generator=torch.Generator().manual_seed(0))
    old = torch.tensor(KEPT)[new]
    with torch.no_grad():
        before = model(old, target=old) if name == "t5" else model(old)
        after = small(new, target=new) if name == "t5" else small(new)
    close(after, before[..., KEPT])
    shares = before.softmax(-1)[..., KEPT]
    close(after.softmax(-1), shares / shares.sum(-1, keepdim=True))
    rows = 2 if name == "llama" else 1
    assert parameters(model) - parameters(small) == (20 - len(KEPT)) * 16 * rows


def test_mt5_becomes_as_small_as_the_paper_says() -> None:
    """582 M parameters with 250,112 tokens, 244 M with about 30 thousand: 58 % fewer (abstract)."""
    sizes = [parameters(on_meta(ef.design("t5", "v1.1-base", vocabulary=count))) for count in (250112, 30000)]
    assert sizes[0] == pytest.approx(582e6, rel=0.005)
    assert sizes[1] == pytest.approx(244e6, rel=0.005)


def tokenizer(kind: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    special = ["<pad>", "</s>", "<unk>"]
    words = sorted({f"▁{word}" for text in TEXTS for word in text.split()})
    pieces = [*special, *words, "▁s", "at", "og", "er", *sorted({"▁", *"".join(TEXTS)} - {" "})]
    made = Tokenizer(models.BPE(unk_token="<unk>"))
    if kind == "unigram":
        made = Tokenizer(models.Unigram([(piece, -float(i)) for i, piece in enumerate(pieces)], unk_id=2))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    if kind == "bpe":
        made.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=60, special_tokens=special, show_progress=False))
    made.add_special_tokens(special)
    made.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return made


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_text_of_which_all_is_kept_is_cut_as_before(kind: str) -> None:
    plain = tokenizer(kind)
    english = TEXTS[:3]
    kept = frequent(plain, english, plain.get_vocab_size())
    small = trimmed(plain, kept)
    assert small.get_vocab_size() == len(kept) < plain.get_vocab_size()
    for text in english:
        assert [kept[i] for i in small.encode(text).ids] == plain.encode(text).ids
    for text in TEXTS:
        assert small.decode(small.encode(text).ids) == text, "what is gone is written with what is left"


def test_what_cannot_be_is_told() -> None:
    model = ef.create("gpt", vocabulary=20, width=16, depth=1, heads=2, length=8)
    for kept in ([], [20], [1, 1], [-1]):
        with pytest.raises(ef.BadInput, match="kept are some of the tokens 0 to 19, each once"):
            ef.compression.idt5(model, kept=kept)
    with pytest.raises(ef.UnknownName, match="part with a vocabulary 'backbone'"):
        ef.compression.idt5(model, kept=[1], paths="backbone")
    plain = tokenizer("unigram")
    with pytest.raises(ef.BadInput, match="special token '</s>' \\(1\\) must stay"):
        trimmed(plain, [0, 2, 5])
    with pytest.raises(ef.BadInput, match="tokens stay in any case; given size=3"):
        frequent(plain, TEXTS, 3)
