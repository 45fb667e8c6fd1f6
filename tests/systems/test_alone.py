"""`alone`: the network of one vector against the paper's equations, its filters, and its size."""

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F

import everyformer as ef
from everyformer.costs import on_meta, parameters
from support.agreement import FIXTURES
from support.parity import ids, perturb
from support.parts import close, make
from support.systems import tiny


@pytest.mark.parametrize(("name", "kind"), [("BinaryFilters", "binary"), ("RealFilters", "real")])
def test_equals_the_authors_class(name, kind):
    kept = {key.removeprefix(f"{kind}."): each for key, each in load_file(FIXTURES / "alone.safetensors").items()}
    table = getattr(ef.embeddings, name)(8, 11, hidden=12, books=3, codes=5)
    table.load_state_dict(
        {
            "base": kept["weight.weight"][0],
            "up.weight": kept["weight.weight_matrices.0"],
            "down.weight": kept["weight.weight_matrices.1"],
            "codebooks": kept["codebooks"],
            "chosen": kept["chosen"],
        }
    )
    close(table.rows(), kept["output"])
    (table.rows() * kept["cotangent"]).sum().backward()
    close(table.base.grad, kept["gradient.weight"][0])
    close(table.up.weight.grad, kept["gradient.weight_matrices.0"])
    close(table.down.weight.grad, kept["gradient.weight_matrices.1"])


def by_hand(table, word, binary):
    """Equations 1 to 3 of one word: its filter from one vector of each codebook, then the network."""
    drawn = [table.codebooks[book, table.chosen[word, book]] for book in range(table.chosen.shape[1])]
    mask = sum(drawn)
    mask = torch.tensor([min(float(each), 1.0) for each in mask]) if binary else mask
    return table.down.weight @ torch.clamp(table.up.weight @ (mask * table.base), min=0)


@pytest.mark.parametrize("name", ["embeddings.BinaryFilters", "embeddings.RealFilters"])
def test_vectors_are_those_of_the_equations(name):
    table = make(name)
    wanted = torch.stack([by_hand(table, word, "Binary" in name) for word in range(table.vocabulary)])
    close(table.rows(), wanted)
    close(table(torch.tensor([[2, 0]])), wanted[None, [2, 0]])


def test_the_output_layer_is_the_same_table_and_learns_with_it():
    model, inputs = perturb(tiny("alone").build(seed=0)), ids(20, 2, 5)
    states = model.states(inputs, model.prepare(inputs)).values
    close(model(inputs, inputs), states @ model.source.table.rows().T)
    assert parameters(model.head) == parameters(model.source.table)
    model(inputs, inputs).square().sum().backward()
    assert model.source.table.base.grad.abs().max() > 0


def test_filters_are_kept_with_the_weights_and_not_trained():
    model = tiny("alone").build(seed=0)
    again = tiny("alone").build(seed=1)
    assert not torch.equal(again.source.table.chosen, model.source.table.chosen)
    again.load_state_dict(model.state_dict())
    close(again.source.table.rows(), model.source.table.rows(), 0.0)
    assert {name for name, _ in model.source.table.named_parameters()} == {"base", "up.weight", "down.weight"}


def test_filters_follow_the_laws_that_they_are_drawn_by():
    binary = ef.spec(ef.embeddings.BinaryFilters, empty=0.3, hidden=8).build(256, 512)
    real = ef.spec(ef.embeddings.RealFilters, hidden=8).build(256, 512)
    words = torch.arange(512)
    assert set(binary.filters(words).unique().tolist()) == {0.0, 1.0}
    assert binary.filters(words).mean().item() == pytest.approx(0.7, abs=0.01)
    assert real.filters(words).mean().item() == pytest.approx(0.0, abs=0.02)
    assert real.filters(words).std().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("vocabulary", [1000, 100_000])
def test_what_is_learned_does_not_grow_with_the_vocabulary(vocabulary):
    table = on_meta(ef.design("alone", vocabulary=vocabulary)).source.table
    assert parameters(table) == 512 + 4096 * (512 + 512)


def test_dropout_works_on_the_inputs_and_not_on_the_output_layer():
    table = make("embeddings.BinaryFilters", dropout=0.5).train()
    words = torch.arange(table.vocabulary)
    assert not torch.equal(table(words), table(words))
    assert torch.equal(table.rows(), table.rows())


def test_a_head_of_another_vocabulary_is_refused():
    design = tiny("alone").set("head.vocabulary", 21)
    with pytest.raises(ef.DoesNotFit, match="same vocabulary"):
        design.build()


def test_fixed_vectors_have_length_one_and_no_weights():
    table = ef.spec(ef.embeddings.FixedVectors).build(16, 9)
    assert not list(table.parameters())
    close(table.rows().norm(dim=-1), torch.ones(9))
    close(F.embedding(torch.tensor([3]), table.vectors), table(torch.tensor([3])), 0.0)


@pytest.mark.parametrize(("name", "spread"), [("BinaryFilters", 0.72), ("RealFilters", 0.14)])
def test_it_starts_as_in_the_authors_code_whatever_the_model_starts_with(name, spread):
    """o of (D + inner)^-0.05 or ^-0.3, both maps Glorot uniform (their `OneEmbedding`), under GPT-2's start of 0.02."""
    table = ef.spec(getattr(ef.embeddings, name), hidden=512)
    model = ef.design("gpt", "nano", vocabulary=30).set("embedding.table", table).build(seed=0)
    part = model.embedding.table
    assert part.base.std().item() == pytest.approx(spread, rel=0.2)
    for each in (part.up, part.down):
        assert each.weight.abs().max().item() == pytest.approx((6 / (128 + 512)) ** 0.5, rel=0.01)
