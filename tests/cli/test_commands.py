"""The commands, in this process: what they print, and that wrong use ends in one message and nothing lost."""

from __future__ import annotations

import errno
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from everyformer import cli
from everyformer.evidence import Finding, harness
from everyformer.evidence.harness import Experiment
from everyformer.registry import find_published
from everyformer.training import files
from support.tiny_data import boxed, masked, mixed_pictures, pairs, pictures, sentence, series, table

QUICK = ["training.steps=2", "training.threads=1", "training.precision=fp32"]


@dataclass
class Said:
    code: int
    out: str
    err: str

    def refused(self, *words: str, code: int = 2) -> None:
        assert self.code == code, self.err or self.out
        assert "Traceback" not in self.err
        for word in words:
            assert word in self.err, self.err


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def command(*words: str, given: str | None = None) -> Said:
        monkeypatch.setattr(sys, "argv", ["everyformer", *map(str, words)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(given or ""))
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return command


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import numpy as np

    folder = tmp_path_factory.mktemp("own")
    pictures(folder / "pictures")
    series(folder / "series.csv", 200)
    words = [sentence(np.random.default_rng(i)) for i in range(60)]
    table(folder / "texts.csv", [{"text": words[i], "label": "ab"[i % 2]} for i in range(60)])
    (folder / "book.txt").write_text("\n".join(words))
    return folder


def trained(run: Any, own: Path, name: str, folder: Path, *more: str) -> Path:
    said = run("train", own / name, *QUICK, *more, "--out", folder)
    assert said.code == 0, said.err
    return folder


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['everyformer', 'train', '--help']\n"
        "from everyformer.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--resume" in done.stdout


def test_list_and_show(run: Any) -> None:
    assert {"vit", "bert"} <= {row["name"] for row in json.loads(run("list", "--json").out)}
    assert "pictures" in run("list", "--recipes").out
    assert "Attention" in run("list", "--room", "mixers").out
    shown = json.loads(run("show", "vit", "size=tiny", "depth=1", "--json").out)
    assert shown["parameters"] > 0
    assert "backbone" in run("show", "vit", "size=tiny", "depth=1").out


def test_show_the_kernels_of_a_system(run: Any) -> None:
    said = run("show", "vit", "size=tiny", "depth=2", "--kernels").out
    assert "backbone.blocks.1.mixer" in said
    assert "on cpu in" in said or "on cuda in" in said
    plain = json.loads(run("show", "fnet", "vocabulary=20", "depth=1", "width=16", "--kernels", "--json").out)
    assert {row["kernel"] for row in plain["kernels"]} == {"no attention"}


def test_list_and_show_a_method(run: Any, a_method: str) -> None:
    assert {
        "name": a_method,
        "year": 2024,
        "tasks": ["a trained model"],
        "sizes": [],
        "idea": "Keep half.",
    } in json.loads(run("list", "--json").out)
    assert "applied to a trained model: ef.compression.halve(model, share)" in run("show", a_method).out
    assert json.loads(run("show", a_method, "--json").out)["call"] == "ef.compression.halve(model, share)"
    run("show", a_method, "share=1").refused("is a method and takes no options")


def test_pictures_from_folder_to_answers(run: Any, own: Path, tmp_path: Path) -> None:
    folder = trained(run, own, "pictures", tmp_path / "run")
    assert "commonest class" in json.loads((folder / "result.json").read_text())["baseline"]["name"]
    score = json.loads(run("evaluate", folder, "--json").out)
    assert score["samples"] == 18
    picture = own / "pictures" / "test" / "cat" / "0.png"
    answers = json.loads(run("predict", folder, "--json", given=f"{picture}\n").out)
    assert answers[0]["label"] in ("cat", "dog")
    assert len(json.loads(run("embed", folder, picture).out)[0]) == 64
    page = tmp_path / "look.html"
    assert str(page) in run("look", folder, picture, "--out", page, "--no-open").out
    assert page.read_text().startswith("<!doctype html>")
    run("look", folder, picture, "--no-open", "--layers", "90").refused("no attention in layers [90]")
    run("look", folder, picture, "--no-open", "--layers", "a").refused("such as 0,5")
    run("translate", folder, "hello").refused("image-classification", "everyformer predict")
    run("predict", folder, own / "book.txt").refused("no picture that can be read")
    run("predict", folder).refused("standard input is empty")


QUERIES = {
    "detr": {
        "task": "detection", "data": {"size": [32, 32], "surest": 0.0},
        "design": {"stem": 4, "convs": [1, 1], "width": 16, "depth": 1, "decoder_depth": 1, "heads": 2, "hidden": 16, "queries": 4},
    },
    "mask2former": {
        "task": "segmentation", "data": {"size": [32, 32], "ignored": [255]}, "objective": {"of": "binary masks"},
        "design": {
            "width": 8, "depths": [1, 1], "heads": [2, 2], "window": 4, "hidden": 16, "levels": 1, "pixel_depth": 1,
            "decoder_depth": 1, "decoder_heads": 2, "mlp": 16, "pixel_mlp": 16, "queries": 4, "groups": 2,
        },
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "made", "wanted"),
    [("detr", boxed, {"detections.json", "0_overlay.png"}), ("mask2former", masked, {"masks.json", "0.png", "0_overlay.png"})],
)  # fmt: skip
def test_queries_answer_a_folder_in_files_and_are_looked_at(
    run: Any, tmp_path: Path, name: str, made: Any, wanted: set[str]
) -> None:
    data = made(tmp_path / "data")
    recipe = {**QUERIES[name], "training": {"steps": 1, "threads": 1, "precision": "fp32"}}
    recipe["design"] = {"system": name, **recipe["design"]}
    recipe["data"] = {"path": str(data), **recipe["data"]}
    (tmp_path / "own.yaml").write_text(json.dumps(recipe))
    said = run("train", tmp_path / "own.yaml", "--out", tmp_path / "run")
    assert said.code == 0, said.err
    folder = data / "test" / "images" if name == "mask2former" else data / "test"
    said = run("predict", tmp_path / "run", folder, "--out", tmp_path / "answers")
    assert said.code == 0, said.err
    assert wanted <= {path.name for path in (tmp_path / "answers").iterdir()}
    written = json.loads(next((tmp_path / "answers").glob("*.json")).read_text())
    assert [each["file_name"] for each in written["images"]] == sorted(path.name for path in folder.glob("*.png"))
    assert written["annotations"]
    page = tmp_path / "look.html"
    said = run("look", tmp_path / "run", folder / "0.png", "--view", "queries", "--out", page, "--no-open")
    assert said.code == 0, said.err
    assert '"open":"queries"' in page.read_text()


def test_pictures_keep_their_sizes_by_one_word(run: Any, own: Path, tmp_path: Path) -> None:
    mixed_pictures(tmp_path / "mixed")
    folder = trained(run, tmp_path, "mixed", tmp_path / "run", "data.fit=keep")
    pictures = sorted((tmp_path / "mixed").glob("*/*.png"))
    together = json.loads(run("predict", folder, *pictures, "--json").out)
    alone = [json.loads(run("predict", folder, each, "--json").out)[0] for each in pictures[:3]]
    assert len(together) == len(pictures)
    assert [a["confidence"] for a in together[:3]] == pytest.approx([a["confidence"] for a in alone], abs=1e-5)
    vectors = json.loads(run("embed", folder, *pictures).out)
    assert vectors[1] == pytest.approx(json.loads(run("embed", folder, pictures[1]).out)[0], abs=1e-5)
    assert json.loads(run("evaluate", folder, "--json").out)["samples"] > 0
    run("look", folder, pictures[0], "--out", tmp_path / "look.html", "--no-open")
    assert (tmp_path / "look.html").is_file()


def test_a_text_goes_on_and_a_series_too(run: Any, own: Path, tmp_path: Path) -> None:
    text = trained(run, own, "book.txt", tmp_path / "text", "data.length=16", "design.length=16", "design.depth=1")
    said = json.loads(run("generate", text, "the dog", "--tokens", "4", "--json").out)
    assert len(said[0]["text"]) == 4
    ways = ("--tokens", "4", "--strategy", "contrastive", "--policy", "tova,keep=4", "--storage", "kivi,bits=4")
    assert len(run("generate", text, "the dog", *ways).out) == 5
    run("generate", text, "the dog", "--strategy", "greedy", "--top-k", "3").refused("unknown option of Greedy 'top_k'")
    run("look", text, "the dog", "--no-open", "--view", "lens")
    run("look", text, "the dog and the other dog", "--no-open").refused("25 tokens, and the run was trained on 16")
    forecasts = trained(run, own, "series.csv", tmp_path / "series", "data.horizon=4", "data.lookback=12")
    assert len(json.loads(run("forecast", forecasts, own / "series.csv", "--json").out)[0]["forecast"]["load"]) == 4
    run("look", forecasts, own / "series.csv", "--no-open")
    assert "load" in (forecasts / "look.html").read_text()


def test_a_translation_from_pairs_to_text(run: Any, tmp_path: Path) -> None:
    overrides = [
        f"data.path={pairs(tmp_path / 'pairs')}", "data.tokens=characters", "data.lowercase=false", "data.input=en",
        "data.target=xx", "design.width=16", "design.hidden=16", "design.depth=1", "design.heads=2", "training.epochs=null",
    ]  # fmt: skip
    said = run("train", "multi30k", *overrides, *QUICK, "decoding.max_tokens=4", "--out", tmp_path / "run")
    assert said.code == 0, said.err
    answers = json.loads(run("translate", tmp_path / "run", "a dog runs", "--json").out)
    assert answers[0]["input"] == "a dog runs"
    assert isinstance(answers[0]["text"], str)
    assert run("translate", tmp_path / "run", "a dog runs", "--beam", "2").code == 0
    assert run("translate", tmp_path / "run", "a dog runs", "--strategy", "jacobi", "--policy", "h2o").code == 2
    assert run("translate", tmp_path / "run", "a dog runs", "--strategy", "greedy", "--policy", "h2o").code == 0
    run("forecast", tmp_path / "run", "x").refused("a run of translation, not of forecasting", "everyformer predict")


def test_designs_are_compared_and_reported(run: Any, tmp_path: Path) -> None:
    command = ["compare", "digits", *QUICK, "training.epochs=null", "--designs", "cct,vit", "--out", tmp_path / "both"]
    results = json.loads(run(*command, "--json").out)
    assert {result["name"] for result in results} == {"cct", "vit"}
    assert len({result["hash"] for result in results}) == 1
    page = (tmp_path / "both" / "report.html").read_text()
    assert "cct" in page
    assert "<svg" in page
    table_again = run(*command)
    assert "all scored on the same 359 test samples" in table_again.out, "runs that stand there are not trained again"
    run(*command[:-1], tmp_path / "none", "--designs", "cct,vti").refused("unknown design 'vti'", "'vit'")


def test_evidence_is_run_again_and_kept(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    harness.known()
    figures = {"<sides>": {"one": 1, "two": 2.0}, "third": [3, 4.56789]}
    claims = {
        "vit": [Experiment("vit", "claim", "One is below two.", lambda: Finding("holds", "1 < 2", figures), False)]
    }
    monkeypatch.setattr(harness, "_experiments", claims)
    said = run("evidence", "vit", "--out", tmp_path / "evidence", "--page", tmp_path / "vit.html")
    assert "One is below two.\n  holds: 1 < 2" in said.out
    kept = json.loads((tmp_path / "evidence" / "vit.json").read_text())
    assert kept["results"][0]["verdict"] == "holds"
    assert {"torch", "everyformer"} <= set(kept["results"][0]["versions"])
    page = (tmp_path / "vit.html").read_text()
    assert "One is below two." in page
    assert "<b>holds</b>: 1 &lt; 2" in page
    assert find_published("vit").idea in page
    for name, figure in (("&lt;sides&gt;, one", "1"), ("&lt;sides&gt;, two", "2"), ("third", "3, 4.568")):
        assert f"<td>{name}</td><td>{figure}</td>" in page
    lost = run("evidence", "vit", "--out", tmp_path / "evidence", "--page", tmp_path / "none" / "vit.html")
    lost.refused("no folder", "vit.html")
    run("evidence", "vit", "--kind", "claims").refused("unknown kind of experiment 'claims'", "'claim'")
    run("evidence", "gpt", "--out", tmp_path / "evidence").refused("no evidence is written for 'gpt' yet")


def test_pictures_of_other_channels_are_named(run: Any, own: Path, tmp_path: Path) -> None:
    command = ["train", own / "pictures", *QUICK, "design.channels=1", "--out", tmp_path / "run"]
    run(*command).refused("channels", "3", "1")


def test_what_is_picked_is_told_and_explained(run: Any, own: Path) -> None:
    said = run("train", own / "texts.csv", "training.steps=7", "--explain")
    assert "60 texts in the column 'text', classes in 'label'" in said.err
    assert "bert, at most 7 steps" in said.err
    assert "training.steps = 7    # command line" in said.out
    assert "data.label = 'label'    # picked by the data" in said.out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["show", "vti"], ["unknown system or method 'vti'", "'vit'"]),
        (["show", "vit", "dept=3"], ["dept", "depth"]),
        (["list", "--room", "mixer"], ["mixer", "'mixers'"]),
        (["train", "digit"], ["unknown recipe 'digit'", "'digits'"]),
        (["train", "nowhere/pictures"], ["no file or folder at 'nowhere/pictures'"]),
        (["train", "digits", "training.step=3"], ["training.step", "'steps'"]),
        (["train", "digits", "data.imag=3"], ["data.imag", "'image'"]),
        (["train", "digits", "design.widht=3"], ["widht", "'width'"]),
        (["train", "digits", "objective.smothing=0.1"], ["smothing", "'smoothing'"]),
        (["train", "shakespeare", "data.path=BOOK", "decoding.temprature=0.1"], ["temprature", "'temperature'"]),
        (["train", "digits", "trainin.steps=3"], ["trainin", "'training'"]),
        (["train", "digits", "data.path=absent"], ["no file or folder at 'absent'"]),
        (["train", "digits", "design.heads=5"], ["heads", "5"]),
        (["train", "ag_news", "data.path=TEXTS", "data.label=lable"], ["lable", "'label'"]),
        (["train", "ag_news", "data.path=TEXTS", "data.classes=[a,c]"], ["label 'b'", "data.classes"]),
        (["train", "EMPTY"], ["is empty (0 bytes)"]),
        (["train", "NOTHING"], ["found: nothing"]),
        (["train", "shakespeare", "data.path=BOOK", "design.length=8"], ["64", "8"]),
        (["evaluate", "NOTHING"], ["no run in"]),
        (["evidence", "vti"], ["unknown system or method 'vti'"]),
    ],
)
def test_wrong_use_ends_in_one_message(
    run: Any, own: Path, tmp_path: Path, words: list[str], expected: list[str]
) -> None:
    (tmp_path / "nothing").mkdir()
    (tmp_path / "empty.csv").touch()
    places = {
        "BOOK": own / "book.txt", "TEXTS": own / "texts.csv", "EMPTY": tmp_path / "empty.csv",
        "NOTHING": tmp_path / "nothing",
    }  # fmt: skip
    for name, path in places.items():
        words = [word.replace(name, str(path)) for word in words]
    if words[0] == "train":
        words += ["--out", str(tmp_path / "run")]
        words += [] if any("training" in word for word in words) else QUICK
    run(*words).refused(*expected)
    assert not (tmp_path / "run" / "result.json").exists()


def test_a_broken_picture_is_named_and_may_be_left_out(run: Any, tmp_path: Path) -> None:
    broken = pictures(tmp_path / "own") / "train" / "cat" / "4.png"
    broken.write_bytes(broken.read_bytes()[:40])
    command = ["train", tmp_path / "own", *QUICK, "--out", tmp_path / "run"]
    run(*command).refused("4.png", "data.broken=skip")
    assert run(*command, "data.broken=skip").code == 0


def test_a_loss_that_is_no_number_and_a_full_disk_lose_nothing(
    run: Any, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = trained(run, own, "pictures", tmp_path / "run")
    kept = (folder / "model.safetensors").read_bytes()
    command = ["train", own / "pictures", *QUICK]
    run(*command, "--out", folder).refused("holds a finished run", "--overwrite")
    run(*command, "training.steps=60", "training.lr=1e30", "training.clip=null", "--out", tmp_path / "nan").refused(
        "loss", "training.lr", code=1
    )

    def full(file: Any, data: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files, "write_all", full)
    run(*command, "--out", tmp_path / "full").refused("is full", "--resume", code=1)
    assert (folder / "model.safetensors").read_bytes() == kept
