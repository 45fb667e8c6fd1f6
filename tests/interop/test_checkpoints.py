"""Folders: sharded, prefixed and old ones are read; what is damaged, false or dangerous is refused, and nothing is run."""

import json
import pickle
import shutil

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file, save_file

import everyformer as ef
from everyformer.interop import to_folder
from interop.cases import CASES

BERT, GPT = (next(case for case in CASES if case.name == name) for name in ("BertForMaskedLM", "GPT2LMHeadModel"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A BERT and a GPT-2 on disk."""
    folder = tmp_path_factory.mktemp("kept")
    for name, case in (("bert", BERT), ("gpt", GPT)):
        case.make().save_pretrained(folder / name)
    return folder


@pytest.fixture
def bert(kept, tmp_path):
    return shutil.copytree(kept / "bert", tmp_path / "bert")


@pytest.fixture
def gpt(kept, tmp_path):
    return shutil.copytree(kept / "gpt", tmp_path / "gpt")


def change(folder, **changes):
    """Change the config."""
    config = json.loads((folder / "config.json").read_text())
    config = {name: value for name, value in {**config, **changes}.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def rewrite(folder, edit):
    """Change the tensors."""
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


def same(one, other):
    inputs = BERT.given()[0]["inputs"]
    return torch.equal(one(inputs), other(inputs))


def test_shards_are_read_as_one(bert, tmp_path):
    model = tf.BertForMaskedLM.from_pretrained(bert)
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert not (tmp_path / "shards" / "model.safetensors").exists()
    assert same(ef.load(tmp_path / "shards"), ef.load(bert))


def test_names_without_the_prefix_and_masks_of_old_are_read(gpt):
    expected = ef.load(gpt)

    def old(tensors):
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 24, 24)

    assert same(ef.load(rewrite(gpt, old)), expected)


def test_a_config_of_old_without_keys_that_came_later_is_read(bert):
    expected = ef.load(bert)
    old = change(bert, hidden_act=None, layer_norm_eps=None, type_vocab_size=None, architectures=["BertForMaskedLM"])
    assert same(ef.load(old), expected)


def test_weights_stay_as_stored_or_become_what_is_asked(bert, tmp_path):
    tf.BertForMaskedLM.from_pretrained(bert, dtype=torch.bfloat16).save_pretrained(tmp_path / "half")
    assert {p.dtype for p in ef.load(tmp_path / "half").parameters()} == {torch.bfloat16}
    assert {p.dtype for p in ef.load(tmp_path / "half", dtype=torch.float32).parameters()} == {torch.float32}


def test_parts_that_are_named_new_start_afresh(bert):
    model = ef.load(rewrite(bert, lambda t: t.pop("cls.predictions.transform.dense.weight")), new=["head.transform"])
    assert not any(p.is_meta for p in model.parameters())
    assert model.head.project.weight is model.embedding.table.weight
    assert model.head.transform.linear.weight.std() < 0.03


def test_a_loaded_model_takes_edits_trains_and_saves(gpt, tmp_path):
    model = ef.load(gpt)
    ef.swap(model, "backbone.blocks.*.mixer", lambda old: old.but(mask=ef.masks.Window(3)))
    model.train()(torch.ones(1, 5, dtype=torch.long)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises(ef.DoesNotFit, match=r"mixer\.mask: masks\.Full|mixer\.mask: Full"):
        to_folder(model, tmp_path / "out")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "brt"}, r"unknown family of checkpoints 'brt'; did you mean 'bert'"),
        ({"architectures": ["BertForMaskLM"]}, r"unknown class of 'bert' checkpoints 'BertForMaskLM'; did you mean 'BertForMaskedLM'"),
        ({"hidden_size": None}, r"config\.json has no 'hidden_size'"),
        ({"hidden_size": "32"}, r"option 'width' of bert takes int; given '32'"),
        ({"hidden_size": 36}, r"of another shape: .*embeddings\.weight \(71, 32\) for .* \(71, 36\) of the design"),
        ({"vocab_size": 10**12}, r"of another shape: .*\(71, 32\) for 'embedding.table.weight' \(1000000000000, 32\)"),
        ({"num_hidden_layers": 1}, r"what the design has no place for: bert\.encoder\.layer\.1\."),
        ({"num_hidden_layers": 3}, r"the checkpoint lacks bert\.encoder\.layer\.2\."),
        ({"num_hidden_layers": 10**9}, r"num_hidden_layers=1000000000, and the checkpoint \d+ tensors"),
        ({"num_attention_heads": 5}, r"width 32 is not a multiple of heads 5"),
        ({"hidden_size": -32}, r"negative|at least|-32"),
        ({"hidden_act": "gelo"}, r"unknown hidden_act 'gelo'; did you mean 'gelu'"),
        ({"is_decoder": True}, r"is_decoder=True, and the system here has only False"),
    ],
)  # fmt: skip
def test_a_config_that_lies_is_refused(bert, changes, message):
    with pytest.raises(ef.EveryformerError, match=message):
        ef.load(change(bert, **changes))


def test_every_tensor_deleted_renamed_or_reshaped_is_named(bert):
    whole = load_file(bert / "model.safetensors")
    for name, tensor in whole.items():
        rest = {other: each for other, each in whole.items() if other != name}
        for changed, message in (
            (rest, f"lacks {name}"),
            ({**rest, f"{name}_": tensor}, f"lacks {name}.*no place for: {name}_"),
            ({**rest, name: torch.zeros(*tensor.shape, 2)}, f"of another shape: .*{name}"),
        ):
            save_file(changed, bert / "model.safetensors")
            with pytest.raises(ef.BadInput, match=message):
                ef.load(bert)


class Dangerous:
    """What a pickle can do."""

    def __reduce__(self):
        return exec, ("raise SystemExit('a pickle was run')",)


def test_a_pickle_is_refused_and_not_run(bert):
    (bert / "model.safetensors").unlink()
    (bert / "pytorch_model.bin").write_bytes(pickle.dumps(Dangerous()))
    with pytest.raises(ef.BadInput, match=r"pickle \(pytorch_model\.bin\), which could run any code"):
        ef.load(bert)


def test_code_in_the_folder_is_not_run(bert):
    (bert / "modeling_bert.py").write_text("raise SystemExit('code of a checkpoint was run')")
    change(bert, auto_map={"AutoModel": "modeling_bert.BertForMaskedLM"})
    assert ef.load(bert) is not None


@pytest.mark.parametrize("size", [0, 5, 100, 0.5, 0.999])
def test_a_truncated_file_is_refused(bert, size):
    data = (bert / "model.safetensors").read_bytes()
    (bert / "model.safetensors").write_bytes(data[: int(size * len(data)) if isinstance(size, float) else size])
    with pytest.raises(ef.BadInput, match=r"model\.safetensors' is truncated or damaged"):
        ef.load(bert)


@pytest.mark.parametrize(
    "shard", ["../gpt/model.safetensors", "/etc/model.safetensors", "a/b.safetensors", "model.bin"]
)
def test_an_index_that_leads_out_of_the_folder_is_refused(bert, shard):
    (bert / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": shard}}))
    with pytest.raises(ef.BadInput, match="a shard is a safetensors file in the same folder"):
        ef.load(bert)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"weight_map": {"x": "gone.safetensors"}}, "names 'gone.safetensors', which is not in"),
        ({"weight_map": [1]}, "has no 'weight_map'"),
        ([], "expected a JSON object"),
    ],
)
def test_an_index_that_is_wrong_is_refused(bert, content, message):
    (bert / "model.safetensors.index.json").write_text(json.dumps(content))
    with pytest.raises(ef.BadInput, match=message):
        ef.load(bert)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(ef.BadInput, match=r"has no config\.json"):
        ef.load(tmp_path)
    with pytest.raises(ef.BadInput, match="no folder"):
        ef.load(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text("{")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ef.BadInput, match="truncated or damaged"):
        ef.load(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(ef.BadInput, match=r"has no model\.safetensors"):
        ef.load(tmp_path)


def test_loading_imports_no_other_library(bert):
    """transformers is nowhere needed to use a checkpoint."""
    import subprocess
    import sys

    code = "import sys, everyformer as ef; ef.load(sys.argv[1]); assert not {'transformers', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(bert)], check=True)
