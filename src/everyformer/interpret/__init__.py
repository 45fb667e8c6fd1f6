"""A model and an input into an explanation."""

from everyformer.interpret.features import FeatureMap, features
from everyformer.interpret.taps import Seen, intervene, points, record

__all__ = ["FeatureMap", "Seen", "features", "intervene", "points", "record"]
