"""A model and a prompt into an output."""

from everyformer.generation.beam import GNMT, Beam, Power
from everyformer.generation.chunks import ChunkAdapters, Chunks, chunkllm
from everyformer.generation.conditional import Chance, Conditional, condition
from everyformer.generation.contrastive import Contrastive, contrastive_search
from everyformer.generation.described import Thing, describe
from everyformer.generation.early_layers import self_speculative, some_layers
from everyformer.generation.eviction import H2O, TOVA, Keyformer, SnapKV, h2o, keyformer, snapkv, tova
from everyformer.generation.exact_bytes import next_byte
from everyformer.generation.filters import min_p, repetition, temperature, top_k, top_p
from everyformer.generation.generate import generate, read
from everyformer.generation.grammar import JSON, Constrained
from everyformer.generation.guidance import Guided, guidance
from everyformer.generation.hidden_states import Reading, read_optimised
from everyformer.generation.jacobi import Jacobi, parallel_jacobi
from everyformer.generation.lookahead import Lookahead, lookahead
from everyformer.generation.mask_predict import mask_predict
from everyformer.generation.partition import partition
from everyformer.generation.policies import AttendedSource, Sinks, streaming_llm
from everyformer.generation.prompts import fastv
from everyformer.generation.quantised import KIVI, kivi
from everyformer.generation.rewriting import shared_keys, slim_attention
from everyformer.generation.speculative import Speculative
from everyformer.generation.staircase import Staircase
from everyformer.generation.stops import StopText
from everyformer.generation.strategies import Greedy, Hypothesis, Sample, Strategy
from everyformer.generation.streams import loss_of_stream, read_stream
from everyformer.generation.throughput import paces
from everyformer.generation.transcripts import transcribe

__all__ = [
    "AttendedSource", "Beam", "Chance", "ChunkAdapters", "Chunks", "Conditional", "Constrained", "Contrastive", "GNMT",
    "Greedy", "Guided", "H2O", "Hypothesis", "JSON", "Jacobi", "KIVI", "Keyformer", "Lookahead", "Power", "Reading",
    "Sample", "Sinks", "SnapKV", "Speculative", "Staircase", "StopText", "Strategy", "TOVA", "Thing", "chunkllm", "condition",
    "contrastive_search", "describe", "fastv", "generate", "guidance", "h2o", "keyformer", "kivi", "lookahead", "loss_of_stream",
    "mask_predict", "min_p", "next_byte", "paces", "parallel_jacobi", "partition", "read", "read_optimised",
    "read_stream", "repetition", "self_speculative", "shared_keys", "slim_attention", "snapkv", "some_layers",
    "streaming_llm", "temperature", "top_k", "top_p", "tova", "transcribe",
]  # fmt: skip
