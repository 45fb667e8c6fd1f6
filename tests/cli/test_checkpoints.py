"""Commands on a folder in the Hugging Face format, and the way out to it."""

import json

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from tokenizers.implementations import BertWordPieceTokenizer

import everyformer as ef
from cli.test_commands import run  # noqa: F401
from everyformer.training import Run
from support.tiny_data import pairs, pictures

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "dog", "cat", "##s", "run", "the"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


@pytest.fixture
def bert(tmp_path):
    """A BERT that classifies, with the vocabulary as of old."""
    folder = tmp_path / "bert"
    config = tf.BertConfig(
        vocab_size=len(WORDS), max_position_embeddings=12, id2label={0: "calm", 1: "wild", 2: "odd"}, **SIZES
    )
    tf.BertForSequenceClassification(config).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(WORDS))
    return folder


@pytest.fixture
def llama(tmp_path):
    """A Llama with a tokenizer."""
    folder = tmp_path / "llama"
    tf.LlamaForCausalLM(tf.LlamaConfig(vocab_size=len(WORDS), **SIZES)).save_pretrained(folder)
    tokenizer = BertWordPieceTokenizer({word: i for i, word in enumerate(WORDS)})
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def test_a_checkpoint_is_shown_and_used(run, bert, llama):  # noqa: F811
    assert "a BertForSequenceClassification, which is the system 'bert'" in run("show", bert).out
    plain = json.loads(run("show", bert, "--json").out)
    assert plain["parameters"] == sum(p.numel() for p in ef.load(bert).parameters())
    (answer,) = json.loads(run("predict", bert, "the dogs run", "--json").out)
    held = ef.Checkpoint.open(bert)
    assert held.encode(["The dogs run"]) == [[2, 10, 6, 8, 9, 3]]
    shares = held.model(torch.tensor(held.encode(["the dogs run"]))).softmax(-1)[0]
    assert answer["label"] == ("calm", "wild", "odd")[shares.argmax()]
    assert answer["probability"] == pytest.approx(shares.max().item(), abs=1e-6)
    vectors = json.loads(run("embed", bert, given="a cat\nthe dogs run\n").out)
    assert [len(row) for row in vectors] == [16, 16]
    said = run("generate", llama, "a dog", "--pattern", "(a|dog| )+", "--tokens", "3", "--json")
    assert set(json.loads(said.out)[0]["text"]) <= set("adog ")
    said = run("generate", llama, "a dog", "--tokens", "3", "--temperature", "0", "--json")
    assert json.loads(said.out) == [
        {"input": "a dog", "text": ef.Checkpoint.open(llama).generate(["a dog"], max_tokens=3)[0]}
    ]
    run("predict", bert.parent / "nothing").refused("no run in")


@pytest.mark.parametrize(
    "said",
    [
        {"size": {"height": 16, "width": 16}},
        {
            "size": {"shortest_edge": 20},
            "do_center_crop": True,
            "crop_size": {"height": 16, "width": 16},
            "resample": 3,
        },
    ],
    ids=["stretched", "cut"],
)
def test_a_checkpoint_tells_pictures_apart(run, said, tmp_path):  # noqa: F811
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    picture = np.random.default_rng(0).integers(0, 256, (21, 30, 3), dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(picture[:, ::-1]).save(tmp_path / "b.png")
    config = tf.ViTConfig(image_size=16, patch_size=8, id2label={0: "cat", 1: "dog", 2: "owl"}, **SIZES)
    theirs = tf.ViTForImageClassification(config).eval()
    theirs.save_pretrained(tmp_path / "vit")
    processor = ViTImageProcessorPil(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4], **said)
    processor.save_pretrained(tmp_path / "vit")
    given = processor(Image.fromarray(picture), return_tensors="pt")["pixel_values"]
    held = ef.Checkpoint.open(tmp_path / "vit")
    assert (held.pictures([picture]) - given).abs().max() < 1e-5
    first, _ = json.loads(run("predict", tmp_path / "vit", tmp_path / "a.png", tmp_path / "b.png", "--json").out)
    shares = theirs(given).logits.softmax(-1)[0]
    assert first["label"] == ("cat", "dog", "owl")[shares.argmax()]
    assert first["probability"] == pytest.approx(shares.max().item(), abs=1e-5)
    vectors = json.loads(run("embed", tmp_path / "vit", tmp_path / "a.png").out)
    assert [len(row) for row in vectors] == [16]
    (tmp_path / "vit" / "preprocessor_config.json").write_text('{"crop_pct": 0.9}')
    run("predict", tmp_path / "vit", tmp_path / "a.png").refused("crop_pct=0.9")
    (tmp_path / "vit" / "preprocessor_config.json").unlink()
    run("predict", tmp_path / "vit", tmp_path / "a.png").refused("no preprocessor_config.json")


def test_a_run_on_pictures_answers_the_same_from_where_it_goes(run, tmp_path):  # noqa: F811
    folder = pictures(tmp_path / "pictures")
    recipe = {
        "name": "own", "task": "image-classification", "data": {"path": str(folder), "image": 16},
        "design": {"system": "vit", "patch": 8, "width": 16, "depth": 1, "heads": 2},
        "training": {"steps": 1, "threads": 1, "precision": "fp32"},
    }  # fmt: skip
    (tmp_path / "own.yaml").write_text(json.dumps(recipe))
    said = run("train", tmp_path / "own.yaml", "--out", tmp_path / "run")
    assert said.code == 0, said.err
    assert run("export", tmp_path / "run", "--to", "hf", "--out", tmp_path / "vit").code == 0
    given = sorted(folder.glob("test/*/*.png"))[::4]
    ours = json.loads(run("predict", tmp_path / "run", *given, "--json").out)
    theirs = json.loads(run("predict", tmp_path / "vit", *given, "--json").out)
    assert [each["label"] for each in theirs] == [each["label"] for each in ours]
    assert [each["probability"] for each in theirs] == pytest.approx([each["confidence"] for each in ours], abs=1e-5)


def sound(path, seconds=0.3, rate=16000):
    """A rising tone on disk, and its samples."""
    import soundfile

    line = np.arange(int(seconds * rate)) / rate
    soundfile.write(path, (0.3 * np.sin(2 * np.pi * (300 + 900 * line) * line)).astype(np.float32), rate)
    return soundfile.read(path, dtype="float32")[0]


@torch.no_grad()
def test_a_checkpoint_tells_sounds_apart(run, tmp_path):  # noqa: F811
    samples, folder = sound(tmp_path / "a.wav"), tmp_path / "ast"
    config = tf.ASTConfig(
        num_mel_bins=24, max_length=40, patch_size=8, frequency_stride=8, time_stride=8, id2label={0: "low", 1: "high"}, **SIZES
    )  # fmt: skip
    theirs = tf.ASTForAudioClassification(config).eval()
    theirs.save_pretrained(folder)
    run("predict", folder, tmp_path / "a.wav").refused("no preprocessor_config.json for sounds")
    reader = tf.ASTFeatureExtractor(num_mel_bins=24, max_length=40)
    reader.save_pretrained(folder)
    given = reader(samples, sampling_rate=16000, return_tensors="pt")["input_values"]
    assert (ef.Checkpoint.open(folder).sounds([tmp_path / "a.wav"]) - given).abs().max() < 1e-5
    (answer,) = json.loads(run("predict", folder, tmp_path / "a.wav", "--json").out)
    shares = theirs(given).logits.softmax(-1)[0]
    assert answer["label"] == ("low", "high")[shares.argmax()]
    assert answer["probability"] == pytest.approx(shares.max().item(), abs=1e-5)
    assert [len(row) for row in json.loads(run("embed", folder, tmp_path / "a.wav").out)] == [16]
    run("generate", folder, tmp_path / "a.wav").refused("writes no text", "everyformer predict")
    run("forecast", folder, tmp_path / "a.wav").refused("knows no units to forecast in")


@torch.no_grad()
def test_a_checkpoint_writes_down_what_is_said(run, tmp_path):  # noqa: F811
    samples, folder = sound(tmp_path / "a.wav"), tmp_path / "whisper"
    ids = {"decoder_start_token_id": 1, "eos_token_id": 0, "pad_token_id": 0, "bos_token_id": 0}
    config = tf.WhisperConfig(
        vocab_size=len(WORDS), num_mel_bins=80, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=16, decoder_ffn_dim=16, max_source_positions=50, max_target_positions=12,
        **ids,
    )  # fmt: skip
    theirs = tf.WhisperForConditionalGeneration(config).eval()
    theirs.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({**ids, "forced_decoder_ids": [[1, 6], [2, 7]]}))
    reader = tf.WhisperFeatureExtractor(chunk_length=1)
    reader.save_pretrained(folder)
    BertWordPieceTokenizer({word: i for i, word in enumerate(WORDS)}).save(str(folder / "tokenizer.json"))
    given = reader(samples, sampling_rate=16000, return_tensors="pt")["input_features"]
    held = ef.Checkpoint.open(folder)
    precisely = reader._np_extract_fbank_features(np.pad(samples, (0, 16000 - len(samples)))[None], "cpu")
    assert (held.sounds([tmp_path / "a.wav"]).mT - torch.from_numpy(precisely)).abs().max() < 1e-5
    said = [1, 6, 7]
    for _ in range(4):
        said.append(int(theirs(given, decoder_input_ids=torch.tensor([said])).logits[0, -1].argmax()))
    expected = held.tokenizer.decode([token for token in said[3:] if 0 not in said[3 : said.index(token, 3) + 1]])
    (answer,) = json.loads(
        run("generate", folder, tmp_path / "a.wav", "--tokens", "4", "--temperature", "0", "--json").out
    )
    assert answer["text"] == expected
    (vector,) = json.loads(run("embed", folder, tmp_path / "a.wav").out)
    assert vector == pytest.approx(theirs.model.encoder(given).last_hidden_state[0].mean(0).tolist(), abs=1e-4)


def test_a_checkpoint_goes_out_again(run, bert, llama, tmp_path):  # noqa: F811
    said = run("export", bert, "--to", "hf", "--out", tmp_path / "out")
    assert "BertForSequenceClassification" in said.out, said.err
    again = tf.BertForSequenceClassification.from_pretrained(tmp_path / "out")
    assert again.config.id2label == {0: "calm", 1: "wild", 2: "odd"}
    ids = torch.tensor([[2, 10, 6, 8, 3]])
    assert torch.equal(again(ids).logits, tf.BertForSequenceClassification.from_pretrained(bert)(ids).logits)
    assert run("export", llama, "--to", "hf", "--out", tmp_path / "llama-out").code == 0
    assert ef.Checkpoint.open(tmp_path / "llama-out").encode(["a dog"]) == ef.Checkpoint.open(llama).encode(["a dog"])
    run("export", bert, "--to", "hf", "--out", tmp_path / "out").refused("is there already")


def translators():
    """A tiny BART, Marian and T5, and what each calls itself."""
    ids = {"decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1, "forced_eos_token_id": None}
    layers = {f"{side}_{name}": size for side in ("encoder", "decoder")
              for name, size in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))}  # fmt: skip
    bart = {"d_model": 16, "max_position_embeddings": 64, "tie_word_embeddings": True, **layers, **ids}
    t5 = {"d_model": 16, "d_kv": 8, "d_ff": 16, "num_layers": 1, "num_heads": 2, **ids}
    yield "BartForConditionalGeneration", tf.BartConfig, bart
    yield "MarianMTModel", tf.MarianConfig, bart
    yield "T5ForConditionalGeneration", tf.T5Config, t5


@pytest.mark.parametrize(("name", "config", "options"), list(translators()), ids=lambda value: str(value)[:6])
def test_an_encoder_decoder_learns_to_translate_and_goes_back(run, tmp_path, name, config, options):  # noqa: F811
    words = ["<pad>", "</s>", *dict.fromkeys(letter for letter in map(chr, range(32, 123)))]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.add_special_tokens(words[:2])
    start = tmp_path / "start"
    getattr(tf, name)(config(vocab_size=len(words) + 1, **options)).save_pretrained(start)
    still = ["training.lr=1e-9", "training.min_lr=0", "training.epochs=null", "training.steps=1", "training.threads=1"]
    given = [
        f"data.path={pairs(tmp_path / 'pairs')}",
        "data.target=xx",
        "data.length=64",
        f"design.from={start}",
        *still,
    ]
    train = ["train", "multi30k", *given, "training.precision=fp32", "decoding.size=1", "decoding.max_tokens=4"]
    run(*train, "--out", tmp_path / "none").refused("no tokenizer.json and no vocab.txt")
    tokenizer.save(str(start / "tokenizer.json"))
    said = run(*train, "--out", tmp_path / "run")
    assert said.code == 0, said.err
    made, before = Run.open(tmp_path / "run").model.state_dict(), ef.load(start).state_dict()
    assert all(torch.allclose(each, made[key], atol=1e-6) for key, each in before.items())
    (answer,) = json.loads(run("translate", tmp_path / "run", "A dog runs.", "--json").out)
    assert run("export", tmp_path / "run", "--to", "hf", "--out", tmp_path / "back").code == 0
    theirs, source = getattr(tf, name).from_pretrained(tmp_path / "back"), tokenizer.encode("A dog runs.").ids
    ids = theirs.generate(torch.tensor([source]), max_new_tokens=4, num_beams=1, do_sample=False)[0]
    assert answer["text"] == tokenizer.decode(ids.tolist()).strip()
    greedy = ["A dog runs.", "--tokens", "4", "--temperature", "0", "--json"]
    assert json.loads(run("generate", tmp_path / "back", *greedy).out) == [answer]
    if "Bart" in name:
        run(*train, "data.length=65", "--out", tmp_path / "none").refused("has length 64, and the data 65")
