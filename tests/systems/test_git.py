"""`git` against Hugging Face's."""

import pytest
import torch
from PIL import Image
from tokenizers.implementations import BertWordPieceTokenizer
from transformers import GitConfig, GitForCausalLM, ViTImageProcessorPil

import everyformer as ef
from everyformer.costs import on_meta, parameters
from everyformer.generation import Beam, generate
from everyformer.interop import from_transformers
from support.agreement import close, equal, perturb
from support.parity import ids, ragged

SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
TINY = {
    "image": 16, "patch": 8, "picture_width": 16, "picture_depth": 1, "picture_heads": 2, "vocabulary": 20, "length": 12,
    "width": 24, "depth": 2, "heads": 4,
}  # fmt: skip


def captioners():
    vision = {**SIZES, "hidden_size": 16, "num_attention_heads": 2, "image_size": 16, "patch_size": 8}
    config = GitConfig(
        **SIZES,
        vision_config=vision,
        vocab_size=71,
        max_position_embeddings=24,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    theirs = perturb(GitForCausalLM(config), std=0.2)
    return theirs, from_transformers(theirs)


def test_equals_hugging_face():
    theirs, ours = captioners()
    pictures, target, mask = torch.randn(3, 3, 16, 16), ids(71, 3, 9), ragged(3, 9)
    expected = theirs(input_ids=target, attention_mask=mask.long(), pixel_values=pictures).logits[:, 5:]
    equal(ours, theirs, ours(pictures, target, target_mask=mask), expected, mask)


@pytest.mark.parametrize("beams", [1, 3])
def test_the_same_words_with_and_without_a_cache(beams):
    theirs, ours = captioners()
    pictures, begin = torch.randn(3, 3, 16, 16), [1, 7, 3]
    expected = theirs.generate(
        pixel_values=pictures, input_ids=torch.tensor([begin] * 3), max_new_tokens=8, min_new_tokens=8, do_sample=False,
        num_beams=beams, eos_token_id=None,
    )  # fmt: skip
    strategy = Beam(size=beams) if beams > 1 else None
    for cache in (True, False):
        said = generate(ours, pictures, bos=begin, eos=None, pad=0, max_tokens=8, cache=cache, strategy=strategy)
        assert said == expected[:, 3:].tolist()
    assert len({*map(tuple, said)}) > 1, "the captions should differ"


def test_a_checkpoint_says_what_a_file_shows(tmp_path):
    theirs, _ = captioners()
    theirs.save_pretrained(tmp_path)
    words = BertWordPieceTokenizer({"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, **{f"word{i}": i for i in range(3, 71)}})
    words.save(str(tmp_path / "tokenizer.json"))
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16})
    processor.save_pretrained(tmp_path)
    picture = Image.fromarray(torch.randint(256, (20, 24, 3), dtype=torch.uint8).numpy())
    picture.save(tmp_path / "a.png")
    said = ef.Checkpoint.open(tmp_path).generate([tmp_path / "a.png"], max_tokens=6)
    given = processor(picture, return_tensors="pt")["pixel_values"]
    expected = theirs.generate(pixel_values=given, input_ids=torch.tensor([[1]]), max_new_tokens=6, do_sample=False)
    assert said == [words.decode(expected[0, 1:].tolist())]
    assert said[0].split()


@torch.no_grad()
def test_the_picture_is_seen_by_all_and_sees_no_word():
    model = ef.create("git", **TINY, seed=0).eval()
    pictures, target = torch.randn(2, 3, 16, 16), ids(20, 2, 7)
    seen = []
    model.decoder.blocks[-1].register_forward_hook(lambda module, inputs, output: seen.append(output.values))
    first = model(pictures, target)
    other = target.clone()
    other[:, 4:] = (other[:, 4:] + 5) % 20
    close(model(pictures, other)[:, :4], first[:, :4])
    close(seen[0][:, :5], seen[1][:, :5])
    assert (model(pictures.flip(0), target)[:, 0] - first[:, 0]).abs().max() > 1e-3


def test_a_padded_source_and_packed_targets_are_refused():
    model = ef.create("git", **TINY)
    given = {"target_lengths": torch.tensor([3, 4])}
    with pytest.raises(ef.BadInput, match="no packed targets"):
        model(torch.randn(2, 3, 16, 16), torch.ones(1, 7, dtype=torch.long), **given)


def test_an_encoder_of_another_width_is_refused():
    with pytest.raises(ef.DoesNotFit, match=r"encoder.*width 16, to stand in front of others of width 24"):
        ef.design("git", **TINY).remove("encoder.blocks.1").build(device="meta")


def test_a_mixer_that_cannot_obey_the_place_is_refused():
    with pytest.raises(ef.DoesNotFit, match="decoder.blocks.0.mixer"):
        ef.design("git", **TINY).swap("decoder.blocks.*.mixer", ef.spec(ef.mixers.FourierMixer)).build(device="meta")


@pytest.mark.parametrize("size", ["base", "large"])
def test_sizes_are_the_published_ones(size):
    """Of the published configs; the class token and its position, which they add, are one here."""
    large = {"patch_size": 14, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24}
    with torch.device("meta"):
        theirs = GitForCausalLM(
            GitConfig(vision_config={**large, "num_attention_heads": 16} if size == "large" else {})
        )
    design = ef.design("git", size)
    assert parameters(on_meta(design)) + design.get("source_width") == theirs.num_parameters()
