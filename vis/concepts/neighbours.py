"""Nearest examples: the images that look most alike to a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vis.concepts.activations import LayerReader, check_fitted
from vis.utils.validation import check_count

if TYPE_CHECKING:
    from typing import Self

    import keras

    from vis.utils.types import Inputs, LayerLike


class NearestExamples:
    """Which examples of a data set look most like an input to a layer of the network.

    Likeness is the cosine of the layer's outputs, averaged over the positions. "The training images that look like this
    to the network" often tell more of a mistake than a map does. Its limits: what is alike for one layer is not for
    another, and where in the image it is alike is not said: explain both images.

    Needs scikit-learn (the extra `concepts`).

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: Its name, path, index, the layer itself, or a pair of one of these and the number of the call.

    Raises:
        ValueError: There is no such layer.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3, "relu", name="dense")])
        >>> model.set_weights([np.eye(3), np.zeros(3)])
        >>> nearest = NearestExamples(model, "dense").fit(np.eye(3))
        >>> numbers, distances = nearest(np.array([[1.0, 0.2, 0.0]]), count=2)
        >>> numbers.tolist()
        [[0, 1]]
    """

    def __init__(self, model: keras.Layer, layer: LayerLike) -> None:
        self._reader = LayerReader(model, layer)
        self._found: Any = None

    def fit(self, examples: Any, batch_size: int = 32) -> Self:
        """Reads the examples; only what the layer puts out for them, averaged, is kept.

        Args:
            examples: Inputs as the model takes them, or a data set of batches.
            batch_size: How many run at once. Default 32.

        Returns:
            Itself.
        """
        try:
            from sklearn.neighbors import NearestNeighbors
        except ImportError:
            raise ImportError(
                "Nearest examples are found by the package scikit-learn, which is not installed. Install it, "
                "`pip install scikit-learn`, or the extra `concepts`."
            ) from None
        means = self._reader.means(examples, batch_size)
        if not means.any():
            raise ValueError(
                f"`layer` must put out something for the examples. Received: {self._reader.layer.name!r}, which puts "
                "out 0 for all, so that all are alike. Choose another layer, or check the range of the examples."
            )
        self._found = NearestNeighbors(metric="cosine").fit(means)
        return self

    def __call__(self, inputs: Inputs, count: int = 5, batch_size: int = 32) -> tuple[np.ndarray, np.ndarray]:
        """Finds the nearest examples.

        Args:
            inputs: As the model takes them.
            count: How many for each input. Default 5.
            batch_size: How many run at once. Default 32.

        Returns:
            `(numbers, distances)`, both `(N, count)`, the nearest first: places in the data set, and 1 - cosine.

        Raises:
            ValueError: It was not fitted, or there are fewer examples.
        """
        check_fitted(self._found, "NearestExamples")
        known = self._found.n_samples_fit_
        if check_count("count", count, 1) > known:
            raise ValueError(f"`count` must be at most the number of examples, {known}. Received: {count}.")
        distances, numbers = self._found.kneighbors(self._reader.means(inputs, batch_size), count)
        return numbers, distances.astype("float32")
