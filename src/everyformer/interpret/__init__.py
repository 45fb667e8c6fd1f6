"""A model and an input into an explanation."""

from everyformer.interpret.atman import atman
from everyformer.interpret.attacks import gray_box
from everyformer.interpret.attribution import Gradient, InputXGradient, IntegratedGradients, Occlusion, attribute
from everyformer.interpret.channels import Channels, Head, channels, composition, heads_of
from everyformer.interpret.codebooks import Coded, codebooks
from everyformer.interpret.computer import Computer, computer, subleq
from everyformer.interpret.counting import Counting, counts
from everyformer.interpret.discrete import DiscreteAttention, OneHot, Tables, anneal, discrete
from everyformer.interpret.distraction import distraction
from everyformer.interpret.efficiency import Efficiency, calibration_error, efficiency
from everyformer.interpret.features import FeatureMap, features
from everyformer.interpret.frequencies import Stream, frequency_loss, huffman, statistics
from everyformer.interpret.geometry import Geometry, geometry, score_parts
from everyformer.interpret.growth import Growth, growth
from everyformer.interpret.in_context import gradient_descent, posterior_mean, through_representation
from everyformer.interpret.lenses import decoder_lens, direct_logits, logit_lens
from everyformer.interpret.patching import ablate_heads, patch, patch_tokens
from everyformer.interpret.patterns import distance, duplicate_score, entropy, find_heads, induction_score, offset_score
from everyformer.interpret.places import place_finder
from everyformer.interpret.printing import as_program
from everyformer.interpret.probes import Probe
from everyformer.interpret.rasp import compile_program
from everyformer.interpret.rollout import rollout
from everyformer.interpret.sentences import Sentences, find_sentences
from everyformer.interpret.sequences import (
    Against,
    Attribution,
    attribute_generation,
    log_probability,
    logit,
    probability,
)
from everyformer.interpret.smoothness import Smoothness, configurations, smoothness
from everyformer.interpret.sparse import SparseAutoencoder
from everyformer.interpret.taps import Seen, intervene, points, record
from everyformer.interpret.trees import FilteredTree, filtered_tree
from everyformer.interpret.universal import one_layer
from everyformer.interpret.views import attention
from everyformer.interpret.walks import Walk, path_log_probability, walk

__all__ = [
    "Against", "Attribution", "Channels", "Coded", "Computer", "Counting", "DiscreteAttention", "Efficiency",
    "FeatureMap", "FilteredTree", "Geometry", "Gradient", "Growth", "Head", "InputXGradient", "IntegratedGradients",
    "Occlusion", "OneHot", "Probe", "Seen", "Sentences", "Smoothness", "SparseAutoencoder", "Stream", "Tables",
    "Walk", "ablate_heads", "anneal", "as_program", "atman", "attention", "attribute", "attribute_generation",
    "calibration_error", "channels", "codebooks", "compile_program", "composition", "computer", "configurations",
    "counts", "decoder_lens", "direct_logits", "discrete", "distance", "distraction", "duplicate_score", "efficiency",
    "entropy", "features", "filtered_tree", "find_heads", "find_sentences", "frequency_loss", "geometry",
    "gradient_descent", "gray_box", "growth", "heads_of", "huffman", "induction_score", "intervene", "log_probability", "logit",
    "logit_lens", "offset_score", "one_layer", "patch", "patch_tokens", "path_log_probability", "place_finder",
    "points", "posterior_mean", "probability", "record", "rollout", "score_parts", "smoothness", "statistics",
    "subleq", "through_representation", "walk",
]  # fmt: skip
