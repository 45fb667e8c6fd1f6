"""A discrete transformer as the text of a Python program (Friedman et al., Learning Transformer Programs, 2023, section 3.4)."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from everyformer.errors import DoesNotFit
from everyformer.interpret.discrete import DiscreteAttention, Tables
from everyformer.registry import method

_BEGIN = '''"""A transformer, printed. run(tokens) gives an answer for each token, the first of which is {first!r}."""


def nearest(keys, queries, fits):
    """For each query the place of the nearest key that fits, the earlier of two and its own last; 0 where none does."""
    places = []
    for here, query in enumerate(queries):
        found = [there for there, key in enumerate(keys) if fits(query, key)]
        places.append(min(found, key=lambda there: (there == here, abs(there - here), there), default=0))
    return places


def total(keys, queries, fits, numbers):
    """For each query the sum of the numbers where the key fits."""
    return [sum(n for key, n in zip(keys, numbers) if fits(query, key)) for query in queries]
'''


@method(
    "transformer-programs",
    title="Learning Transformer Programs",
    authors="Friedman et al.",
    year=2023,
    arxiv="2306.01128",
    idea="Train a transformer whose heads and feedforwards are discrete rules on named variables, and print it as a program.",
)
@torch.no_grad()
def as_program(model: nn.Module, tokens: Sequence[Any], classes: Sequence[Any]) -> str:
    """The Python program that gives what a trained `discrete` model gives, with the names of its tokens and classes.

    It needs nothing but Python: `exec` it, or save it, and call `run(tokens)`.
    """
    blocks: Any = getattr(getattr(model, "backbone", None), "blocks", ())
    if not blocks or not all(isinstance(block.mixer, DiscreteAttention) for block in blocks):
        raise DoesNotFit("a program is printed from a model that interpret.discrete designed", "backbone")
    text = _Text(tokens)
    for number, block in enumerate(blocks):
        text.attention(number, block.mixer)
        text.tables(number, block.feedforward)
    return text.whole(model.head, classes)  # type: ignore[arg-type]


class _Text:
    """The functions of a program so far, the lines of its `run`, and the variables that these have made."""

    def __init__(self, tokens: Sequence[Any]) -> None:
        self.first = tokens[0]
        self.functions: list[str] = []
        self.lines = ["token, position, one = list(tokens), list(range(len(tokens))), [1] * len(tokens)"]
        self.variables, self.numbers = ["token", "position"], ["one"]
        self.names: dict[str, Sequence[Any]] = {"token": tokens}
        """What the values of a variable are called, where that is not a number."""
        self.most = {"one": 1}
        """How large a number can be."""

    def value(self, variable: str, number: int) -> Any:
        """What a value of a variable is called; of those without a name the number, which never stands there."""
        named = self.names.get(variable)
        return number if named is None or number >= len(named) else named[number]

    def attention(self, layer: int, mixer: DiscreteAttention) -> None:
        """A function of what fits for each head, and the line that uses it."""
        variables, numbers = list(self.variables), list(self.numbers)
        choices = [each.taken().tolist() for each in (mixer.query, mixer.key, mixer.value, mixer.number)]
        queries, keys, values, counts = choices
        length = mixer.variables.size
        for head, wanted in enumerate(mixer.wanted.taken().tolist()):
            query, key = variables[queries[head]], variables[keys[head]]
            name = f"fits_{layer}_{head}"
            self.functions.append(self.predicate(name, query, key, wanted))
            if head < mixer.copying:
                made, source = f"copy_{layer}_{head}", variables[values[head]]
                self.lines.append(f"{made} = [{source}[i] for i in nearest({key}, {query}, {name})]")
                if source in self.names:
                    self.names[made] = self.names[source]
                self.variables.append(made)
            else:
                made, source = f"count_{layer}_{head - mixer.copying}", numbers[counts[head - mixer.copying]]
                self.lines.append(f"{made} = total({key}, {query}, {name}, {source})")
                self.most[made] = length * self.most[source]
                self.numbers.append(made)

    def predicate(self, name: str, query: str, key: str, wanted: list[int]) -> str:
        """A function that says which key value each query value looks for."""
        lines = [f"def {name}(query, key):", f'    """{query} looks for {key}."""']
        word = "if"
        for value in sorted(set(wanted)):
            looking = [self.value(query, i) for i, each in enumerate(wanted) if each == value]
            lines += [f"    {word} query in {_listed(looking)}:", f"        return key == {self.value(key, value)!r}"]
            word = "elif"
        return "\n".join(lines)

    def tables(self, layer: int, tables: Tables) -> None:
        """A dictionary for each feedforward, of all values that it may read."""
        size = tables.variables.size
        variables, numbers = list(self.variables), list(self.numbers)
        for i, (inner, read) in enumerate(zip(tables.of_variables, tables.reads.taken().tolist(), strict=True)):
            names = [variables[each] for each in read]
            both = torch.eye(size)
            rows = torch.cat((both.repeat_interleave(size, 0), both.repeat(size, 1)), 1)
            answers = inner(rows.to(_like(inner))).argmax(-1).tolist()
            pairs = itertools.product(range(size), repeat=2)
            keys = [tuple(self.value(name, each) for name, each in zip(names, pair, strict=True)) for pair in pairs]
            self.table(f"table_{layer}_{i}", names, dict(zip(keys, answers, strict=True)))
        for i, (inner, read) in enumerate(zip(tables.of_numbers, tables.counts.taken().tolist(), strict=True)):
            names = [numbers[each] for each in read]
            met = list(itertools.product(*(range(self.most[name] + 1) for name in names)))
            answers = inner(torch.tensor(met).to(_like(inner))).argmax(-1).tolist()
            self.table(f"table_{layer}_{len(tables.of_variables) + i}", names, dict(zip(met, answers, strict=True)))

    def table(self, name: str, reads: list[str], answers: dict[Any, int]) -> None:
        """A function that looks up what is not the most frequent answer."""
        usual = max(set(answers.values()), key=list(answers.values()).count)
        rare = {key: answer for key, answer in answers.items() if answer != usual}
        self.functions.append(
            f'def {name}(*values):\n    """Of {reads[0]} and {reads[1]}."""\n    return {rare!r}.get(values, {usual})'
        )
        made = name.replace("table", "said")
        self.lines.append(f"{made} = [{name}(*both) for both in zip({reads[0]}, {reads[1]})]")
        self.variables.append(made)

    def whole(self, head: Any, classes: Sequence[Any]) -> str:
        """The program: its functions, the weights of each class for each value, and `run`."""
        weight, count = head.project.weight, len(self.variables)
        size = (weight.shape[1] - len(self.numbers)) // count
        rows = weight.mT.double().tolist()
        scores = {
            variable: {self.value(variable, i): rows[size * v + i] for i in reversed(range(size))}
            for v, variable in enumerate(self.variables)
        }
        slopes = {number: rows[size * count + i] for i, number in enumerate(self.numbers)}
        weights = [
            f"CLASSES = {list(classes)!r}", f"BIAS = {head.project.bias.double().tolist()!r}",
            *(f"OF_{variable.upper()} = {table!r}" for variable, table in scores.items()),
            *(f"BY_{number.upper()} = {slope!r}" for number, slope in slopes.items()),
        ]  # fmt: skip
        terms = [f"OF_{name.upper()}[{name}[i]][c]" for name in scores] + [
            f"BY_{name.upper()}[c] * {name}[i]" for name in slopes
        ]
        run = [
            "def run(tokens):", '    """An answer for each token."""', *(f"    {line}" for line in self.lines),
            "    answers = []", "    for i in range(len(tokens)):", "        scores = [", "            BIAS[c]",
            *(f"            + {term}" for term in terms), "            for c in range(len(CLASSES))", "        ]",
            "        answers.append(CLASSES[scores.index(max(scores))])", "    return answers",
        ]  # fmt: skip
        parts = [_BEGIN.format(first=self.first).rstrip(), *self.functions, "\n".join(weights), "\n".join(run)]
        return "\n\n\n".join(parts) + "\n"


def _listed(values: Iterable[Any]) -> str:
    return "(" + ", ".join(map(repr, values)) + ",)"


def _like(inner: nn.Module) -> torch.dtype:
    return next(inner.parameters()).dtype
