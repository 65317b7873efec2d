"""Relevance: what of the score each value of the input accounts for, by rules of single layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vis.methods.explainer import Explainer
from vis.methods.gradients import GradientExplainer
from vis.engine.tasks import gathered

if TYPE_CHECKING:
    from vis.utils.types import LayerLike, RuleLike


class LRP(GradientExplainer):
    """x"""

    def __init__(self, model, composite="epsilon-plus-flat", *, input_layer=None, output_layer=None, logits=True):
        super().__init__(model, composite, input_layer=input_layer, output_layer=output_layer, logits=logits)

    def attributions(self, task):
        def relevance(gradient, value):
            value = np.where(np.abs(value) < 1e-12, np.where(value < 0, -1e-12, 1e-12), value)
            return gradient * value.astype("float32")
        return gathered(
            task.count,
            (
                (images, [relevance(g, v) for g, v in zip(gradients, values)])
                for images, gradients, values in self.gradients(task)
            ),
        )
