"""LIME: a line fitted to the score around one input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vis.engine.designs import Local
from vis.methods.features import FeatureExplainer
from vis.utils.validation import check_count, check_nonnegative, check_number

if TYPE_CHECKING:
    import keras

    from vis.utils.types import LayerLike


class LIME(FeatureExplainer):
    """The slopes of a line fitted to the score where some features are hidden, close to the input above all.

    Each feature's coefficient says by how much the score changes, on average nearby, when it is shown. Their limits:
    the coefficients do not sum to the score; they hang on the width of the kernel, for which there is no right
    choice, and shrink with `alpha`; and a line says nothing of what features do together.

    Source: Ribeiro et al. 2016, "Why Should I Trust You?", equation 1 and algorithm 1. The cosine distance d of the
    coalition from the whole, the kernel exp(-d^2 / (2 width^2)), odds of one half and ridge regression are those of the
    authors' code for images; no features are selected. The coalitions are the same for all samples.

    Args:
        model: Any built or callable Keras model. Not changed.
        features: What is shown or hidden together, see `vis.ShapleyValues`. Default `None`: columns of a table, time
            steps, tokens, 8 x 8 cells of an image, 4 x 4 x 4 of a volume.
        baseline: What stands where a feature is hidden, see `vis.ShapleyValues`: a number, an array, `"mean"`, `"blur"`
            or a background. Default 0.0.
        num_samples: How many coalitions are drawn, at least features + 2; of few features all are taken instead, each
            as often as it would be drawn. Each is evaluated once. Times the size of a background. Default 1000.
        kernel_width: Width of the kernel, above 0, in units of the distance, which reaches 1. Default 0.25.
        alpha: Strength of the ridge's penalty, at least 0. Default 1.0.
        seed: Seed of the coalitions. Default `None`: others at each call.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `False`.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, float32 `(N, *spatial)`, signed, in units of the
        score: each position gets the coefficient of its feature; see `vis.ShapleyValues`.

    Raises:
        ValueError: Features or baseline do not fit the inputs, `num_samples` is too small, or another argument is
            wrong.
        TypeError: An argument is of the wrong kind.
        ImportError: scikit-image is missing, and segments are to be found.

    Warns:
        VisualizationWarning: The baseline 0 is far from the values of the input.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[1.0], [2.0], [3.0]]), np.zeros(1)])
        >>> LIME(model, alpha=0.0)(np.ones((1, 3)), 1).round(3).tolist()
        [[1.0, 2.0, 3.0]]
    """

    def __init__(
        self,
        model: keras.Layer,
        features: Any = None,
        baseline: Any = 0.0,
        num_samples: int = 1000,
        kernel_width: float = 0.25,
        alpha: float = 1.0,
        seed: int | None = None,
        *,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(model, features, baseline, seed, output_layer=output_layer, logits=logits)
        self._num_samples = check_count("num_samples", num_samples, 1)
        self._width, self._alpha = check_number("kernel_width", kernel_width), check_nonnegative("alpha", alpha)
        if self._width <= 0:
            raise ValueError(f"`kernel_width` must be above 0. Received: {kernel_width}. The authors take 0.25.")

    def design(self, count: int, seed: int, pairs: int = 1) -> Local:
        """Returns random coalitions to fit a line to."""
        if self._num_samples < count + 2:
            raise ValueError(
                f"`num_samples` must be at least {count + 2} for {count} features. Received: {self._num_samples}. Give "
                "more, or fewer features (`features=`)."
            )
        return Local(count, self._num_samples, seed, self._width, self._alpha)
