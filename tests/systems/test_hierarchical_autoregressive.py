"""`hierarchical-autoregressive`: the paper's section 2 word by word, and what the model may know of a word to come."""

import itertools
import math

import pytest
import torch

import everyformer as ef
from everyformer.costs import flops, on_meta
from everyformer.generation import generate
from everyformer.masks import Causal
from everyformer.tokens import Tokens
from support.parity import ids, perturb
from support.parts import close, spec_of, tokens
from support.systems import tiny

MARK = 19
TEXT = torch.tensor([[MARK, 3, 4, MARK, 5, MARK, 6, 7, 8, 9]])


def small(**more):
    return perturb(tiny("hierarchical-autoregressive", **more).build(seed=0))


def by_hand(model, row):
    """The logits after each byte of one text, a word at a time, each body called on one word or on the words before."""
    body, table = model.backbone.blocks[0], model.embedding.table.weight
    starts = [t for t, byte in enumerate(row.tolist()) if byte == MARK or t == 0]
    words = [row[a:b] for a, b in itertools.pairwise([*starts, len(row)])]
    vectors, said = [body.first], []
    for word in words:
        letters = table[word]
        seen = body.inner(Tokens(torch.stack(vectors)[None]), ef.Context(mask=Causal())).values[0, -1]
        given = torch.cat((letters[:1] + body.narrow.weight @ seen, letters[1:]))
        said.append(body.decoder(Tokens(given[None]), ef.Context(mask=Causal())).values[0])
        vectors.append(body.widen.weight @ body.encoder(Tokens(letters[None])).values[0, 0])
    return model.head.project(torch.cat(said))


def test_outputs_and_gradients_are_those_of_the_equations():
    """A text that begins with a mark, and one of which the first word is cut off at the front."""
    model, inputs = small(), torch.cat((TEXT, TEXT.flip(1)))
    found, expected = model(inputs), torch.stack([by_hand(model, row) for row in inputs])
    close(found, expected)
    weights = list(model.parameters())
    ours, theirs = (torch.autograd.grad(each.square().sum(), weights) for each in (found, expected))
    for a, b in zip(ours, theirs, strict=True):
        close(a, b, 1e-5 * max(1.0, b.abs().max().item()))


def test_no_byte_reads_a_later_one_though_its_word_is_read_from_both_sides():
    model, before = small(), small()(TEXT)
    for at in range(TEXT.shape[1]):
        other = TEXT.clone()
        other[0, at] = (other[0, at] + 7) % 19
        after = model(other)
        close(after[:, :at], before[:, :at], 1e-6)
        assert (after[:, at] - before[:, at]).abs().max() > 1e-5


def test_within_a_word_only_its_mark_knows_of_the_words_before():
    """With nothing said of the words before, a word is spelled the same wherever it stands."""
    model = small()
    with torch.no_grad():
        model.backbone.blocks[0].narrow.weight.zero_()
    text = torch.tensor([[MARK, 3, 4, MARK, 5, MARK, 3, 4]])
    close(model(text)[:, 5:], model(text)[:, :3])


def test_chances_of_all_words_sum_to_one():
    """All words of three letters up to a length, each ended by a mark, and the beginnings of all longer ones."""
    model, letters, longest = small(vocabulary=4), range(3), 3
    shares = []
    for length in range(longest + 1):
        for word in itertools.product(letters, repeat=length):
            text = torch.tensor([[3, 1, 3, *word, 3]])
            chances = model(text)[0].double().log_softmax(-1)
            spelled = sum(chances[2 + i, letter].item() for i, letter in enumerate(word))
            shares.append(math.exp(spelled + (chances[2 + length, 3].item() if length < longest else 0.0)))
    assert sum(shares) == pytest.approx(1, abs=1e-6)


def test_words_of_one_token_are_the_three_bodies_one_after_the_other():
    made = perturb(spec_of("backbones.Spelled", chunks=ef.spec(ef.backbones.FixedChunks, length=1)).build(32))
    given = tokens()
    alone = Tokens(given.values.flatten(0, 1)[:, None])
    words = made.widen(made.encoder(alone).values[:, 0]).unflatten(0, (3, 6))
    before = torch.cat((made.first.expand(3, 1, -1), words[:, :-1]), 1)
    told = made.narrow(made.inner(Tokens(before), ef.Context(mask=Causal())).values)
    wanted = made.decoder(Tokens((given.values + told).flatten(0, 1)[:, None])).values[:, 0].unflatten(0, (3, 6))
    close(made(given, ef.Context(mask=Causal())).values, wanted)


def test_generation_goes_without_a_cache():
    model = small().eval()
    seen = TEXT[0].tolist()
    for token in generate(model, TEXT, eos=None, pad=0, max_tokens=4)[0]:
        assert token == model(torch.tensor([seen]))[0, -1].argmax()
        seen.append(token)


def test_flops_are_counted_as_if_every_token_were_a_word():
    model = on_meta(tiny("hierarchical-autoregressive"))
    work = flops(model, {"inputs": torch.zeros(1, 10, dtype=torch.long)})
    assert work["backbone.blocks.0.widen"] == 2 * 10 * 32 * 48


def test_text_without_marks_is_refused():
    design = tiny("hierarchical-autoregressive").swap("embedding", ef.spec(ef.embeddings.Text, vocabulary=20))
    with pytest.raises(ef.BadInput, match="no token is marked"):
        design.build()(ids(20, 1, 4))
