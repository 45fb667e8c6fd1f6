"""What `generate` takes, how sequences end, and that no work is done for nothing."""

import pytest
import torch
from torch import nn

import everyformer as ef
from everyformer.context import Cache, Context
from everyformer.contracts import Mixer
from everyformer.errors import BadInput, DoesNotFit, EveryformerError
from everyformer.generation import Beam, Greedy, Sample, StopText, generate
from everyformer.generation.decoding import cacheable
from everyformer.generation.generate import hypotheses
from everyformer.masks import Causal, prefix_lm
from everyformer.specs import spec
from everyformer.tokens import Tokens

OPTIONS = {"eos": None, "pad": 0, "max_tokens": 10}
PROMPTS = [[1, 2, 3], [4, 5, 6, 7, 8], [9]]


def lively(model):
    """Weights large enough that the tokens differ."""
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.7)
    return model.eval()


@pytest.fixture(scope="module")
def model():
    return lively(ef.create("gpt", vocabulary=40, length=32, width=32, depth=2, heads=4, seed=0))


@pytest.fixture(scope="module")
def translator():
    return lively(ef.create("transformer", "tiny", vocabulary=40, width=32, hidden=64, depth=1, seed=0))


class Averages(Mixer):
    """The mean of what came before: causal, without a cache, and blind to padding."""

    capabilities = frozenset({"causal"})

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, tokens: Tokens, context: Context | None = None) -> torch.Tensor:
        return self.linear(tokens.values).cumsum(1) / torch.arange(1, tokens.count + 1)[:, None]


class Sums(Averages):
    """The sum of what came before, kept in the cache; blind to padding."""

    capabilities = frozenset({"causal", "incremental"})

    def forward(self, tokens: Tokens, context: Context | None = None) -> torch.Tensor:
        total = self.linear(tokens.values).tanh().cumsum(1)
        if context is not None and context.cache is not None:
            kept = context.cache.states.get(self)
            total = total if kept is None else total + kept["total"]
            context.cache.states[self] = {"total": total[:, -1:]}
        return total


@pytest.mark.parametrize("mixer", [Averages, Sums])
@pytest.mark.parametrize("strategy", [Greedy(), Beam(size=3)])
def test_any_mixer_generates_with_or_without_cache_and_padding(mixer, strategy):
    design = ef.design("gpt", vocabulary=40, length=32, width=32, depth=2, heads=4)
    model = lively(design.swap("backbone.blocks.*.mixer", spec(mixer)).build(seed=0))
    assert cacheable(model.backbone) == (mixer is Sums)
    streamed = [[], [], []]
    found = generate(model, PROMPTS, strategy=strategy, stream=lambda row, t: streamed[row].append(t), **OPTIONS)
    assert found == streamed
    assert found == generate(model, PROMPTS, strategy=strategy, cache=False, **OPTIONS)
    assert found == [generate(model, [p], strategy=strategy, **OPTIONS)[0] for p in PROMPTS]
    if isinstance(strategy, Greedy):
        for prompt, answer in zip(PROMPTS, found):
            for i, token in enumerate(answer):
                assert int(model(torch.tensor([prompt + answer[:i]]))[0, -1].argmax()) == token


def test_a_mask_that_looks_ahead_is_not_cached():
    design = ef.design("gpt", vocabulary=40, length=32, width=32, depth=2, heads=4)
    for mask, expected in ((Causal(), True), (prefix_lm(2), False), (Causal(ahead=1), False)):
        model = lively(design.set("backbone.mask", mask).build(seed=0))
        assert cacheable(model.backbone) == expected
        found = generate(model, [[1, 2, 3]], **OPTIONS)[0]
        for i, token in enumerate(found):
            assert int(model(torch.tensor([[1, 2, 3] + found[:i]]))[0, -1].argmax()) == token


def test_the_first_token_may_end_a_sequence(model, translator):
    for which, more in ((model, {}), (translator, {"bos": 1})):
        plain = generate(which, PROMPTS, **OPTIONS, **more)
        firsts = [answer[0] for answer in plain]
        assert generate(which, PROMPTS, **{**OPTIONS, "eos": firsts}, **more) == [[], [], []]
        one = generate(which, PROMPTS, **{**OPTIONS, "eos": firsts[0]}, **more)
        assert one[0] == []


def test_no_tokens_are_asked_for(model, translator):
    for strategy in (Greedy(), Beam(size=3), Sample()):
        options = {**OPTIONS, "max_tokens": 0, "strategy": strategy}
        assert generate(model, PROMPTS, **options) == [[], [], []]
        assert generate(translator, PROMPTS, bos=1, **options) == [[], [], []]
    assert generate(model, [], **OPTIONS) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": [[1], []]}, "prompt 1 is empty"),
        ({"inputs": torch.zeros(2, 0, dtype=torch.long)}, "prompt 0 is empty"),
        ({"inputs": torch.ones(2, 1).long(), "mask": torch.tensor([[True], [False]])}, "prompt 1 is empty"),
        ({"max_tokens": -1}, "max_tokens is -1"),
        ({"max_tokens": 40}, "learned positions for 32"),
        ({"inputs": [[41]]}, "token id 41"),
        ({"stop": ["end"]}, "StopText"),
        ({"stop": [[]]}, "empty stop"),
        ({"stop": [StopText("", str)]}, "empty stop"),
    ],
)
def test_bad_input_is_named(model, change, message):
    options = {"inputs": PROMPTS, **OPTIONS, **change}
    with pytest.raises(BadInput, match=message):
        generate(model, options.pop("inputs"), **options)


def test_an_encoder_decoder_needs_bos_and_a_source(translator):
    with pytest.raises(BadInput, match="bos="):
        generate(translator, PROMPTS, **OPTIONS)
    with pytest.raises(BadInput, match="source"):
        generate(translator, [[1], []], bos=1, **OPTIONS)


def test_a_model_without_logits_for_each_token_is_refused():
    text = spec(ef.embeddings.Text, vocabulary=9)
    block = spec(ef.backbones.Block, mixer=spec(ef.mixers.Attention, heads=2))
    for head in (None, spec(ef.heads.ClassHead, classes=9)):
        backbone = spec(ef.backbones.Encoder, blocks=(block,))
        made = ef.models.Model(width=8, embedding=text, backbone=backbone, head=head)
        with pytest.raises(DoesNotFit, match="logits for each token"):
            generate(made, [[1, 2]], **OPTIONS)


def test_a_beam_of_nothing_is_refused():
    with pytest.raises(EveryformerError, match="size 0"):
        Beam(size=0)


def test_bos_is_put_before_prompts(model):
    assert generate(model, PROMPTS, bos=11, **OPTIONS) == generate(model, [[11, *p] for p in PROMPTS], **OPTIONS)
    assert generate(model, [[], [2]], bos=(11, 12), **OPTIONS) == generate(model, [[11, 12], [11, 12, 2]], **OPTIONS)


@pytest.mark.parametrize("strategy", [Greedy(), Beam(size=3)])
def test_a_sequence_of_tokens_stops(model, strategy):
    plain = generate(model, PROMPTS, strategy=strategy, **OPTIONS)
    stop = plain[1][3:5]
    found = generate(model, PROMPTS, strategy=strategy, stop=[stop], **OPTIONS)
    if isinstance(strategy, Greedy):
        ends = [next((n for n in range(2, 11) if answer[n - 2 : n] == stop), 10) for answer in plain]
        assert min(ends) < 10
        assert found == [answer[:n] for answer, n in zip(plain, ends)]
    for answer in found:
        places = [i for i in range(len(answer) - 1) if answer[i : i + 2] == stop]
        assert places in ([], [len(answer) - 2])
        assert places or len(answer) == 10


def test_a_string_stops_across_the_borders_of_tokens(model):
    pieces = ["ab", "c", "da", "bc", " d", "é"]

    def decode(tokens):
        return "".join(pieces[t % 6] for t in tokens).lstrip()

    plain = generate(model, PROMPTS, **OPTIONS)
    whole = decode(plain[1])
    for start in range(len(whole) - 3):
        text = whole[start : start + 3]
        found = generate(model, PROMPTS, stop=[StopText(text, decode)], **OPTIONS)
        for answer, alone in zip(found, plain):
            expected = next((n for n in range(1, 11) if text in decode(alone[:n])), 10)
            assert answer == alone[:expected]


def test_a_long_text_is_not_decoded_again_and_again():
    decoded = []

    def decode(tokens):
        decoded.append(len(tokens))
        return "x" * len(tokens)

    stop = StopText("abc", decode)
    assert not stop(list(range(1000)))
    assert max(decoded) < 10


def test_tokens_are_streamed_as_they_come(model):
    events = []
    found = generate(model, PROMPTS, stream=lambda row, token: events.append((row, token)), **OPTIONS)
    assert events == [(row, answer[i]) for i in range(10) for row, answer in enumerate(found)]


class Counting:
    """How many sequences each call of a module sees."""

    def __init__(self, module):
        self.rows = []
        self.handle = module.register_forward_pre_hook(lambda _, args: self.rows.append(args[0].shape[:2]))


@pytest.mark.parametrize("size", [None, 2])
def test_no_work_is_done_for_finished_sequences(translator, size):
    options = {**OPTIONS, "bos": 1, "strategy": Beam(size=size) if size else Greedy()}
    plain = generate(translator, PROMPTS, **options)
    eos = {plain[0][2], plain[1][5]}
    counting = Counting(translator.decoder.blocks[0].mixer.qkv)
    finished = generate(translator, PROMPTS, **{**options, "eos": eos})
    counting.handle.remove()
    rows = [shape[0] for shape in counting.rows]
    assert {shape[1] for shape in counting.rows} == {1}, "with a cache each step computes one token"
    assert rows[0] == 3
    if size is None:
        lengths = [len(answer) + 1 if len(answer) < 10 else 10 for answer in finished]
        assert rows == [sum(length > i for length in lengths) for i in range(max(lengths))]
    else:
        assert rows[1] <= 3 * size
        assert rows[1:] == sorted(rows[1:], reverse=True)
        assert rows[-1] < 3 * size


def test_the_memory_is_computed_once_and_not_moved_by_beams(translator):
    counting = Counting(translator.decoder.blocks[0].cross[0].key_value)
    generate(translator, PROMPTS, bos=1, strategy=Beam(size=3), **OPTIONS)
    counting.handle.remove()
    assert len(counting.rows) == 1


def test_a_prompt_needs_the_head_at_its_end_alone(model):
    counting = Counting(model.head.project)
    generate(model, PROMPTS, **OPTIONS)
    counting.handle.remove()
    assert {tuple(shape) for shape in counting.rows} == {(3, 1)}


def test_modes_are_left_as_they_were(model):
    model.train()
    model.backbone.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    try:
        generate(model, PROMPTS, **OPTIONS)
        with pytest.raises(BadInput):
            generate(model, [[99]], **OPTIONS)
        assert [module.training for module in model.modules()] == modes
    finally:
        model.eval()


def test_dropout_is_off_while_generating():
    noisy = lively(ef.create("gpt", vocabulary=40, length=32, width=32, depth=2, heads=4, dropout=0.5, seed=0))
    quiet = generate(noisy, PROMPTS, **OPTIONS)
    assert generate(noisy.train(), PROMPTS, **OPTIONS) == quiet


@torch.no_grad()
def test_scores_are_mean_log_probabilities(model):
    for prompt, found in zip(PROMPTS, hypotheses(model, PROMPTS, strategy=Beam(size=3), **OPTIONS)):
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        for each in found:
            logp = model(torch.tensor([prompt + each.tokens]))[0].log_softmax(-1)[len(prompt) - 1 : -1]
            expected = logp.gather(1, torch.tensor(each.tokens)[:, None]).mean()
            assert each.score == pytest.approx(float(expected), abs=1e-4)


def test_a_cache_copies_each_token_a_fixed_number_of_times():
    cache, owner = Cache(), nn.Identity()
    buffers = set()
    with torch.no_grad():
        for i in range(500):
            held = cache.extend(owner, key=torch.full((2, 3, 1, 4), float(i)))["key"]
            buffers.add(held.untyped_storage().data_ptr())
            if i % 100 == 50:
                cache.select(torch.tensor([1, 0]))
    assert held.shape == (2, 3, 500, 4)
    assert torch.equal(held[0, 0, :, 0], torch.arange(500.0))
    assert len(buffers) < 20


def test_a_cache_that_is_trained_through_keeps_its_gradients():
    cache, owner = Cache(), nn.Identity()
    steps = [torch.randn(1, 1, 1, 2, requires_grad=True) for _ in range(4)]
    total = sum(cache.extend(owner, key=x)["key"].square().sum() for x in steps)
    total.backward()
    for i, x in enumerate(steps):
        assert torch.allclose(x.grad, 2 * x * (4 - i))
