"""`frozen-visual-unicode`: drawings, their principal components, and a table that training leaves alone."""

import pytest
import torch
from sklearn.decomposition import PCA

import everyformer as ef
from everyformer.embeddings.glyphs import drawn, glyph_vectors, principal
from everyformer.training.optimizers import split
from support.parity import ids
from support.parts import close
from support.systems import tiny

LETTERS = [
    "a",
    "b",
    "l",
    "1",
    "I",
    "O",
    "0",
    "th",
    "the",
    "\n",
    " ",
    "\x00",
    "A",
    "\u0391",
    "-",
    "_",
    ".",
    "x",
    "y",
    "z",
]


def test_principal_components_are_those_of_scikit_learn():
    pictures = drawn(LETTERS)
    found, wanted = principal(pictures, 8), torch.from_numpy(PCA(8).fit_transform(pictures.numpy()))
    close(found.abs(), wanted.abs(), 1e-4)
    assert principal(pictures, 40)[:, 20:].abs().max() == 0


def test_a_drawing_fills_its_square_with_all_characters_of_a_token():
    pictures = drawn(["l", "llll", "\n", ""], side=12).unflatten(1, (12, 12))
    inked = [int((each.amax(0) > 0.3).sum()) for each in pictures]
    assert inked[0] < inked[1]
    assert inked[2:] == [0, 0]


def test_no_two_tokens_have_the_same_vector():
    """Blank ones and homoglyphs (Latin and Greek A) among them."""
    vectors = glyph_vectors(LETTERS, 24)
    close(vectors.norm(dim=-1), torch.ones(len(LETTERS)))
    likeness = vectors @ vectors.T - 2 * torch.eye(len(LETTERS))
    assert likeness.max() < 0.999


def test_the_nearest_tokens_are_those_that_look_alike():
    vectors = glyph_vectors([chr(c) for c in range(33, 127)], 32)
    nearest = (vectors @ vectors.T - 2 * torch.eye(94)).argmax(1)
    assert {chr(33 + nearest[ord(c) - 33]) for c in "O1"} <= set("0QDCGlIiL|!:;tr")


def test_the_table_is_left_alone_by_training():
    model = ef.models.frozen_glyphs(tiny("gpt").build(seed=0), LETTERS)
    before = model.embedding.table.vectors.clone()
    trained = {id(p) for group in split(model) for p in group}
    assert id(model.embedding.table.vectors) not in trained
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.5)
    model(ids(20, 2, 6)).square().sum().backward()
    optimizer.step()
    assert torch.equal(model.embedding.table.vectors, before)
    assert not getattr(model.head, "tied", False)


def test_all_other_weights_stay():
    model = tiny("gpt").build(seed=0)
    kept = {name: each.clone() for name, each in model.backbone.state_dict().items()}
    places = model.embedding.positions.table.weight.clone()
    ef.models.frozen_glyphs(model, LETTERS)
    assert all(torch.equal(kept[name], each) for name, each in model.backbone.state_dict().items())
    assert torch.equal(model.embedding.positions.table.weight, places)


def test_the_design_says_so_and_takes_the_vectors_from_a_state():
    model = ef.models.frozen_glyphs(tiny("gpt").build(seed=0), LETTERS).eval()
    again = ef.designs.design_of(model).build(seed=5).eval()
    again.load_state_dict(model.state_dict())
    close(again(ids(20, 1, 6)), model(ids(20, 1, 6)), 0.0)


def test_fewer_tokens_than_the_vocabulary_are_refused():
    with pytest.raises(ef.BadInput, match="text of every id"):
        ef.models.frozen_glyphs(tiny("gpt").build(seed=0), LETTERS[:5])
    with pytest.raises(ef.DoesNotFit, match="one text"):
        ef.models.frozen_glyphs(tiny("transformer").build(seed=0), LETTERS)
