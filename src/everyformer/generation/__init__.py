"""A model and a prompt into an output."""

from everyformer.generation.beam import GNMT, Beam, Power
from everyformer.generation.exact_bytes import next_byte
from everyformer.generation.filters import min_p, repetition, temperature, top_k, top_p
from everyformer.generation.generate import generate
from everyformer.generation.partition import partition
from everyformer.generation.policies import Sinks, streaming_llm
from everyformer.generation.speculative import Speculative
from everyformer.generation.stops import StopText
from everyformer.generation.strategies import Greedy, Hypothesis, Sample, Strategy

__all__ = [
    "Beam", "GNMT", "Greedy", "Hypothesis", "Power", "Sample", "Sinks", "Speculative", "StopText", "Strategy",
    "generate", "min_p", "next_byte", "partition", "repetition", "streaming_llm", "temperature", "top_k", "top_p",
]  # fmt: skip
