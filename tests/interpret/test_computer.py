"""A transformer in a loop carries out SUBLEQ programs as the interpreter does."""

import random

import pytest
import torch

from everyformer.costs import parameters
from everyformer.errors import BadInput
from everyformer.interpret import computer, subleq


def follow(machine, memory, program, turns):
    """Whether memory and place are the interpreter's after every turn."""
    stream, place = machine.load(memory, program), 0
    memory = memory + [0] * (machine.cells - len(memory))
    program = program + [(machine.cells - 1,) * 2 + (i,) for i in range(len(program), machine.cells)]
    for _ in range(turns):
        stream = machine.run(stream, 1)
        memory, place = subleq(memory, program, machine.bits, place)
        if machine.memory(stream) != memory or machine.place(stream) != place:
            return False
    return True


@pytest.mark.parametrize("cells", [4, 16])
def test_random_programs_run_as_the_interpreter_runs_them(cells):
    machine, drawn = computer(cells, 6), random.Random(cells)
    for _ in range(4):
        memory = [drawn.randrange(-32, 32) for _ in range(cells)]
        program = [tuple(drawn.randrange(cells) for _ in range(3)) for _ in range(cells)]
        assert follow(machine, memory, program, 40)


def test_it_multiplies():
    """Word 2 becomes word 0 times word 1; word 3 holds 1, word 4 nothing."""
    program = [(1, 4, 1), (4, 2, 2), (4, 4, 3), (3, 0, 5), (7, 7, 0), (7, 7, 5)]
    machine = computer(8)
    stream = machine.run(machine.load([6, 7, 0, 1], program), 40)
    assert machine.memory(stream)[2] == 42
    assert machine.place(stream) == 5
    assert torch.equal(machine.run(stream, 10), stream)


def test_without_sharp_scores_it_fails_and_small_errors_are_not_passed_on():
    drawn = random.Random(0)
    memory = [drawn.randrange(-32, 32) for _ in range(8)]
    program = [tuple(drawn.randrange(8) for _ in range(3)) for _ in range(8)]
    assert follow(computer(8, 6, sharp=4.0), memory, program, 40)
    assert not follow(computer(8, 6, sharp=1.0), memory, program, 40)


def test_the_layers_stay_as_the_memory_grows():
    small, large = (computer(cells).loop for cells in (8, 64))
    assert len(small.blocks) == len(large.blocks) == 4
    assert parameters(large) < 3 * parameters(small)


def test_what_it_cannot_hold_is_refused():
    with pytest.raises(BadInput, match="a power of 2 of at least 4 cells.*given 6 and 8"):
        computer(6)
    with pytest.raises(BadInput, match="words of -128 to 127"):
        computer(4).load([128], [])
    with pytest.raises(BadInput, match="addresses 0 to 3"):
        computer(4).load([], [(0, 4, 1)])
