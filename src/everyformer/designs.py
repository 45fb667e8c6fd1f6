"""Design: the spec of a whole model, with paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from everyformer.errors import DoesNotFit, EveryformerError, nearest
from everyformer.specs import Spec, from_plain, runs, signature, to_plain

Edit = Spec[Any] | Callable[[Spec[Any]], Spec[Any]]


@dataclass(frozen=True)
class Design:
    """The spec of a whole model. Paths name its parts as the built model's modules are named."""

    spec: Spec[Any]
    name: str = ""
    """The system it began as, if any."""

    def walk(self) -> Iterator[tuple[str, Spec[Any]]]:
        """Every part with its path, the outer ones first."""
        yield from _walk(self.spec, "")

    def find(self, pattern: str) -> list[str]:
        """The paths of parts that match; `*` stands for one step or some of its letters, `**` for any number."""
        return [path for path, _ in self.walk() if path and matches(path, pattern)]

    def get(self, path: str) -> Any:
        """The part or option at one path."""
        here: Any = self.spec
        steps = path.split(".")
        while steps:
            used, here = _step(here, steps, path)
            steps = steps[used:]
        return here

    def linears(self) -> list[str]:
        """The paths of the plain linear maps inside the parts, for which other forms can stand; tied ones are left out."""
        model = self.build(device="meta")
        users = Counter(id(each) for module in model.modules() for each in module._parameters.values())
        found = {}
        for path, _ in self.walk():
            for _, _, part in parts_at(model, path):
                for name, linear in part.plain_maps().items():
                    if users[id(linear.weight)] == 1:
                        found[f"{path}.{name}" if path else name] = True
        return [*found]

    def swap(self, pattern: str | Sequence[str], new: Edit) -> Design:
        """Exchange every part at `pattern`, or at several, for another one, or for what a function makes of it.

        A linear map inside a part can be exchanged as well (`backbone.blocks.*.mixer.qkv`), for another form of it; the
        function is given None for one that is plain.
        """
        return self.exchange(self.places(pattern), new)

    def exchange(self, paths: list[str], new: Edit) -> Design:
        """The same at exact paths, as `places` gives them."""
        return self._edit(paths, lambda old: new(old) if not isinstance(new, Spec) else new)

    def set(self, pattern: str, value: Any) -> Design:
        """Change an option of every part that matches: `set("backbone.blocks.*.mixer.heads", 4)`."""
        place, _, option = pattern.rpartition(".")
        paths = self._found(place) if place else [""]
        return self._edit(paths, lambda old: old.but(**{option: value}))

    def insert(self, path: str, new: Spec[Any]) -> Design:
        """Put a part before the one at `path` in a list of parts (`backbone.blocks.4`); one past the end appends."""
        place, _, index = path.rpartition(".")
        parent, _, option = place.rpartition(".")
        listed = self.get(place) if place else None
        if not isinstance(listed, tuple) or not index.isdigit() or int(index) > len(listed):
            raise EveryformerError(
                f"cannot insert at '{path}': expected a place in a list of parts, such as 'backbone.blocks.0'"
            )
        at = int(index)
        return self._edit([parent], lambda old: old.but(**{option: (*listed[:at], new, *listed[at:])}))

    def remove(self, pattern: str) -> Design:
        """Take out every part that matches: from a list of parts, where it may be absent, or where it stands for a plain map."""
        design, forms = self, self.forms()
        for path in reversed(self._found(pattern)):
            place, _, last = path.rpartition(".")
            if path in forms:
                design = design._edit([path], lambda _: None)
            elif last.isdigit():
                parent, _, option = place.rpartition(".")
                listed = design.get(place)
                kept = tuple(s for i, s in enumerate(listed) if i != int(last))
                design = design._edit([parent], lambda old, o=option, k=kept: old.but(**{o: k}))  # type: ignore[misc]
            else:
                design = design._edit([place], lambda old, o=last: old.but(**{o: None}))  # type: ignore[misc]
        return design

    def diff(self, other: Design) -> str:
        """What must change in `other` to give this design: a line a part or option, '-' there, '+' here."""
        lines: list[str] = []
        _diff("", other.spec, self.spec, lines)
        return "\n".join(_fold(lines)) or "no difference"

    def build(self, *, seed: int | None = None, device: str | torch.device | None = None) -> Any:
        """Make the model; `seed` fixes its initial weights without touching the global generator."""
        with seeded(seed), torch.device(device or "cpu"):
            model = self.spec.build()
        model.system = self.name
        return model

    def to_yaml(self) -> str:
        """The design as YAML."""
        import yaml

        return yaml.safe_dump({"system": self.name, "design": to_plain(self.spec)}, sort_keys=False, width=120)

    @staticmethod
    def from_yaml(text: str) -> Design:
        """The design that `to_yaml` wrote."""
        import yaml

        try:
            plain = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise EveryformerError(f"a design is read from YAML, and this is not YAML: {error}") from None
        if not isinstance(plain, dict) or "design" not in plain:
            raise EveryformerError("expected YAML with a key 'design', as Design.to_yaml writes it")
        return Design(from_plain(plain["design"]), plain.get("system") or "")

    def __str__(self) -> str:
        from everyformer.costs import tree

        return tree(self)

    def forms(self) -> list[str]:
        """The paths of what stands for a linear map inside a part."""
        return [f"{path}.{name}" if path else name for path, spec in self.walk() for name in spec.maps]

    def places(self, pattern: str | Sequence[str]) -> list[str]:
        """What `swap` exchanges: the parts that match, or, where none does, the linear maps inside parts."""
        patterns = [pattern] if isinstance(pattern, str) else pattern
        found = [path for each in patterns for path in self.find(each)]
        if not set(found) <= set(self.forms()):
            return found
        plain = [path for path in self.linears() if any(matches(path, each) for each in patterns)]
        return found + plain or self._found(patterns[0])

    def _found(self, pattern: str) -> list[str]:
        found = self.find(pattern)
        if not found:
            known = [path for path, _ in self.walk() if path]
            raise EveryformerError(f"no part at '{pattern}' in this design; {nearest(pattern, known)}")
        return found

    def _edit(self, paths: list[str], change: Callable[[Spec[Any]], Any]) -> Design:
        changed: Any = self.spec
        for path in sorted(paths, key=len, reverse=True):
            changed = _changed(changed, path.split(".") if path else [], change)
        return Design(changed, self.name)


def matches(path: str, pattern: str) -> bool:
    """Whether a path matches a pattern with `*` and `**`."""
    return _matches(path.split("."), pattern.split("."))


def _matches(path: list[str], pattern: list[str]) -> bool:
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(_matches(path[i:], pattern[1:]) for i in range(len(path) + 1))
    return bool(path) and fnmatchcase(path[0], pattern[0]) and _matches(path[1:], pattern[1:])


def _walk(value: Any, path: str) -> Iterator[tuple[str, Spec[Any]]]:
    if isinstance(value, Spec):
        yield path, value
        for option in signature(value.part):
            inner = value.get(option)
            if isinstance(inner, (Spec, tuple)):
                yield from _walk(inner, f"{path}.{option}" if path else option)
        for name, form in value.maps.items():
            yield from _walk(form, f"{path}.{name}" if path else name)
    elif isinstance(value, tuple):
        for i, each in enumerate(value):
            yield from _walk(each, f"{path}.{i}")


def _step(here: Any, steps: list[str], path: str) -> tuple[int, Any]:
    """How many steps lead to the next part or option, and what stands there."""
    step = steps[0]
    if isinstance(here, Spec):
        used = _form(here, steps)
        if used:
            return used, here.maps[".".join(steps[:used])]
        known = signature(here.part)
        if step in known:
            return 1, here.get(step)
        raise EveryformerError(f"no '{step}' in {here.name} on the way to '{path}'; {nearest(step, known)}")
    if isinstance(here, tuple):
        if not step.isdigit() or int(step) >= len(here):
            raise EveryformerError(f"no place '{step}' on the way to '{path}': a list of {len(here)} parts")
        return 1, here[int(step)]
    raise EveryformerError(f"nothing inside {here!r} on the way to '{path}'")


def _form(here: Spec[Any], steps: list[str]) -> int:
    """How many of the steps name something that stands for a linear map of this part; a name may have several."""
    return next((n for n in range(len(steps), 0, -1) if ".".join(steps[:n]) in here.maps), 0)


def _changed(value: Any, steps: list[str], change: Callable[[Spec[Any]], Any]) -> Any:
    if not steps:
        return change(value)
    first, *rest = steps
    holds = not isinstance(value, Spec) or (
        first in signature(value.part) and isinstance(value.get(first), (Spec, tuple))
    )
    if not holds:
        used = _form(value, steps) or len(steps)
        name = ".".join(steps[:used])
        return value.map({name: _changed(value.maps.get(name), steps[used:], change)})
    try:
        inner = _changed(value[int(first)] if isinstance(value, tuple) else value.get(first), rest, change)
    except DoesNotFit as error:
        raise error.inside(first) from None
    if isinstance(value, Spec):
        return value.but(**{first: inner})
    return (*value[: int(first)], inner, *value[int(first) + 1 :])


def _diff(path: str, old: Any, new: Any, lines: list[str]) -> None:
    if old == new:
        return
    if isinstance(old, Spec) and isinstance(new, Spec) and old.part is new.part:
        for option in signature(old.part):
            _diff(f"{path}.{option}" if path else option, old.get(option), new.get(option), lines)
        for name in {**old.maps, **new.maps}:
            _diff(f"{path}.{name}" if path else name, old.maps.get(name), new.maps.get(name), lines)
    elif isinstance(old, tuple) and isinstance(new, tuple) and any(isinstance(v, Spec) for v in old + new):
        from difflib import SequenceMatcher

        matcher = SequenceMatcher(a=[hash(v) for v in old], b=[hash(v) for v in new], autojunk=False)
        for kind, a0, a1, b0, b1 in matcher.get_opcodes():
            if kind == "replace" and a1 - a0 == b1 - b0:
                for i, (a, b) in enumerate(zip(old[a0:a1], new[b0:b1], strict=True)):
                    _diff(f"{path}.{a0 + i}", a, b, lines)
            elif kind != "equal":
                lines += [f"- {path}.{a0 + i}: {v!r}" for i, v in enumerate(old[a0:a1])]
                lines += [f"+ {path}.{b0 + i}: {v!r}" for i, v in enumerate(new[b0:b1])]
    else:
        lines += [f"- {path}: {old!r}", f"+ {path}: {new!r}"]


def _fold(lines: list[str]) -> list[str]:
    """One line for the same change at many numbers: 'blocks.{0..11}.mixer'."""
    folded: dict[str, list[int]] = {}
    order: list[tuple[str, int | None]] = []
    for line in lines:
        path, _, rest = line.partition(": ")
        steps = path.split(".")
        numbers = [i for i, s in enumerate(steps) if s.isdigit()]
        if not numbers:
            order.append((line, None))
            continue
        at = numbers[0]
        key = ".".join([*steps[:at], "{}", *steps[at + 1 :]]) + ": " + rest
        if key not in folded:
            folded[key] = []
            order.append((key, at))
        folded[key].append(int(steps[at]))
    shown = []
    for key, first in order:
        if first is None:
            shown.append(key)
            continue
        found = folded[key]
        whole = found == list(range(found[0], found[-1] + 1)) and len(found) > 1
        text = f"{found[0]}..{found[-1]}" if whole else ",".join(map(str, found))
        shown.append(key.replace("{}", f"{{{text}}}" if len(found) > 1 else text, 1))
    return shown


def design_of(model: nn.Module) -> Design:
    """The design that a model was built from, its edits included."""
    made_from = getattr(model, "spec", None)
    if not isinstance(made_from, Spec):
        raise EveryformerError(f"{type(model).__name__} was not built from a design; build it with ef.create(...)")
    return Design(made_from, getattr(model, "system", ""))


@contextmanager
def seeded(seed: int | None) -> Iterator[None]:
    """Random numbers from a seed, if given, and the global generator afterwards as it was."""
    with torch.random.fork_rng(enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        yield


def parts_at(model: nn.Module, path: str) -> list[tuple[nn.Module, str, nn.Module]]:
    """The modules built from the spec at a path, each with its holder and its name there.

    A spec that its holder builds several times (the residual around each layer of a block) gives several.
    """
    found: list[tuple[nn.Module, str, nn.Module]] = [(model, "", model)]
    for step in path.split(".") if path else []:
        reached = []
        for _, _, module in found:
            copies = isinstance(module, nn.ModuleList) and not step.isdigit()
            for inner in module if copies else [module]:  # type: ignore[attr-defined]
                child = inner._modules.get(step)
                if child is not None:
                    reached.append((inner, step, child))
        found = reached
    copied: list[tuple[nn.Module, str, nn.Module]] = []
    for holder, name, module in found:
        if isinstance(module, nn.ModuleList):
            copied += [(module, str(i), each) for i, each in enumerate(module)]
        else:
            copied.append((holder, name, module))
    return copied


def tree_lines(design: Design) -> list[tuple[int, str, str, Spec[Any], int]]:
    """The parts as (depth, label, path, spec, times), equal neighbours in a list shown once."""
    lines: list[tuple[int, str, str, Spec[Any], int]] = []

    def visit(depth: int, label: str, path: str, each: Spec[Any], times: int) -> None:
        lines.append((depth, label, path, each, times))
        for option in signature(each.part):
            value = each.get(option)
            inner = f"{path}.{option}" if path else option
            if isinstance(value, Spec):
                visit(depth + 1, option, inner, value, 1)
            elif isinstance(value, tuple):
                at = 0
                for count, one in runs(value):
                    if isinstance(one, Spec):
                        label = f"{option}.{at}" if count == 1 else f"{option}.{at}..{at + count - 1}"
                        visit(depth + 1, label, f"{inner}.{at}", one, count)
                    at += count
        for name, form in each.maps.items():
            visit(depth + 1, name, f"{path}.{name}" if path else name, form, 1)

    visit(0, design.name or "model", "", design.spec, 1)
    return lines
