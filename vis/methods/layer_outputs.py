"""What a layer puts out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vis.methods.explainer import Explainer, gathered

if TYPE_CHECKING:
    import keras
    import numpy as np

    from vis.utils.types import Inputs, LayerLike


def activations(model: keras.Layer, layer: LayerLike, inputs: Inputs, batch_size: int = 32) -> np.ndarray:
    """Returns the output of a layer for a batch of inputs.

    Draw it with `vis.plotting.show_feature_maps`.

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: Its name, path, index, the layer itself, or a pair of one of these and the number of the call.
        inputs: What the model takes, batch axis first.
        batch_size: How many samples run at once; bounds memory. Default 32.

    Returns:
        float32 array, batch axis first, in the layer's own shape.

    Raises:
        ValueError: There is no such layer, or the inputs do not fit.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, name="conv")])
        >>> activations(model, "conv", np.zeros((2, 8, 8, 1))).shape
        (2, 6, 6, 4)
    """
    if layer is None:
        raise TypeError("`layer` must be a layer, or its name, path or index. Received: None.")
    return _Activations(model, site_layer=layer)(inputs, target=_no_target, batch_size=batch_size)


def _no_target(outputs):
    """Stands for a target where none is needed."""


class _Activations(Explainer):
    """Hands out what a layer puts out."""

    def check_rows(self, batch, target):
        """Raises unless the layer has a row for each sample; no score is explained."""
        self._check_site(self.survey(batch))

    def explain(self, task):
        """Returns the activations."""
        chunks = task.rows("activations", at=self.site)
        return gathered(task.count, ((images, [found["activations"]]) for images, _, found in chunks))[0]
