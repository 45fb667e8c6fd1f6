"""`patternformer` against its definition: one token for each channel, which stand in no order."""

import torch

from support.systems import model_of, tiny


def test_a_token_depends_on_its_channel_alone():
    model = model_of(tiny("patternformer"))
    pictures = torch.randn(2, 3, 16, 16)
    before = model.embedding(pictures)
    assert (before.count, before.prefix, before.grid) == (1 + 6, 1, None)
    with torch.no_grad():
        model.embedding.patterns.bias[2] += 1.0
    after = model.embedding(pictures).values
    changed = (after - before.values).abs().amax((0, 2)) > 1e-4
    assert changed.tolist() == [False, False, False, True, False, False, False]


def test_tokens_are_the_channels_in_rows_through_one_map():
    model = model_of(tiny("patternformer"))
    seen = []
    model.embedding.patterns.register_forward_hook(lambda m, i, cells: seen.append(cells))
    tokens = model.embedding(torch.randn(2, 3, 16, 16)).values
    project, places = model.embedding.project, model.embedding.positions.table.weight
    for c in range(6):
        expected = seen[0][:, c].flatten(1) @ project.weight.T + project.bias + places[c]
        torch.testing.assert_close(tokens[:, 1 + c], expected, rtol=1e-5, atol=1e-5)


def test_the_order_of_channels_changes_no_answer():
    model = model_of(tiny("patternformer"))
    pictures = torch.randn(2, 3, 16, 16)
    before = model(pictures)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    with torch.no_grad():
        for tensor in (*model.embedding.patterns.parameters(), model.embedding.positions.table.weight):
            tensor.copy_(tensor[order].clone())
    torch.testing.assert_close(model(pictures), before, rtol=1e-5, atol=1e-5)
