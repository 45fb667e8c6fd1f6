"""RASP: a language of what a transformer can do, its interpreter, and its compiler into weights.

from everyformer.interpret import rasp

histogram = rasp.selector_width(rasp.select(rasp.tokens, rasp.tokens, operator.eq))
rasp.run(histogram, "hello")                                              # [1, 1, 2, 2, 1]
rasp.compile_program(histogram, vocabulary="helo", length=8)("hello")       # the same, by a transformer
"""

from everyformer.interpret.rasp.compiler import Compiled, compile_program
from everyformer.interpret.rasp.language import (
    Selector,
    Sop,
    aggregate,
    elementwise,
    indices,
    pair,
    run,
    select,
    selector_width,
    tokens,
)
from everyformer.interpret.rasp.programs import dyck, histogram, length, reverse, sort

__all__ = [
    "Compiled", "Selector", "Sop", "aggregate", "compile_program", "dyck", "elementwise", "histogram", "indices",
    "length", "pair", "reverse", "run", "select", "selector_width", "sort", "tokens",
]  # fmt: skip
