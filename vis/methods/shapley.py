"""Shapley values: the score shared out among features, fairly."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vis.engine.designs import Everything, Permutations, Regression
from vis.methods.features import FeatureExplainer
from vis.utils.validation import check_count

if TYPE_CHECKING:
    import keras

    from vis.utils.types import Inputs, LayerLike, TargetLike

_EXACT = 12  # features of which all coalitions are evaluated


class ShapleyValues(FeatureExplainer):
    """How much each feature adds to the score, averaged over all orders in which features can enter.

    The only shares that sum to score(x) - score(baseline), treat alike features alike, give a feature that never
    changes the score nothing, and add up when scores do. Their limits: they answer for the baseline that was chosen;
    a model is asked about mixtures that never occur where features depend on one another; and what two features do only
    together is split between them (`interactions` shows it).

    Up to 12 features all 2^features coalitions are evaluated, and the values are exact. Above, random orders are, each
    also backwards; `with_error` tells the standard errors. The coalitions are the same for all samples.

    Source: Shapley 1953; Lundberg & Lee 2017, "A Unified Approach to Interpreting Model Predictions", equation 4;
    orders backwards: Mitchell et al. 2022, "Sampling Permutations for Shapley Value Estimation".

    Args:
        model: Any built or callable Keras model. Not changed.
        features: What is shown or hidden together. Default `None`: each column of a table, time step of a signal or
            token of a text; 8 x 8 cells of an image, 4 x 4 x 4 of a volume. An int: so many cells along each axis.
            `"slic"` (about 50) or `"felzenszwalb"`: segments of images, which need the extra `segments`. Whole numbers
            in the shape of the positions, `(*spatial)` or `(N, *spatial)`: positions with one number are one feature,
            and numbers may be left out. A function that makes these of the input's array. A list with one of these for
            each of several inputs, or a dict with the names of those that are meant; each input's features are its own.
            Padding of texts is never hidden. Of several inputs, tables are all meant; otherwise the image is.
        baseline: What stands where a feature is hidden: a number, an array in the shape of one sample, `"mean"` (each
            sample's mean over its positions, for each channel), `"blur"`, or a background: two or more samples, or a
            `vis.Background`, in each of which the features are put, and whose scores are averaged. Of a text a token
            id. A list or dict for several inputs. Default 0.0.
        num_samples: How many coalitions are evaluated of each sample with more than 12 features, at most; at least
            2 * features, twice that for `with_error`. Times the size of a background. Default 512.
        seed: Seed of the orders. Default `None`: others at each call.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `False`.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, float32 `(N, *spatial)`, signed, in units of the
        score: each position gets the value of its feature. With features in several inputs, such a map for each, in the
        inputs' structure. `by_feature` returns one number a feature.

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
        >>> ShapleyValues(model)(np.ones((1, 3)), 1).round(3).tolist()
        [[1.0, 2.0, 3.0]]
        >>> ShapleyValues(model, features=[0, 0, 1])(np.ones((1, 3)), 1).round(3).tolist()
        [[3.0, 3.0, 3.0]]
    """

    def __init__(
        self,
        model: keras.Layer,
        features: Any = None,
        baseline: Any = 0.0,
        num_samples: int = 512,
        seed: int | None = None,
        *,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(model, features, baseline, seed, output_layer=output_layer, logits=logits)
        self._num_samples = check_count("num_samples", num_samples, 1)

    def design(self, count: int, seed: int, pairs: int = 1) -> Everything | Permutations:
        """Returns all coalitions of a few features, or those of random orders, at least some pairs of them."""
        if count <= _EXACT:
            return Everything(count)
        affordable = (self._num_samples - 2) // (2 * (count - 1))
        if affordable < pairs:
            raise ValueError(
                f"`num_samples` must be at least {2 * pairs * (count - 1) + 2} for {count} features"
                f"{' and their errors' if pairs > 1 else ''}. Received: {self._num_samples}. Give more, or fewer "
                "features (`features=`)."
            )
        return Permutations(count, affordable, seed)

    def interactions(
        self, inputs: Inputs, target: TargetLike = None, batch_size: int = 32, verbose: int = 0
    ) -> np.ndarray:
        """Returns what pairs of features do together, for up to 12 features.

        Source: Lundberg et al. 2020, "From local explanations to global understanding with explainable AI for trees",
        equations 8 to 10, exactly.

        Args:
            inputs: As of a call.
            target: As of a call.
            batch_size: As of a call.
            verbose: As of a call.

        Returns:
            float32 `(N, features, features)`, symmetric, in units of the score. Beside the diagonal: half of the pair's
            interaction. On it: what the feature does alone. Each row sums to the feature's Shapley value.

        Raises:
            ValueError: There are more than 12 features, or samples have different numbers of them.
        """
        task = self.evaluator.task(inputs, target, batch_size, verbose).settled()
        players = self.players(task.batch)
        counts = sorted(set(players.counts.tolist()))
        if len(counts) > 1 or counts[0] > _EXACT:
            raise ValueError(
                f"Interactions need the same number of features in each sample, at most {_EXACT}. Received: "
                f"{', '.join(map(str, counts[:5]))} features. Take some together by `features=`."
            )
        design, found = Everything(counts[0]), []
        for indices in self.groups(task, design, players):
            scores, base = self.coalition_scores(task.part(indices), players, indices, design.masks)
            found.append(design.interactions(scores, base, task.scores()[indices].astype("float64")))
        return np.concatenate(found).astype("float32")


class KernelSHAP(FeatureExplainer):
    """Shapley values by least squares: the sum over the features shown that fits the scores of coalitions best.

    Tends to the same values as `vis.ShapleyValues`, and is exact where `num_samples` reaches all 2^features coalitions.
    With few samples for many features it is usually the more precise of the two for values that are nearly additive.
    The values sum to score(x) - score(baseline) exactly, however few samples there are. The coalitions are the same for
    all samples. Its limits are those of Shapley values.

    Source: Lundberg & Lee 2017, "A Unified Approach to Interpreting Model Predictions", equation 5 and theorem 2, with
    the pairs of Covert & Lee 2021, "Improving KernelSHAP", and the sum as a constraint.

    Args:
        model: Any built or callable Keras model. Not changed.
        features: What is shown or hidden together, see `vis.ShapleyValues`. Default `None`: columns of a table, time
            steps, tokens, 8 x 8 cells of an image, 4 x 4 x 4 of a volume.
        baseline: What stands where a feature is hidden, see `vis.ShapleyValues`: a number, an array, `"mean"`, `"blur"`
            or a background. Default 0.0.
        num_samples: How many coalitions are evaluated of each sample, at most; at least 2 * features + 6. Times the
            size of a background. Default 1024.
        seed: Seed of the coalitions. Default `None`: others at each call.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `False`.

    Returns:
        When called, as by `vis.methods.explainer.Explainer.__call__`, what `vis.ShapleyValues` returns.

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
        >>> KernelSHAP(model, baseline=[0.0, 0.0, 1.0])(np.ones((1, 3)), 1).round(3).tolist()
        [[1.0, 2.0, 0.0]]
    """

    def __init__(
        self,
        model: keras.Layer,
        features: Any = None,
        baseline: Any = 0.0,
        num_samples: int = 1024,
        seed: int | None = None,
        *,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(model, features, baseline, seed, output_layer=output_layer, logits=logits)
        self._num_samples = check_count("num_samples", num_samples, 1)

    def design(self, count: int, seed: int, pairs: int = 1) -> Everything | Regression:
        """Returns coalitions for least squares."""
        if count == 1:
            return Everything(1)
        least = min(2 * count + 6, 2**count)
        if self._num_samples < least:
            raise ValueError(
                f"`num_samples` must be at least {least} for {count} features. Received: {self._num_samples}. Give "
                "more, or fewer features (`features=`)."
            )
        return Regression(count, self._num_samples - 2, seed)
