"""Raw bytes."""

import pytest
import torch

import everyformer as ef
from everyformer.embeddings import Bytes, Text


def test_a_byte_is_its_row_of_the_table():
    embedding = ef.spec(Bytes).build(8)
    tokens = embedding(torch.tensor([[0, 65, 255]]))
    torch.testing.assert_close(tokens.values[0], embedding.table.weight[[0, 65, 255]])


def test_uint8_is_taken():
    embedding = ef.spec(Bytes).build(8)
    ids = torch.randint(0, 256, (2, 9))
    assert torch.equal(embedding(ids.to(torch.uint8)).values, embedding(ids).values)


def test_texts_and_bytes_are_encoded():
    batch = Bytes.encode(["Grüße", "hi", ""])
    assert batch["inputs"].dtype == torch.long
    assert bytes(batch["inputs"][0].tolist()).decode() == "Grüße"
    assert batch["inputs"][1].tolist() == [104, 105, 0, 0, 0, 0, 0]
    assert batch["mask"].sum(1).tolist() == [7, 2, 0]
    same = Bytes.encode([b"\xff\x00", b"a"])
    assert same["inputs"].tolist() == [[255, 0], [97, 0]]
    assert same["mask"].tolist() == [[True, True], [True, False]]


def test_padding_and_packing_change_nothing():
    from everyformer.positions import Sinusoidal

    embedding = ef.spec(Bytes, positions=ef.spec(Sinusoidal), norm=ef.spec(ef.norms.LayerNorm)).build(8)
    batch = Bytes.encode(["abcde", "xy"])
    padded = embedding(**batch)
    alone = [embedding(**Bytes.encode([text])).values[0] for text in ("abcde", "xy")]
    packed = embedding(batch["inputs"][batch["mask"]][None], lengths=torch.tensor([5, 2]))
    torch.testing.assert_close(padded.values[padded.mask], torch.cat(alone))
    torch.testing.assert_close(packed.values[0], torch.cat(alone))


def test_special_ids_stand_after_the_bytes():
    embedding = ef.spec(Bytes, special=2).build(8)
    assert isinstance(embedding, Text)
    assert embedding(torch.tensor([[256, 257]])).values.shape == (1, 2, 8)
    with pytest.raises(ef.BadInput, match=r"token id 258, and the vocabulary has 258 \(0 to 257\)"):
        embedding(torch.tensor([[258]]))


def test_a_model_on_bytes_can_tie_its_head():
    design = ef.design("gpt", "nano", vocabulary=256).swap("embedding", ef.spec(Bytes))
    model = design.build(seed=0)
    assert model.head.project.weight is model.embedding.table.weight
    assert model(**Bytes.encode(["abc"])).shape == (1, 3, 256)
