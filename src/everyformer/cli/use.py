"""`predict`, `generate`, `translate`, `forecast`, `embed`: use a run or a checkpoint on files, arguments or standard input."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from everyformer.cli.app import Format, Json, opened, print_json
from everyformer.errors import BadInput, EveryformerError

RunFolder = Annotated[Path, typer.Argument(help="A run's folder.")]
Folder = Annotated[Path, typer.Argument(help="A run's folder, or a checkpoint's in the Hugging Face format.")]
Inputs = Annotated[list[str] | None, typer.Argument(help="Texts or files; standard input, a line each, without any.")]

Strategy = Annotated[
    str | None,
    typer.Option(help="How tokens are chosen, with options: 'jacobi,block=8', 'contrastive', 'beam,size=3'."),
]
Policy = Annotated[str | None, typer.Option(help="Which tokens the cache keeps: 'tova,keep=0.5', 'sinks,window=256'.")]
Memories = Annotated[str | None, typer.Option(help="Which tokens of the source are kept: 'attendedsource,keep=0.5'.")]
Pattern = Annotated[str | None, typer.Option(help="A regular expression that the answer must match, or 'json'.")]
Storage = Annotated[str | None, typer.Option(help="How the cache holds them: 'kivi,bits=4'.")]

_ANSWERS = ("text", "label", "value", "forecast", "embedding")


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (predict, generate, translate, forecast, embed):
        app.command()(command)


def predict(
    run: Folder,
    inputs: Inputs = None,
    precision: Format = "fp32",
    as_json: Json = False,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write answers about pictures (masks, depths, boxes, lanes, ...) here, each with one to look at."
        ),
    ] = None,
) -> None:
    """Answer each input: a class with its probability, a mask, boxes, a translation, a forecast, as the run was trained to.

    A folder stands for the pictures in it.
    """
    _answer(run, inputs, precision, as_json, out=out)


def translate(
    run: RunFolder,
    inputs: Inputs = None,
    beam: Annotated[int | None, typer.Option(help="Beams; the recipe's by default.")] = None,
    strategy: Strategy = None,
    policy: Policy = None,
    storage: Storage = None,
    memories: Memories = None,
    pattern: Pattern = None,
    precision: Format = "fp32",
    as_json: Json = False,
) -> None:
    """Translate each text."""
    if beam is not None and strategy is not None:
        raise BadInput(f"--beam {beam} and --strategy {strategy} are two ways; give one")
    decoding = {"strategy": strategy} if beam is None else {"strategy": "beam", "size": beam}
    decoding |= {"policy": policy, "storage": storage, "memories": memories, "pattern": pattern}
    _answer(run, inputs, precision, as_json, task="translation", decoding=_given(decoding))


def generate(
    run: Folder,
    inputs: Inputs = None,
    tokens: Annotated[int, typer.Option(help="The most tokens to add.")] = 200,
    temperature: Annotated[
        float | None, typer.Option(help="0 takes the likeliest token each time; 0.8 by default.")
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="Draw from the k likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Draw from the likeliest tokens of this joint probability.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Same seed, same text; 0 by default.")] = None,
    strategy: Strategy = None,
    policy: Policy = None,
    storage: Storage = None,
    pattern: Pattern = None,
    precision: Format = "fp32",
    as_json: Json = False,
) -> None:
    """Continue each text: by sampling, where no other strategy is given."""
    decoding: dict[str, Any] = {"strategy": "sample", "temperature": 0.8, "seed": 0} if strategy is None else {}
    decoding |= _given({
        "strategy": strategy, "max_tokens": tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed,
        "policy": policy, "storage": storage, "pattern": pattern,
    })  # fmt: skip
    _answer(run, inputs, precision, as_json, task="language-modelling", decoding=decoding)


def forecast(run: RunFolder, inputs: Inputs = None, precision: Format = "fp32", as_json: Json = False) -> None:
    """Forecast the steps that follow the end of each CSV file, in the columns' own units."""
    _answer(run, inputs, precision, as_json, task="forecasting")


def embed(run: Folder, inputs: Inputs = None, precision: Format = "fp32") -> None:
    """Print one vector for each input, the mean of its tokens before the head, as JSON."""
    print_json(opened(run, precision).embed(_inputs(inputs)).tolist())


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _answer(
    folder: Path,
    inputs: list[str] | None,
    precision: str,
    as_json: bool,
    task: str | None = None,
    decoding: dict[str, Any] | None = None,
    out: Path | None = None,
) -> None:
    run = opened(folder, precision)
    if out is not None and getattr(run, "task", None) is None:
        raise EveryformerError(f"'{folder}' is a checkpoint, which writes no files; give a run's folder, or no --out")
    if task is not None:
        _refuse_other(run, folder, task)
    given = _inputs(inputs)
    answers = run.predict(given, decoding=decoding)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        run.task.write(given, answers, out)
    if as_json:
        return print_json(answers)
    for answer in answers:
        said = next((answer[name] for name in _ANSWERS if name in answer), answer)
        more = f"  ({answer['probability']:.3f})" if "probability" in answer else ""
        label = f"{answer['input']}: " if more and isinstance(answer.get("input"), str) else ""
        print(f"{label}{_text(said)}{more}")


def _refuse_other(run: Any, folder: Path, task: str) -> None:
    """Refuse a run of another task, and a checkpoint that cannot do it."""
    own = getattr(run, "task", None)
    if own is None and task == "forecasting":
        raise EveryformerError(f"'{folder}' is a checkpoint, which knows no units to forecast in; give a run's folder")
    if own is None and not run.writes:
        raise EveryformerError(f"'{folder}' is a {run.top}, which writes no text; use `everyformer predict` or `embed`")
    if own is not None and own.name != task:
        raise EveryformerError(f"'{folder}' is a run of {own.name}, not of {task}; use `everyformer predict`")


def _text(said: Any) -> str:
    if not isinstance(said, dict):
        return str(said)
    columns = list(said)
    rows = zip(*said.values(), strict=True)
    return "\n".join([",".join(columns), *(",".join(f"{v:.4f}" for v in row) for row in rows)])


def _inputs(given: list[str] | None) -> list[str]:
    if given:
        return [each for one in given for each in _inside(one)]
    if sys.stdin.isatty():
        raise BadInput("nothing to work on; give texts or files as arguments, or lines on standard input")
    lines = [line.rstrip("\n") for line in sys.stdin]
    if not lines:
        raise BadInput("standard input is empty; give a text or a file name on each line")
    return lines


def _inside(given: str) -> list[str]:
    """The pictures of a folder; anything else as it is."""
    if not Path(given).is_dir():
        return [given]
    from everyformer.data.files import PICTURES

    found = [str(path) for path in sorted(Path(given).iterdir()) if path.suffix.lower() in PICTURES]
    if not found:
        raise BadInput(f"the folder '{given}' has no picture ({', '.join(PICTURES)}); give one that has, or files")
    return found
