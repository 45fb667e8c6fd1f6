"""Training that goes on from a checkpoint or a run: what is taken over, what begins afresh, what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tf
from tokenizers.implementations import BertWordPieceTokenizer

import everyformer as ef
from everyformer.errors import BadInput, DoesNotFit, EveryformerError
from everyformer.recipe import load_recipe
from everyformer.training import train
from everyformer.training.designing import design_for
from everyformer.training.starting import completed
from support.tiny_data import pictures

from .test_resume import Stop, same

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "bad", "day", "##s", "a"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
QUICK = [
    "training.epochs=null",
    "training.steps=4",
    "training.batch=4",
    "training.threads=1",
    "training.precision=fp32",
]
STILL = ["training.lr=1e-9", "training.min_lr=0", "training.weight_decay=0", "training.optimizer=adamw"]
LORA = "design.edits=[{swap: backbone.blocks.*.mixer.qkv, with: {compression.LoRA: {rank: 2}}}]"


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("texts") / "table.csv"
    rows = [f"{('good', 'bad')[i % 2]} day{'s' * (i % 3 > 0)},{('up', 'down')[i % 2]}" for i in range(40)]
    path.write_text("\n".join(["text,label", *rows]))
    return path


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    config = tf.BertConfig(vocab_size=len(WORDS), max_position_embeddings=8, **SIZES)
    tf.BertForMaskedLM(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return folder


@pytest.fixture(scope="module")
def gpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpt")
    config = tf.GPT2Config(vocab_size=len(WORDS) + 2, n_positions=8, n_embd=16, n_layer=1, n_head=2)
    tf.GPT2LMHeadModel(config).save_pretrained(folder)
    BertWordPieceTokenizer({word: i for i, word in enumerate(WORDS)}).save(str(folder / "tokenizer.json"))
    return folder


def recipe(data: Path, start: Path, *more: str, name: str = "texts") -> Any:
    given = [f"data.path={data}", "data.length=8", f"design.from={start}", *QUICK, *more]
    return load_recipe(name, given)


def test_a_checkpoint_learns_a_task_of_its_user(bert: Path, texts: Path, tmp_path: Path) -> None:
    start, given = ef.load(bert), recipe(texts, bert, *STILL)
    run = train(given, tmp_path / "run", progress=False)
    assert run.design.get("head.classes") == 2
    assert torch.equal(run.task.prepare(["bad days"])["inputs"], torch.tensor([[2, 6, 7, 8, 3]]))
    body = {name: each for name, each in start.state_dict().items() if not name.startswith("head.")}
    held = run.model.state_dict()
    assert all(torch.allclose(each, held[name], atol=1e-6) for name, each in body.items())
    again = train(given, tmp_path / "run", progress=False, resume=True)
    (answer,) = again.predict(["good day"])
    assert answer["label"] in ("up", "down")


def test_a_resumed_run_with_adapters_is_the_run(
    bert: Path, texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = recipe(texts, bert, LORA, "training.checkpoint_every=1")
    whole = train(given, tmp_path / "whole", progress=False)
    with monkeypatch.context() as patched:
        from everyformer.training.lesson import Lesson

        step = Lesson.step

        def dies(self: Lesson, *of: Any) -> Any:
            if self.state.step == 2:
                raise Stop
            return step(self, *of)

        patched.setattr(Lesson, "step", dies)
        with pytest.raises(Stop):
            train(given, tmp_path / "broken", progress=False)
    same(whole, train(given, tmp_path / "broken", progress=False, resume=True))
    start, held = ef.load(bert).state_dict(), whole.model.state_dict()
    for name, each in start.items():
        if not name.startswith("head."):
            now = held[name.replace("qkv.weight", "qkv.base")]
            assert torch.equal(each, now), f"{name} moved, and only adapters and the head learn"
    assert held["backbone.blocks.0.mixer.qkv.up.weight"].any(), "the adapter learns"


def test_a_run_goes_on_with_its_words(gpt: Path, texts: Path, tmp_path: Path) -> None:
    prose = tmp_path / "prose.txt"
    prose.write_text("a good day a bad day good days bad days " * 40)
    run = train(recipe(prose, gpt, name="text"), tmp_path / "one", progress=False)
    assert run.design.get("embedding.vocabulary") == len(WORDS) + 2, "rows that no word has stay"
    again = train(
        recipe(prose, run.folder, *STILL, name="text"),
        tmp_path / "two",
        progress=False,
    )
    assert again.task.vocabulary.encode("bad days").tolist() == [6, 7, 8]
    one, two = run.model.state_dict(), again.model.state_dict()
    assert all(torch.allclose(one[name], two[name], atol=1e-6) for name in one)
    assert again.predict(["a good"], decoding={"max_tokens": 3})[0]["text"]


def test_hidden_words_with_the_tokens_of_the_checkpoint(bert: Path, tmp_path: Path) -> None:
    from everyformer.data import find_task

    prose = tmp_path / "prose.txt"
    prose.write_text("a good day a bad day good days bad days " * 40)
    task = find_task("masked-language-modelling").open(path=str(prose), length=8, tokenizer=str(bert))
    batch = task.batch("train", list(range(8)), train=True, seed=0)
    assert (batch["inputs"][:, 0] == 2).all()
    assert (batch["inputs"][:, -1] == 3).all()
    assert (batch["labels"][:, [0, -1]] == -100).all()
    assert 4 in batch["inputs"]
    assert task.encode("a <mask> day") == [2, 9, 4, 7, 3]


def test_what_does_not_fit_is_told(bert: Path, gpt: Path, texts: Path, tmp_path: Path) -> None:
    def refused(kind: type[Exception], words: str, *given: Any, **more: Any) -> None:
        with pytest.raises(kind, match=words):
            train(recipe(*given, **more), tmp_path / "none", progress=False)

    refused(DoesNotFit, "has length 8, and the data 16", texts, bert, "data.length=16")
    refused(DoesNotFit, "'gpt' has no head that answers with classes", texts, gpt)
    refused(EveryformerError, "design.depth is said beside design.from", texts, bert, "design.depth=2")
    refused(BadInput, "neither a checkpoint .* nor a run", texts, tmp_path)
    for facts, what in (({"channels": 3, "image": 32}, "pictures"), ({"mels": 8, "frames": 9}, "spectrograms")):
        with pytest.raises(DoesNotFit, match=f"does not read {what}: what it reads goes into embeddings.Text"):
            design_for({"from": str(bert)}, {"classes": 3, **facts})


def test_only_what_is_above_the_start_stays_in_the_recipe(bert: Path, texts: Path) -> None:
    """The design of the recipe that is inherited is of another system, and goes."""
    made = recipe(texts, bert, LORA)
    assert set(made.design) == {"from", "edits"}
    assert design_for(made.design, {"classes": 5, "length": 8}).get("head.classes") == 5


def test_pictures_are_read_as_the_checkpoint_wants_them(tmp_path: Path) -> None:
    tf.ViTForImageClassification(tf.ViTConfig(image_size=16, patch_size=8, **SIZES)).save_pretrained(tmp_path)
    said = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "size": {"height": 16, "width": 16}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    made = completed(load_recipe("pictures", [f"design.from={tmp_path}", "data.std=[1.0, 1.0, 1.0]"]))
    assert made.data == {"image": 32, "channels": 3, "mean": [0.5, 0.4, 0.3], "std": [1.0, 1.0, 1.0]}
    with pytest.raises(DoesNotFit, match=r"has image 16, and the data 32; give data\.image=16"):
        design_for(made.design, {"classes": 3, "channels": 3, "image": 32})
    assert design_for(made.design, {"classes": 3, "channels": 3, "image": 16}).get("head.classes") == 3


def test_a_body_trained_before_is_taken_into_another_design(tmp_path: Path) -> None:
    """That of a classifier into one that finds anomalies with a body that stays; what has no place in it is told apart."""
    pictures(tmp_path / "data", side=16)
    sizes = {"stem": 4, "convs": [1, 1]}
    more = {"width": 8, "depth": 0, "decoder_depth": 1, "heads": 2, "hidden": 8}
    own = [
        f"data.path={tmp_path / 'data' / 'train'}",
        "data.image=16",
        "data.shift=0",
        "data.fractions=[0.5,0.25,0.25]",
    ]
    first = load_recipe("cifar10", [*own, *QUICK])
    first = replace(first, design={"system": "intr", **sizes, **more})
    before = train(first, tmp_path / "first", progress=False)
    other = [f"data.path={tmp_path / 'data'}", "data.normal=[cat]", "data.size=null", "data.channels=3"]
    then = load_recipe("anomalies", [*other, f"training.start={tmp_path / 'first'}", *QUICK])
    then = replace(then, design={**then.design, **sizes, "wide": 1, "inner": [4, 8], "depth": 1, "heads": 2})
    run = train(then, tmp_path / "then", progress=False)
    for part in ("embedding", "backbone.stages.1"):
        theirs = before.model.get_submodule(part).state_dict()
        for name, value in run.model.get_submodule(part).state_dict().items():
            assert torch.equal(value, theirs[name]), name
    assert run.task.state["limit"] > 0


def test_weights_are_taken_from_one_place() -> None:
    both = load_recipe("cifar10", ["training.start=runs/one"])
    with pytest.raises(EveryformerError, match="leave one of them out"):
        completed(replace(both, design={"from": "runs/other"}))
