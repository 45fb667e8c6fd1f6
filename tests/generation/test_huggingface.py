"""The same tokens as Hugging Face's `generate` with the same weights."""

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

import everyformer as ef
from everyformer.generation import Beam, Greedy, Power, generate
from everyformer.interop import from_transformers

PAD, MAX = 0, 14
ENDS = {"gpt2": [36, 4], "t5": [25, 33, 30, 6], "llama": [35, 2]}
STRATEGIES = {
    "greedy": (Greedy(), {}),
    "beam": (Beam(size=4), {"num_beams": 4, "early_stopping": True}),
    "beam of 5, sum": (
        Beam(size=5, penalty=ef.spec(Power, exponent=0.0)),
        {"num_beams": 5, "early_stopping": True, "length_penalty": 0.0},
    ),
    "beam, long": (
        Beam(size=3, penalty=ef.spec(Power, exponent=1.5)),
        {"num_beams": 3, "early_stopping": True, "length_penalty": 1.5},
    ),
    "beam to the last": (
        Beam(size=4, penalty=ef.spec(Power, exponent=0.6), early=False),
        {"num_beams": 4, "early_stopping": "never", "length_penalty": 0.6},
    ),
}


def prompts(seed, count=6):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 9, (count,), generator=generator).tolist()
    return [torch.randint(8, 40, (n,), generator=generator).tolist() for n in lengths]


def padded(rows, left):
    longest = max(map(len, rows))
    gaps = [[PAD] * (longest - len(row)) for row in rows]
    ids = torch.tensor([gap + row if left else row + gap for row, gap in zip(rows, gaps)])
    return ids, (ids != PAD).long()


def trimmed(rows, eos):
    """Their answers up to the end token."""
    return [row[: next((i for i, token in enumerate(row) if token in eos), None)] for row in rows.tolist()]


def spread(model):
    """Weights large enough that sequences differ and end at different times."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
                parameter.mul_(0.5 if len(parameter) == 40 else 0.8)
    return model.eval()


def ends(answers):
    assert len({len(a) for a in answers}) > 1, "the sequences should end at different times"


@pytest.fixture(scope="module")
def gpt2():
    config = GPT2Config(
        vocab_size=40, n_positions=32, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=36, pad_token_id=PAD
    )
    theirs = spread(GPT2LMHeadModel(config))
    return theirs, from_transformers(theirs), ENDS["gpt2"]


@pytest.fixture(scope="module")
def their_llama():
    config = LlamaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=32, bos_token_id=1, eos_token_id=35, pad_token_id=PAD,
    )  # fmt: skip
    theirs = spread(LlamaForCausalLM(config))
    return theirs, from_transformers(theirs), ENDS["llama"]


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("which", ["gpt2", "their_llama"])
def test_a_decoder(which, name, request):
    theirs, model, eos = request.getfixturevalue(which)
    strategy, options = STRATEGIES[name]
    found = []
    for seed in range(3):
        rows = prompts(seed)
        ids, mask = padded(rows, left=True)
        answer = theirs.generate(
            ids, attention_mask=mask, max_new_tokens=MAX, do_sample=False, eos_token_id=eos, **options
        )
        ours = generate(model, rows, eos=eos, pad=PAD, max_tokens=MAX, strategy=strategy)
        assert ours == trimmed(answer[:, ids.shape[1] :], eos)
        found += ours
    ends(found)


@pytest.fixture(scope="module")
def their_t5():
    config = T5Config(
        vocab_size=40, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=1,
        eos_token_id=25, pad_token_id=PAD, tie_word_embeddings=False,
        relative_attention_num_buckets=8, relative_attention_max_distance=12,
    )  # fmt: skip
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(torch.empty(40, 32))
    return spread(model)


@pytest.mark.parametrize("name", STRATEGIES)
def test_t5(their_t5, name):
    strategy, options = STRATEGIES[name]
    model = from_transformers(their_t5)
    found = []
    for seed in range(3):
        rows = prompts(seed)
        ids, mask = padded(rows, left=False)
        theirs = their_t5.generate(
            ids, attention_mask=mask, max_new_tokens=MAX, do_sample=False, eos_token_id=ENDS["t5"], **options
        )
        ours = generate(model, rows, bos=1, eos=ENDS["t5"], pad=PAD, max_tokens=MAX, strategy=strategy)
        assert ours == trimmed(theirs[:, 1:], ENDS["t5"])
        found += ours
    ends(found)
