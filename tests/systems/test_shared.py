"""`albert` against Hugging Face, `subformer` and `universal-transformer` against their papers; loops and their limits."""

import copy

import pytest
import torch
from transformers import AlbertConfig, AlbertForMaskedLM, AlbertForSequenceClassification

import everyformer as ef
from everyformer.auxiliary import listening
from everyformer.context import Cache, Context
from everyformer.costs import on_meta, parameters
from everyformer.interop import from_transformers, to_transformers
from everyformer.interop.weights import tensors
from everyformer.masks import Causal
from everyformer.tokens import Tokens
from support.agreement import equal
from support.parity import ids, perturb, ragged
from support.parts import HEADS, WIDTH, close, tokens

BLOCK = ef.spec(
    ef.backbones.Block,
    mixer=ef.spec(ef.mixers.Attention, heads=HEADS),
    feedforward=ef.spec(ef.feedforward.MLP, hidden=48),
)


def config(**changes):
    return AlbertConfig(
        vocab_size=71, embedding_size=20, hidden_size=48, num_hidden_layers=4, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=20, hidden_act="gelu_new", **changes,
    )  # fmt: skip


@pytest.mark.parametrize("changes", [{}, {"num_hidden_groups": 2, "inner_group_num": 2}], ids=str)
def test_masked_language_model_equals_hugging_face(changes):
    theirs = perturb(AlbertForMaskedLM(config(**changes)))
    ours = from_transformers(theirs)
    inputs, mask, segments = ids(71, 3, 13), ragged(3, 13), ids(3, 3, 13, seed=5) - 1
    expected = theirs(inputs, attention_mask=mask.long(), token_type_ids=segments).logits
    equal(ours, theirs, ours(inputs, mask=mask, segments=segments), expected, mask)


def test_classifier_equals_hugging_face():
    theirs = perturb(AlbertForSequenceClassification(config(num_labels=5)))
    ours = from_transformers(theirs)
    inputs, mask = ids(71, 3, 13), ragged(3, 13)
    expected = theirs(inputs, attention_mask=mask.long()).logits
    close(ours(inputs, mask=mask), expected)


@pytest.mark.parametrize("options", [{}, {"classes": 3, "dropout": 0.1}, {"groups": 2, "inner": 2}], ids=str)
def test_the_way_back_keeps_every_answer(options):
    ours = perturb(ef.create("albert", "tiny", vocabulary=71, length=20, hidden=80, seed=0, **options))
    theirs = to_transformers(ours)
    inputs = ids(71, 2, 9)
    close(ours(inputs), theirs(inputs).logits, 1e-4)
    again = from_transformers(theirs)
    assert all(torch.equal(a, b) for a, b in zip(tensors(again).values(), tensors(ours).values(), strict=True))


@pytest.mark.parametrize(("size", "millions"), [("base", 12), ("large", 18)])
def test_albert_has_the_published_size(size, millions):
    assert parameters(on_meta(ef.design("albert", size, classes=2))) / 1e6 == pytest.approx(millions, rel=0.03)


# loops


def loop(part=ef.backbones.Loop, **options):
    torch.manual_seed(0)
    made = ef.spec(part, **{"blocks": (BLOCK,), "times": 3, **options}).build(WIDTH).eval()
    return perturb(made)


def unrolled(made, times):
    """Blocks with weights of their own, all equal to the loop's."""
    stack = ef.spec(ef.backbones.Encoder, blocks=(BLOCK,) * times).build(WIDTH).eval()
    for block in stack.blocks:
        block.load_state_dict(made.blocks[0].state_dict())
    return stack


def test_a_loop_is_the_unrolled_stack_and_its_gradient_the_sum_of_the_copies():
    made = loop()
    stack = unrolled(made, 3)
    one, other = made(tokens()).values, stack(tokens()).values
    close(one, other)
    (one**2).sum().backward()
    (other**2).sum().backward()
    for name, parameter in made.blocks[0].named_parameters():
        copies = sum(dict(block.named_parameters())[name].grad for block in stack.blocks)
        close(parameter.grad / copies.abs().max(), copies / copies.abs().max())


def test_no_turn_is_nothing():
    assert torch.equal(loop(times=0)(tokens()).values, tokens().values)


def test_the_signal_is_that_of_equation_4():
    signal = ef.backbones.TurnSignal(8)
    given = Tokens(torch.zeros(1, 5, 8))
    found = signal(given, given, 3).values[0]
    for i in range(5):
        for j in range(4):
            rate = 10000 ** (2 * j / 8)
            at, turn = torch.tensor(i / rate), torch.tensor(3 / rate)
            close(found[i, 2 * j], at.sin() + turn.sin())
            close(found[i, 2 * j + 1], at.cos() + turn.cos())


def test_injection_adds_the_input_from_the_second_turn_on():
    made = loop(entrance=ef.spec(ef.backbones.Injection), times=2)
    once = made.blocks[0](tokens())
    close(made(tokens()).values, made.blocks[0](once.update(once.values + tokens().values)).values)


@pytest.mark.parametrize("part", [ef.backbones.Loop, ef.backbones.AdaptiveLoop])
def test_each_turn_has_a_cache(part):
    made, shared, whole = loop(part), Context(mask=Causal(), cache=Cache()), tokens()
    wanted, got = made(whole, Context(mask=Causal())).values, []
    for at in range(6):
        shared.lowered.clear()
        piece = Tokens(whole.values[:, at : at + 1])
        got.append(made(piece, shared).values)
        shared.cache.advance(piece)
    close(torch.cat(got, 1), wanted)
    shared.cache.select(torch.tensor([2, 0]))
    shared.cache.keep(torch.ones(1, 6, dtype=torch.bool))
    assert shared.cache.rewinds
    shared.cache.rewind(1)
    shared.lowered.clear()
    close(made(Tokens(whole.values[[2, 0], 5:]), shared).values, wanted[[2, 0], 5:])


def by_listing(made, values):
    """Appendix C of Dehghani et al., line by line, for a token that sees itself alone."""
    state, halting, remainders, updates, previous = values, 0.0, 0.0, 0, torch.zeros_like(values)
    step = 0
    while halting < made.threshold and updates < made.times:
        step += 1
        state = made.enter(Tokens(state), Tokens(values), step)
        p = made.halt(state.values).sigmoid().item()
        still_running = float(halting < 1.0)
        new_halted = float(halting + p * still_running > made.threshold) * still_running
        still_running = float(halting + p * still_running <= made.threshold) * still_running
        halting += p * still_running
        remainders += new_halted * (1 - halting)
        halting += new_halted * remainders
        updates += still_running + new_halted
        weight = p * still_running + new_halted * remainders
        state = made.turn(state, step, Context()).values
        previous = state * weight + previous * (1 - weight)
    return previous, updates + remainders


@pytest.mark.parametrize("bias", [-3.0, 0.0, 2.0])
def test_adaptive_halting_is_that_of_the_listing(bias):
    made = loop(ef.backbones.AdaptiveLoop, entrance=ef.spec(ef.backbones.TurnSignal), bias=bias, times=5, cost=0.5)
    values = tokens().values[:, :1]
    with listening(made) as said:
        found = made(Tokens(values)).values
    wanted = [by_listing(made, row[None]) for row in values]
    close(found, torch.cat([each for each, _ in wanted]))
    assert said[0].item() == pytest.approx(0.5 * sum(spent for _, spent in wanted) / 3, rel=1e-5)


def test_once_all_have_halted_the_loop_ends_and_nothing_changes():
    made = loop(ef.backbones.AdaptiveLoop, bias=1.0, times=9)
    turns = []
    made.blocks[0].register_forward_hook(lambda *_: turns.append(1))
    early = made(tokens()).values
    assert len(turns) < 9
    close(early, copy.deepcopy(made).train()(tokens()).values)


# systems


def test_a_universal_transformer_without_halting_is_a_loop_with_a_signal():
    options = {"vocabulary": 20, "width": 32, "hidden": 48, "turns": 2, "heads": 4, "dropout": 0.0}
    plain = ef.design("universal-transformer", adaptive=False, **options)
    assert plain.get("encoder.blocks.0").part is ef.backbones.Loop
    model = perturb(plain.build(seed=0))
    inputs = ids(20, 2, 5)
    memory = model.prepare(inputs).memory["encoder"].values
    signal, block = ef.backbones.TurnSignal(32), model.encoder.blocks[0].blocks[0]
    state = model.source(inputs)
    for turn in (1, 2):
        state = block(signal(state, state, turn))
    close(memory, state.values)


def test_subformer_has_three_layers_however_deep():
    counts = {parameters(on_meta(ef.design("subformer", depth=depth))) for depth in (3, 6, 12)}
    assert len(counts) == 1
    with pytest.raises(ValueError, match="at least 3"):
        ef.design("subformer", depth=2)


def test_subformer_embeds_with_attention_at_the_width_of_the_table():
    model = perturb(
        ef.create("subformer", vocabulary=20, width=32, hidden=48, depth=3, heads=4, table_width=16, seed=0)
    )
    into, inputs = model.target, ids(20, 2, 5)
    given = into.table(inputs) * 4 + into.positions(Tokens(torch.zeros(2, 5, 16)))
    block = into.body.blocks[0]
    normed = block.residual[0].norm(given)
    query, key, value = (x.unflatten(-1, (4, 4)).transpose(1, 2) for x in block.mixer.qkv(normed).chunk(3, -1))
    scores = (query @ key.mT / 2).masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf)
    mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    close(into(inputs).values, into.project(given + block.mixer.output(mixed)))
    torch.nn.init.zeros_(block.mixer.output.weight)
    torch.nn.init.zeros_(block.mixer.output.bias)
    close(into(inputs).values, into.project(given))


@pytest.mark.parametrize("injected", [False, True])
def test_algoformer_is_the_unrolled_stack(injected):
    options = {"vocabulary": 20, "width": 32, "turns": 3, "heads": 4, "length": 16, "injected": injected}
    model, inputs = perturb(ef.create("algoformer", seed=0, **options)), ids(20, 2, 6)
    pre, looped, post = model.backbone.blocks
    causal = Context(mask=Causal())
    state = first = pre(model.embedding(inputs), causal)
    for turn in range(3):
        entered = state.update(state.values + first.values) if injected and turn else state
        state = looped.blocks[0](entered, causal)
    state = post(state, causal)
    close(model(inputs), model.head(state.update(model.backbone.norm(state.values))))
    assert parameters(model) == parameters(ef.create("algoformer", **{**options, "turns": 7}))
