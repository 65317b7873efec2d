"""What a layer puts out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vis.engine.evaluator import Evaluator
from vis.engine.inputs import read_inputs
from vis.engine.requests import outputs_at
from vis.engine.tasks import Task
from vis.methods.explainer import check_finite
from vis.utils.validation import check_count

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
    evaluator = Evaluator(model, site_layer=layer)
    batch = evaluator.ready(read_inputs(model, inputs))
    evaluator.check_site(batch)
    task = Task(evaluator, batch, None, check_count("batch_size", batch_size, 1))
    return check_finite(task.map(outputs_at(evaluator.site))["activations"][0])
