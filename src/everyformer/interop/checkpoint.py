"""A folder in the Hugging Face format: config, weights, tokenizer, processor; nothing in it is run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from everyformer.designs import Design
from everyformer.errors import BadInput
from everyformer.interop.config import Config, labels
from everyformer.interop.family import Family, family_of
from everyformer.interop.files import Weights, fetch
from everyformer.interop.pictures import FILE as PROCESSOR
from everyformer.interop.pictures import Pictures
from everyformer.interop.sounds import Sounds, sounds_of
from everyformer.jsons import read_json
from everyformer.tokens import Tokens

_AT_ONCE = 64


@dataclass
class Checkpoint:
    """An opened checkpoint: `design`, `model` with its weights, `tokenizer`, and what can be done with them."""

    folder: Path
    config: Config
    family: Family
    top: str
    """Their class that it is a checkpoint of."""
    dtype: torch.dtype | None = None
    new: tuple[str, ...] = ()
    unused: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def open(
        cls,
        path: str | Path,
        *,
        dtype: torch.dtype | None = None,
        new: Iterable[str] = (),
        unused: Iterable[str] = (),
    ) -> Checkpoint:
        """The checkpoint in a folder, or under an id on the hub.

        Args:
            path: the folder, or the id.
            dtype: what the weights become; as they are stored by default.
            new: paths of parts that start afresh, such as "head".
            unused: patterns of tensors in the file that are left where they are.
        """
        folder = fetch(str(path))
        if not (folder / "config.json").is_file():
            raise BadInput(f"'{folder}' has no config.json; give the folder of a checkpoint in the Hugging Face format")
        weights = Weights(folder)
        config = Config(read_json(folder / "config.json"), weights.shapes)
        weights.close()
        family = family_of(config)
        return cls(folder, config, family, family.top(config), dtype, tuple(new), tuple(unused))

    @cached_property
    def design(self) -> Design:
        """The design that it is."""
        return self.family.design(self.config, self.top)

    @cached_property
    def model(self) -> Any:
        """Our model, made of parts, with the weights of the file; they are held once."""
        made = self.design.build(device="meta")
        weights = Weights(self.folder)
        try:
            self.family.fill(
                made,
                self.top,
                weights,
                shapes=weights.shapes,
                dtype=self.dtype or self._stored(weights),
                new=self.new,
                unused=self.unused,
            )
        finally:
            weights.close()
        made.tokenizer = self.tokenizer
        return made.eval()

    @cached_property
    def tokenizer(self) -> Any:
        """Its `tokenizers.Tokenizer`, without padding; None where it has none."""
        from everyformer.data.borrowed import tokenizer_in

        return tokenizer_in(self.folder)

    @cached_property
    def pictures(self) -> Pictures | None:
        """How it wants its pictures; None where its folder does not say."""
        return Pictures.read(self.folder)

    @cached_property
    def sounds(self) -> Sounds | None:
        """How it wants its sounds; None where its folder does not say."""
        return sounds_of(self.folder)

    @property
    def writes(self) -> bool:
        """Whether it answers with a text, written token by token."""
        from everyformer.heads import TokenHead
        from everyformer.models import Seq2Seq

        alone = not isinstance(self.model, Seq2Seq)
        return isinstance(self.model.head, TokenHead) and not (
            alone and self.model.example()["inputs"].is_floating_point()
        )

    @property
    def classes(self) -> list[str]:
        """The names of its classes, where its config has them; those that transformers makes up are none."""
        named = labels(self.config) if self.config.get("id2label") else []
        return [] if all(name == f"LABEL_{i}" for i, name in enumerate(named)) else named

    @property
    def reads(self) -> dict[str, Any]:
        """What data must be brought to for it: mean and deviation of pictures."""
        said = self.pictures
        return {} if said is None or said.mean is None else {"mean": said.mean, "std": said.std}

    @cached_property
    def ids(self) -> dict[str, Any]:
        """The ids of special tokens: bos, eos (one or several), pad, and what a decoder starts with."""
        from everyformer.data.borrowed import special_ids

        said = special_ids(self.folder)
        names = {"bos": "bos_token_id", "eos": "eos_token_id", "pad": "pad_token_id", "start": "decoder_start_token_id"}
        return {ours: said.get(theirs) for ours, theirs in names.items()}

    def encode(self, texts: Sequence[str], *, longest: int | None = None) -> list[list[int]]:
        """The ids of each text, with the special tokens that the tokenizer adds, cut to the `longest`."""
        if self.tokenizer is None:
            raise BadInput(f"'{self.folder}' has no tokenizer.json and no vocab.txt; call the model with ids")
        if longest is not None:
            self.tokenizer.enable_truncation(longest)
        found = [each.ids for each in self.tokenizer.encode_batch(list(texts))]
        self.tokenizer.no_truncation()
        return found

    def generate(self, texts: Sequence[Any], *, max_tokens: int = 100, **options: Any) -> list[str]:
        """What follows each text, or what each text, picture or sound becomes where there is an encoder.

        Options as `generation.generate`. Whisper writes English without times where `bos` does not begin otherwise.
        """
        from everyformer.generation import generate
        from everyformer.models import Seq2Seq

        ids = self.ids
        pad = ids["pad"] if ids["pad"] is not None else 0
        bos = {"bos": self._opening} if isinstance(self.model, Seq2Seq) else {}
        given = {"eos": ids["eos"], "pad": pad, "max_tokens": max_tokens, **bos, **options}
        if self.tokenizer is None:
            raise BadInput(
                f"'{self.folder}' has no tokenizer.json and no vocab.txt to write with; call the model with ids"
            )
        inputs = self._batch(texts)["inputs"] if self._sees or self._hears else self.encode(texts)
        return [self.tokenizer.decode(row) for row in generate(self.model, inputs, **given)]

    @property
    def _opening(self) -> list[int] | None:
        """What a decoder begins with: the start, and what generation_config.json says after it."""
        path = self.folder / "generation_config.json"
        said, ids = read_json(path) if path.is_file() else {}, self.ids
        start = ids["bos"] if ids["start"] is None else ids["start"]
        if start is None:
            return None
        if said.get("forced_decoder_ids"):
            return [start, *(token for _, token in said["forced_decoder_ids"])]
        spoken = [
            (said.get(of) or {}).get(name) for of, name in (("lang_to_id", "<|en|>"), ("task_to_id", "transcribe"))
        ]
        return [token for token in (start, *spoken, said.get("no_timestamps_token_id")) if token is not None]

    @torch.no_grad()
    def embed(self, texts: Sequence[Any]) -> Float[Tensor, "B D"]:
        """A vector for each text, picture or sound: the mean of its tokens, or as a sentence encoder says."""
        first, unit = self._pooling
        said = self.folder / "sentence_bert_config.json"
        longest = read_json(said).get("max_seq_length") if said.is_file() else None
        vectors = []
        for start in range(0, len(texts), _AT_ONCE):
            tokens = self._features(self._batch(texts[start : start + _AT_ONCE], longest))
            vectors.append(tokens.values[:, 0] if first else tokens.mean())
        found = torch.cat(vectors)
        return torch.nn.functional.normalize(found) if unit else found

    def _features(self, batch: dict[str, Tensor]) -> Tokens:
        """The tokens before the head; of an encoder-decoder those of its encoder."""
        from everyformer.models import Seq2Seq

        if isinstance(self.model, Seq2Seq):
            return self.model.prepare(**batch).memory["encoder"]
        if not hasattr(self.model, "features"):
            raise BadInput(
                f"a checkpoint of {self.top} has no one vector for an input; call ef.Checkpoint.open(...).model"
            )
        found: Tokens = self.model.features(**batch)
        return found

    def predict(self, texts: Sequence[Any], *, decoding: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """An answer to each text or picture: a class with its probability, or what the model says (see `Decoding`)."""
        from everyformer.data.decoding import Decoding
        from everyformer.heads import ClassHead

        if isinstance(self.model.head, ClassHead):
            return [answer for start in range(0, len(texts), _AT_ONCE) for answer in self._classes(texts[start:])]
        if not self.writes:
            raise BadInput(
                f"a checkpoint of {self.top} answers with neither classes nor text; use embed for vectors, or call "
                "ef.Checkpoint.open(...).model"
            )
        chosen = Decoding.of(decoding or {})
        strategy = chosen.for_pieces(self._pieces)
        held = {"policy": chosen.policy, "storage": chosen.storage}
        said = self.generate(texts, strategy=strategy, max_tokens=chosen.max_tokens, **held)
        return [{"input": text, "text": each} for text, each in zip(texts, said, strict=True)]

    def _pieces(self) -> tuple[str, ...]:
        """The text of each token."""
        from everyformer.generation.grammar import pieces_of

        before = self.tokenizer.encode("a", add_special_tokens=False).ids[-1]
        return pieces_of(self.tokenizer.decode, self.model.head.vocabulary, before)

    @torch.no_grad()
    def _classes(self, texts: Sequence[Any]) -> list[dict[str, Any]]:
        """The likeliest class of each of the first texts or pictures."""
        texts, names = texts[:_AT_ONCE], labels(self.config)
        shares, best = self.model(**self._batch(texts)).softmax(-1).max(-1)
        return [
            {"input": text, "label": names[i], "probability": share}
            for text, i, share in zip(texts, best.tolist(), shares.tolist(), strict=True)
        ]

    def _batch(self, texts: Sequence[Any], longest: int | None = None) -> dict[str, Tensor]:
        """Texts as a padded batch; pictures as the folder says."""
        if self._hears:
            if self.sounds is None:
                raise BadInput(f"'{self.folder}' has no {PROCESSOR} for sounds; call the model with numbers")
            return {"inputs": self.sounds(texts).to(next(self.model.parameters()).dtype)}
        if self._sees:
            if self.pictures is None:
                raise BadInput(f"'{self.folder}' has no {PROCESSOR}; call the model with pictures as numbers")
            channels = self.model.example()["inputs"].shape[1]
            return {"inputs": self.pictures(texts, channels).to(next(self.model.parameters()).dtype)}
        rows = self.encode(texts, longest=longest)
        width = max(map(len, rows))
        mask = torch.tensor([[i < len(row) for i in range(width)] for row in rows])
        return {"inputs": torch.tensor([row + [0] * (width - len(row)) for row in rows]), "mask": mask}

    @property
    def _sees(self) -> bool:
        """Whether it takes pictures."""
        return self.model.example()["inputs"].dim() == 4

    @property
    def _hears(self) -> bool:
        """Whether it takes sounds: samples, or spectrograms."""
        example = self.model.example()["inputs"]
        return example.is_floating_point() and example.dim() < 4

    @property
    def _pooling(self) -> tuple[bool, bool]:
        """Whether the first token stands for the text, and whether vectors have length one (Sentence Transformers)."""
        path = self.folder / "modules.json"
        if not path.is_file():
            return False, False
        kinds = path.read_text(encoding="utf-8")
        pooling = self.folder / "1_Pooling" / "config.json"
        said = read_json(pooling) if pooling.is_file() else {}
        if not said.get("pooling_mode_cls_token") and not said.get("pooling_mode_mean_tokens", True):
            raise BadInput(f"'{pooling}' pools neither the first token nor the mean of all; embed takes those two")
        return bool(said.get("pooling_mode_cls_token")), "Normalize" in kinds

    def _stored(self, weights: Weights) -> torch.dtype | None:
        named = str(self.config.get("dtype") or self.config.get("torch_dtype") or "").removeprefix("torch.")
        kind = getattr(torch, named, None) if named in ("float32", "float16", "bfloat16", "float64") else None
        if kind is not None:
            return kind
        return next((weights[n].dtype for n, shape in weights.shapes.items() if len(shape) > 1), None)


def load(
    path: str | Path, *, dtype: torch.dtype | None = None, new: Iterable[str] = (), unused: Iterable[str] = ()
) -> Any:
    """Our model, made of parts, with the weights of a checkpoint; see `Checkpoint.open`. Its `tokenizer` is with it."""
    return Checkpoint.open(path, dtype=dtype, new=new, unused=unused).model
