"""LoRA exchanged with peft: the same answers, both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers as tf
from torch import Tensor

import everyformer as ef
from everyformer.compression.adapters import adapters
from support.agreement import close

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
IDS = torch.randint(1, 20, (2, 7), generator=torch.Generator().manual_seed(0))


def bert() -> Any:
    return tf.BertForSequenceClassification(
        tf.BertConfig(vocab_size=20, max_position_embeddings=8, num_labels=3, **SIZES)
    )


def gpt2() -> Any:
    return tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=20, n_positions=8, n_embd=16, n_layer=2, n_head=2))


def neox() -> Any:
    return tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(vocab_size=20, max_position_embeddings=8, **SIZES))


CASES = {
    "queries and values of three maps that are one here": (
        bert, {"target_modules": ["query", "value"], "task_type": "SEQ_CLS"}, "qkv",
    ),
    "ranks and alphas that differ, in a transposed map": (
        gpt2, {"target_modules": ["c_attn", "c_fc"], "rank_pattern": {"c_fc": 2}, "alpha_pattern": {"c_fc": 12}}, "qkv",
    ),
    "alphas that differ within one of ours, by the root": (
        bert, {"target_modules": ["key", "value"], "alpha_pattern": {"key": 3}, "use_rslora": True}, "qkv",
    ),
    "heads beside each other": (neox, {"target_modules": ["query_key_value", "dense_4h_to_h"]}, "qkv"),
}  # fmt: skip
each_case = pytest.mark.parametrize(("make", "options", "ours"), CASES.values(), ids=CASES)


def stirred(model: torch.nn.Module) -> torch.nn.Module:
    """Weights that all count."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for each in model.parameters():
            each += 0.1 * torch.randn(each.shape, generator=generator)
    return model.eval()


def answer(theirs: Any) -> Tensor:
    with torch.no_grad():
        return theirs(IDS).logits


@each_case
def test_there_and_back(make: Any, options: dict[str, Any], ours: str, tmp_path: Path) -> None:
    theirs = make().eval()
    theirs.save_pretrained(tmp_path / "base")
    adapted = stirred(peft.get_peft_model(theirs, peft.LoraConfig(r=3, lora_alpha=5, **options)))
    # All was stirred: the base is saved again, so that both begin with the same.
    base = adapted.get_base_model()
    state = {
        name.replace(".base_layer", "").replace(".modules_to_save.default", ""): each
        for name, each in base.state_dict().items()
        if "lora_" not in name and ".original_module." not in name
    }
    plain = make()
    plain.load_state_dict(state)
    plain.save_pretrained(tmp_path / "base")
    adapted.save_pretrained(tmp_path / "adapter")

    model = ef.interop.load_adapter(ef.load(tmp_path / "base"), tmp_path / "adapter")
    expected = answer(adapted)
    close(model(IDS), expected, "with their adapter")
    assert not torch.allclose(answer(plain.eval()), expected, atol=1e-3), "the adapter counts"

    ef.interop.save_adapter(model, tmp_path / "again", base=str(tmp_path / "base"))
    again = peft.PeftModel.from_pretrained(make_from(plain, tmp_path), tmp_path / "again").eval()
    close(answer(again), expected, "with our file")

    merged = ef.remove(model, f"backbone.blocks.*.mixer.{ours}")
    close(merged(IDS), expected, "merged")


def make_from(plain: Any, folder: Path) -> Any:
    return type(plain).from_pretrained(folder / "base")


def test_an_adapter_begins_as_the_map_that_it_stands_for(tmp_path: Path) -> None:
    bert().save_pretrained(tmp_path)
    model = ef.load(tmp_path)
    before = model(IDS)
    ef.swap(model, "backbone.blocks.*.mixer.qkv", ef.spec(ef.compression.LoRA, rank=2), seed=0)
    assert torch.equal(model(IDS), before)
    learns = ef.compression.train_adapters(model)
    named = {name for name, each in model.named_parameters() if each.requires_grad}
    qkv = {f"backbone.blocks.{i}.mixer.qkv.{half}.weight" for i in (0, 1) for half in ("down", "up")}
    head = {f"head.{name}.{kind}" for name in ("hidden", "classify") for kind in ("weight", "bias")}
    assert named == qkv | head
    assert learns == 2 * 2 * (16 + 48) + 17 * (16 + 3)
    model(IDS).sum().backward()
    assert adapters(model)["backbone.blocks.0.mixer.qkv"].base.grad is None


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    theirs = gpt2()
    theirs.save_pretrained(tmp_path / "gpt2")
    bert().save_pretrained(tmp_path / "bert")
    peft.get_peft_model(theirs, peft.LoraConfig(target_modules=["c_attn"])).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ef.BadInput, match=r"no place for transformer\.h\.0\.attn\.c_attn\.lora_A\.weight"):
        ef.interop.load_adapter(ef.load(tmp_path / "bert"), tmp_path / "adapter")
    with pytest.raises(ef.BadInput, match="has no adapter_config.json"):
        ef.interop.load_adapter(ef.load(tmp_path / "bert"), tmp_path / "bert")
    with pytest.raises(ef.DoesNotFit, match="no adapter in the model"):
        ef.interop.save_adapter(ef.load(tmp_path / "bert"), tmp_path / "out")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}))
    with pytest.raises(ef.DoesNotFit, match="use_dora=True"):
        ef.interop.load_adapter(ef.load(tmp_path / "gpt2"), tmp_path / "adapter")
    with pytest.raises(ef.DoesNotFit, match="rank of an adapter is 1 or more"):
        ef.swap(ef.load(tmp_path / "gpt2"), "backbone.blocks.0.mixer.qkv", ef.spec(ef.compression.LoRA, rank=0))
