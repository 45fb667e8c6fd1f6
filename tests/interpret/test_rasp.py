"""RASP: the interpreter against Python, the compiled weights against the interpreter, on random sequences."""

from __future__ import annotations

import operator
import random
from collections import Counter

import pytest

from everyformer.errors import BadInput
from everyformer.interpret import rasp

DRAWN = random.Random(0)


def brackets(count, kinds):
    """Sequences that are balanced by chance often enough: each closes what is open, but for some slips."""
    made = []
    for _ in range(count):
        text, stack = "", []
        for _ in range(DRAWN.randint(1, 8)):
            if stack and DRAWN.random() < 0.6:
                text += stack.pop()
            else:
                each = DRAWN.choice(kinds)
                text, stack = text + each[0], [*stack, each[1]]
        made.append(text if DRAWN.random() < 0.6 else "".join(DRAWN.sample(text, len(text))))
    return made


def balanced(kinds):
    """The answer for each prefix, with a stack."""
    closing = {each[0]: each[1] for each in kinds}

    def answer(text):
        said, stack = [], []
        for token in text:
            if stack is not None and token in closing:
                stack.append(closing[token])
            elif stack is not None:
                stack = stack[:-1] if stack and stack[-1] == token else None
            said.append("F" if stack is None else "P" if stack else "T")
        return said

    return answer


def texts(count):
    return ["".join(DRAWN.choices("abcdef", k=DRAWN.randint(1, 8))) for _ in range(count)]


PROGRAMS = {
    "histogram": (rasp.histogram(), lambda s: [Counter(s)[c] for c in s], texts(200), [1]),
    "reverse": (rasp.reverse(), lambda s: [*reversed(s)], texts(200), [1, 1]),
    "sort": (rasp.sort(), sorted, texts(200), [1, 1]),
    "dyck-1": (rasp.dyck(["()"]), balanced(["()"]), brackets(200, ["()"]), [1, 1]),
    "dyck-2": (rasp.dyck(["()", "{}"]), balanced(["()", "{}"]), brackets(200, ["()", "{}"]), [1, 1, 1, 1]),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_weights_say_what_the_interpreter_says(name):
    """The heads of each layer with attention are those of the paper's table 1."""
    program, reference, sequences, heads = PROGRAMS[name]
    wanted = [rasp.run(program, sequence) for sequence in sequences]
    assert wanted == [reference(sequence) for sequence in sequences]
    compiled = rasp.compile_program(program, vocabulary=sorted(set("".join(sequences))), length=8)
    assert compiled.batch(sequences) == wanted
    mixers = [block.mixer for block in compiled.model.backbone.blocks]
    assert [mixer.heads for mixer in mixers if mixer is not None] == heads


@pytest.mark.parametrize(
    "program",
    [
        rasp.elementwise(
            lambda same, less: same - 2 * less,
            rasp.selector_width(rasp.select(rasp.tokens, rasp.tokens, operator.eq)),
            rasp.selector_width(rasp.select(rasp.tokens, rasp.tokens, operator.lt)),
        ),
        rasp.aggregate(
            ~rasp.select(rasp.tokens, rasp.tokens, operator.eq) & rasp.select(rasp.indices, rasp.indices, operator.lt),
            rasp.elementwise(lambda place: place % 3, rasp.indices), -1,
        ),
        rasp.elementwise(lambda token: "same", rasp.tokens),
        rasp.pair(rasp.tokens, rasp.indices),
    ],
    ids=["two numbers at once", "a mean, or nothing selected", "a constant", "no attention"],
)  # fmt: skip
def test_every_kind_of_step_compiles(program):
    sequences = texts(60)
    compiled = rasp.compile_program(program, vocabulary="abcdef", length=8)
    assert compiled.batch(sequences) == [rasp.run(program, sequence) for sequence in sequences]


def test_what_cannot_be_computed_is_refused():
    program = rasp.histogram()
    compiled = rasp.compile_program(program, vocabulary="ab", length=3)
    with pytest.raises(BadInput, match=r"\['c'\] are not of the vocabulary"):
        compiled("abc")
    with pytest.raises(BadInput, match="a sequence of 4 tokens, compiled for 3"):
        compiled("abab")
    with pytest.raises(BadInput, match="a length of at least 1"):
        rasp.compile_program(program, vocabulary="ab", length=0)
    everywhere = rasp.select(rasp.tokens, rasp.tokens, lambda key, query: True)
    with pytest.raises(BadInput, match="several symbols are selected"):
        rasp.run(rasp.aggregate(everywhere, rasp.tokens, None), "ab")
