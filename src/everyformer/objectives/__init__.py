"""Objectives: a model and a batch into a loss."""

from everyformer.objectives.base import Loss, Objective

__all__ = ["Loss", "Objective"]
