"""Sensitivity analysis: how the score varies with each part of the input."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vis.engine.sensitivity import Dependence, TotalIndices
from vis.methods.features import FeatureExplainer
from vis.utils.validation import check_count

if TYPE_CHECKING:
    import keras

    from vis.utils.types import LayerLike


class Sobol(FeatureExplainer):
    """Which share of the score's variance each feature has a part in, when all are faded at random.

    Total Sobol indices: alone and together with others. They rank what matters without a sign, and see what features do
    together; so they may sum to more than 1. Their limits: fading through the baseline makes inputs that the model
    never saw, a feature counts whether it raises or lowers the score, and few designs leave noise (`with_error`).

    Source: Fel et al. 2021, "Look at the Variance! Efficient Black-box Explanations with Sobol-based Sensitivity
    Analysis", equation 5, with the estimator of Jansen 1999. The masks are the same for all samples.

    Args:
        model: Any built or callable Keras model. Not changed.
        grid: Cells along each axis. Default 8.
        num_designs: How many places the features are varied at, at least 2, best a power of 2; each costs
            features + 2 evaluations. Default 32.
        seed: Seed of the masks. Default `None`: others at each call.
        features: Default `None`: the cells of `grid`; otherwise see `vis.ShapleyValues`.
        baseline: See `vis.ShapleyValues`. Default 0.0.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `False`.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, float32 `(N, *spatial)`, at least 0: shares of
        the variance; 0 where the score is constant.

    Raises:
        ValueError: Features or baseline do not fit the inputs, the input holds whole numbers, or another argument
            is wrong.
        TypeError: An argument is of the wrong kind.
        ImportError: scikit-image is missing, and segments are to be found.

    Warns:
        VisualizationWarning: The baseline 0 is far from the values of the input.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[1.0], [2.0], [0.0]]), np.zeros(1)])
        >>> Sobol(model, num_designs=512, seed=0)(np.ones((1, 3)), 1)[0].round(2).astype(float).round(2).tolist()
        [0.2, 0.8, 0.0]
    """

    asks_baseline = False
    fades = True

    def __init__(
        self,
        model: keras.Layer,
        grid: int = 8,
        num_designs: int = 32,
        seed: int | None = None,
        *,
        features: Any = None,
        baseline: Any = 0.0,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(model, features, baseline, seed, output_layer=output_layer, logits=logits)
        self.cells = check_count("grid", grid, 1)
        self._num_designs = check_count("num_designs", num_designs, 2)

    def design(self, count: int, seed: int, pairs: int = 1) -> TotalIndices:
        """Returns masks that vary each feature alone."""
        return TotalIndices(count, self._num_designs, seed)


class HSIC(FeatureExplainer):
    """How much the score depends on whether a feature is shown, by the Hilbert-Schmidt independence criterion.

    Zero only where the score does not depend on the feature alone, whatever the form of the dependence. Its cost does
    not grow with the number of features, but with the square of the masks. Its limits: no sign, units that
    say little (compare features of one sample), and blind to what features do only together.

    Source: Novello et al. 2022, "Making Sense of Dependence: Efficient Black-box Explanations Using Dependence
    Measure", section 3, with the kernels named in `vis.engine.sensitivity.Dependence`; the authors' code takes the
    median score for the kernel's width, which a constant added to the score would change. The masks are the same for
    all samples.

    Args:
        model: Any built or callable Keras model. Not changed.
        grid: Cells along each axis. Default 7.
        num_masks: How many masks, at least 4; each hides half of the features. Default 1500.
        seed: Seed of the masks. Default `None`: others at each call.
        features: Default `None`: the cells of `grid`; otherwise see `vis.ShapleyValues`.
        baseline: See `vis.ShapleyValues`. Default 0.0.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `False`.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, float32 `(N, *spatial)`, from 0 to 0.5, without
        unit; 0 where the score is constant.

    Raises:
        ValueError: Features or baseline do not fit the inputs, or another argument is wrong.
        TypeError: An argument is of the wrong kind.
        ImportError: scikit-image is missing, and segments are to be found.

    Warns:
        VisualizationWarning: The baseline 0 is far from the values of the input.

    Examples:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
        >>> model.set_weights([np.array([[1.0], [2.0], [0.0]]), np.zeros(1)])
        >>> maps = HSIC(model, num_masks=200, seed=0)(np.ones((1, 3)), 1)[0]
        >>> bool(maps[1] > maps[0] > 10 * maps[2])
        True
    """

    asks_baseline = False

    def __init__(
        self,
        model: keras.Layer,
        grid: int = 7,
        num_masks: int = 1500,
        seed: int | None = None,
        *,
        features: Any = None,
        baseline: Any = 0.0,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(model, features, baseline, seed, output_layer=output_layer, logits=logits)
        self.cells = check_count("grid", grid, 1)
        self._num_masks = check_count("num_masks", num_masks, 4)

    def design(self, count: int, seed: int, pairs: int = 1) -> Dependence:
        """Returns masks that hide half of the features."""
        return Dependence(count, self._num_masks, seed)
