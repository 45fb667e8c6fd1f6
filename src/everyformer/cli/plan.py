"""`plan`: what a training, or the use of a decoder, takes on a machine that need not be there."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from everyformer.cli.app import print_json, table

if TYPE_CHECKING:
    from everyformer.designs import Design
    from everyformer.devices import Device
    from everyformer.training.plan import TrainingPlan, Work

GIB = 2**30


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(plan)


def plan(
    name: Annotated[str, typer.Argument(help="A recipe (its data is opened), or a system.")],
    options: Annotated[list[str] | None, typer.Argument(help="training.batch=64, and of a system size=small.")] = None,
    device: Annotated[str, typer.Option(help="a100, h100, h200, b200, mi300x, l4, rtx-4090 or tpu-v4.")] = "h100",
    devices: Annotated[int, typer.Option(help="How many of them.")] = 1,
    memory: Annotated[float | None, typer.Option(help="GiB of a device, in place of its own.")] = None,
    peak: Annotated[float | None, typer.Option(help="TFLOP/s of a device, in place of its own.")] = None,
    utilisation: Annotated[float, typer.Option(help="The share of the peak that is reached.")] = 0.4,
    precision: Annotated[str | None, typer.Option(help="bf16 or fp32; the recipe's by default.")] = None,
    batch: Annotated[int, typer.Option(help="Samples in a step of a system, or sequences with --serve.")] = 64,
    length: Annotated[int | None, typer.Option(help="Tokens of a text.")] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Plan the use of a decoder instead of its training.")] = False,
    weight_bytes: Annotated[float, typer.Option(help="Bytes of a weight with --serve: 2, or 1 for int8.")] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell parameters, memory, FLOPs, time and the devices needed; nothing is computed and no device is asked."""
    from everyformer.devices import find_device
    from everyformer.errors import UnknownName
    from everyformer.training.plan import facts
    from everyformer.training.plan import plan as plan_training

    if precision not in (None, "bf16", "fp32"):
        raise UnknownName("precision", str(precision), ("bf16", "fp32"))
    chosen = find_device(device)
    if memory is not None:
        chosen = replace(chosen, memory=memory * GIB)
    if peak is not None:
        chosen = replace(chosen, bf16=peak * 1e12, fp32=peak * 1e12)
    if serve:
        return _serve(_design(name, options or []), chosen, devices, batch, length or 2048, weight_bytes, as_json)
    work = _work(name, options or [], batch, length, precision)
    made = plan_training(work, chosen, devices=devices, utilisation=utilisation)
    if as_json:
        return print_json(facts(made))
    _print(made, utilisation)


def _design(name: str, options: list[str]) -> Design:
    from everyformer import design
    from everyformer.cli.browse import read_options

    return design(name, **read_options(options))


def _work(name: str, options: list[str], batch: int, length: int | None, precision: str | None) -> Work:
    from pathlib import Path

    from everyformer.recipe import Training, known_recipes, load_recipe, read_overrides
    from everyformer.training.plan import of_design, of_recipe

    if name in known_recipes() or Path(name).suffix in (".yaml", ".yml"):
        return of_recipe(load_recipe(name, options), precision)
    asked = [each for each in options if each.startswith("training.")]
    training = Training(
        **{"steps": 1, "batch": batch, "precision": "bf16", **read_overrides(asked).get("training", {})}
    )
    design = _design(name, [each for each in options if each not in asked])
    return of_design(design, samples=training.batch, length=length, training=training, precision=precision)


def _print(made: TrainingPlan, utilisation: float) -> None:
    from everyformer.training.progress import clock

    per_step = made.samples * made.tokens
    print(
        f"{made.parameters:,} parameters; a sample has {made.tokens:,} tokens and takes {_units(made.flops, 'FLOPs')} in "
        f"training ({_units(made.flops / made.tokens, 'FLOPs')} a token), {_units(made.forward_flops, 'FLOPs')} forward alone"
    )
    print(f"a step: {made.samples:,} samples, {per_step:,} tokens, {_units(made.samples * made.flops, 'FLOPs')}\n")
    rows = []
    for each in made.spreads:
        sizes = (each.weights, each.gradients, each.optimizer, each.cost.activations, each.peak)
        fits = "yes" if made.fits(each) else "no"
        rows.append([each.strategy, *(_size(size) for size in sizes), fits, f"{1000 * each.seconds:.3g} ms"])
    print(f"each of {made.devices} x {made.device.name} ({made.device.memory / GIB:.0f} GiB), {made.precision}:")
    table(["strategy", "weights", "gradients", "optimiser", "activations", "peak", "fits", "communication"], rows)
    pace = _units(per_step / made.seconds, "tokens/s")
    whole = f"; {made.steps:,} steps take {clock(made.steps * made.seconds)}" if made.steps and made.steps > 1 else ""
    print(f"{made.seconds:.3g} s a step at {utilisation:.0%} of {made.device.name}'s peak, {pace}{whole}")
    if made.needed is None:
        print("no number of devices has room for one sample: shorten it, or cut the layers themselves")
    else:
        print(f"needs at least {made.needed} x {made.device.name}{' with fsdp' if made.needed > 1 else ''}")


def _serve(
    design: Design, device: Device, devices: int, batch: int, length: int, weight_bytes: float, as_json: bool
) -> None:
    """The best layouts for reading a prompt of `length` tokens and for each token that follows."""
    from everyformer.costs import on_meta
    from everyformer.generation.partition import Shape, partition

    shape = Shape.of(on_meta(design))
    shared: dict[str, Any] = {"device": device, "chips": devices, "batch": batch, "weight_bytes": weight_bytes}
    found = {
        "prompt": partition(shape, length=length, **shared),
        "token": partition(shape, length=1, context=length, **shared),
    }
    if as_json:
        return print_json({name: [asdict(each) for each in layouts] for name, layouts in found.items()})
    print(f"{shape.parameters:,} parameters on {devices} x {device.name}, {batch} sequences after {length:,} tokens")
    rows = []
    for name, layouts in found.items():
        for each in layouts[:3]:
            times = (each.seconds, each.compute, each.loading, each.sending)
            fits = "yes" if each.memory <= device.memory else "no"
            rows.append([name, str(each), *(f"{1000 * t:.3g} ms" for t in times), _size(each.memory), fits])
    table(["step", "layout", "time", "arithmetic", "memory traffic", "communication", "memory", "fits"], rows)


def _units(count: float, what: str) -> str:
    from everyformer.report.comparison import short

    number, _, unit = short(count).partition(" ")
    return f"{number} {unit}{what}"


def _size(count: float) -> str:
    return f"{count / GIB:.3g} GiB" if count >= GIB else f"{count / 2**20:.3g} MiB"
