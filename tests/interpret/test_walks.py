"""The walk of a decoder: steps add up, its path's chance is the cross-entropy, uniform attention is a mean."""

import torch
import transformers
from torch.nn import functional as F

import everyformer as ef
from everyformer.interpret import intervene, path_log_probability, walk
from support.parts import close

IDS = torch.randint(0, 20, (2, 7), generator=torch.Generator().manual_seed(0))


def decoder():
    return ef.create("gpt", vocabulary=20, length=8, width=16, depth=2, heads=2, hidden=24, seed=0).eval()


def test_the_steps_lead_from_the_embedding_to_the_answer():
    model = decoder()
    found = walk(model, inputs=IDS)
    assert found.states.shape == (5, 2, 7, 16)
    close(found.states[0], model.embedding(IDS).values)
    end = found.states[0] + found.steps().sum(0)
    close(model.head.project(model.backbone.norm(end)), model(IDS))
    one, other = found.steps()[1, 0, 3], found.steps()[2, 0, 3]
    close(found.turns()[1, 0, 3], one @ other / (one.norm() * other.norm()))
    table = model.embedding.table.weight
    assert found.nearest(table)[0, 1, 4, 0] == (table @ found.states[0, 1, 4]).argmax()


def test_the_chance_of_a_path_is_the_cross_entropy_of_hugging_face(tmp_path):
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )
    torch.manual_seed(0)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.save_pretrained(tmp_path)
    ours = ef.load(tmp_path).eval()
    expected = torch.stack([-theirs(row[None], labels=row[None]).loss * 6 for row in IDS])
    close(path_log_probability(ours, IDS), expected, 1e-4)


def test_with_uniform_weights_a_mixer_is_a_mean_of_filtered_tokens():
    model = decoder()
    mixer = model.backbone.blocks[0].mixer
    uniform = torch.ones(7, 7).tril() / torch.arange(1, 8)[:, None]
    with intervene(model, {"backbone.blocks.0.mixer.weights": uniform.expand(2, 2, 7, 7)}):
        found = walk(model, inputs=IDS)
    normed = model.backbone.blocks[0].residual[0].norm(found.states[0])
    values = F.linear(normed, *(x[-16:] for x in (mixer.qkv.weight, mixer.qkv.bias)))
    close(found.steps()[0], mixer.output(uniform @ values))
