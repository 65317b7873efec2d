"""TCAV: how often a score rises along a concept that is given by examples."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vis.concepts.activations import LayerReader, check_fitted, input_count
from vis.concepts.figures import rise_figure
from vis.utils.hints import is_dataset
from vis.utils.seeds import fresh_seed
from vis.utils.validation import VisualizationWarning, check_count, cut, listed, shown

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    import keras
    from matplotlib.figure import Figure

    from vis.utils.types import Inputs, LayerLike, TargetLike

_RIDGE = 1e-2  # strength of the ridge, as a share of the mean squared distance from the mean
_PARTS, _TOLD = 5, 10  # of examples that are left out; of sets that this is done with
_LEVEL = 0.05


class TCAV:
    """Testing with concept activation vectors: for which share of inputs the score rises along a concept.

    A concept is a set of examples. The direction that tells it from a random set, in the space of a layer's channels
    averaged over the positions, is its vector; the score's gradient says whether more of the concept raises the score.
    This is done against several random sets, all as large as the concept.

    The share alone says little: on a nearly linear network any direction, a random one too, raises the score of all
    inputs or of none. So p asks how far the score at a set's mean, to first order, is from that of all sets: the share
    of sets that are as far as the concept. If the concept were one more random set, it would be the farthest of R + 1
    once in R + 1 times: p is exact, and at least 1 / (R + 1). Significant is p below 0.05 divided by the number of
    concepts (Bonferroni). Limits: a concept is what its examples have in common, which may be another thing than you
    think; the random examples must be of the same kind otherwise, and others than the concept's; a layer that knows a
    concept (`accuracy`) need not use it; where a concept raises the score of some inputs as much as it lowers that of
    others, `rise` is 0.

    Needs scikit-learn (the extra `concepts`).

    Source: Kim et al. 2018, "Interpretability Beyond Feature Attribution: Quantitative Testing with Concept Activation
    Vectors", equations 1 and 2, section 3.4. The authors flatten the layer's output and compare shares by a t-test,
    whose p values are too small, as all shares of a concept come from the same examples: of random concepts it
    called a quarter significant with 10 random sets, and six of ten with 50. The rise is along the difference of means,
    the pattern of Pahde et al. 2022, "Navigating Neural Space", equation 5.

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: Its name, path, index, the layer itself, or a pair of one of these and the number of the call.
        concepts: Dict from names to examples: inputs as the model takes them, at least 2, or a data set of these.
        random: Inputs that have nothing to do with the concepts: an array, a data set, or a list of these. All are
            shuffled together, then cut into sets as large as each concept. At least 2 sets; for k concepts, 20 k sets,
            or none can be significant, which is warned of.
        seed: Seed of the cut. Default 0. `None`: another each time.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.

    Raises:
        ValueError: There is no such layer, or too few examples.
        TypeError: An argument is of the wrong kind.

    Examples:
        >>> import keras
        >>> keras.utils.set_random_seed(0)
        >>> conv = keras.layers.Conv2D(4, 3, activation="relu", name="conv")
        >>> head = [keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)]
        >>> model = keras.Sequential([keras.Input((8, 8, 1)), conv, *head])
        >>> images = np.random.default_rng(0).random((210, 8, 8, 1))
        >>> tcav = TCAV(model, "conv", {"bright": images[:10] + 1}, images[10:]).fit()
        >>> [(record["concept"], record["significant"]) for record in tcav(images[:5], target=1)]
        [('bright', True)]
    """

    def __init__(
        self,
        model: keras.Layer,
        layer: LayerLike,
        concepts: Mapping[str, Any],
        random: Any,
        seed: int | None = 0,
        *,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        self._reader = LayerReader(model, layer, output_layer, logits)
        self._seed = None if seed is None else check_count("seed", seed)
        self._concepts, self._random = _read_concepts(concepts), random
        self._found: dict[str, _Found] = {}

    def fit(self, batch_size: int = 32) -> Self:
        """Finds the concepts' vectors; the examples are not needed afterwards, and are let go of.

        Args:
            batch_size: How many examples run at once. Default 32.

        Returns:
            Itself.
        """
        if self._found:
            return self
        _check_installed()
        check_count("batch_size", batch_size, 1)
        examples = {
            name: self._means(f"Concept {shown(name)}", data, batch_size) for name, data in self._concepts.items()
        }
        sets = _as_list(self._random, input_count(self._reader.model))
        pool = np.concatenate([self._means("`random`", one, batch_size) for one in sets])
        order = np.random.default_rng(fresh_seed(self._seed)).permutation(len(pool))
        self._found = {name: _Found(name, own, pool[order]) for name, own in examples.items()}
        fewest = min(found.sets for found in self._found.values())
        needed = math.ceil(len(self._found) / _LEVEL)
        if fewest < needed:
            warnings.warn(
                f"No concept can be significant with {fewest} random sets, as p is at least 1 / (sets + 1). Give at "
                f"least {needed} sets for concepts of this number, {len(self._found)}: more random inputs, or fewer "
                "examples of each concept.",
                VisualizationWarning,
                stacklevel=2,
            )
        self._concepts = self._random = None
        return self

    def _means(self, words, data, batch_size):
        try:
            return self._reader.means(data, batch_size)
        except (FloatingPointError, TypeError, ValueError) as error:
            kind = next(kind for kind in (FloatingPointError, TypeError, ValueError) if isinstance(error, kind))
            raise kind(cut(f"{words}: {error}", 399)) from error

    def vector(self, concept: str) -> np.ndarray:
        """Returns a concept's vector, float32 `(channels,)`, of length 1: the mean over the random sets."""
        check_fitted(self._found, "TCAV")
        if concept not in self._found:
            raise ValueError(f"There is no concept {shown(concept)}. Choose from {listed(self._found)}.")
        mean = self._found[concept].vectors.mean(axis=0)
        return (mean / (np.linalg.norm(mean) or 1.0)).astype("float32")

    def __call__(self, inputs: Inputs, target: TargetLike = None, batch_size: int = 32) -> Records:
        """Tests the concepts.

        Args:
            inputs: Inputs of the class that is asked about, batch axis first.
            target: See `vis.Saliency`. Give the class; `None` is each input's top class.
            batch_size: How many evaluations of the model run at once. Default 32.

        Returns:
            A list, printed as a table, of a dict for each concept: `concept`; `score`, the share of inputs whose score
            rises along it (half where it stays), averaged over the random sets; `low` and `high`, its range over these;
            `rise`, by how much the score rises from the random sets' mean to the concept's, to first order, averaged
            over the inputs; `p`; `significant`; `accuracy`, the share of left-out examples that the vector puts on the
            right side, averaged over the first ten sets; `sets`, the number of random sets; `random_rises`, what `rise`
            is for each of them.

        Raises:
            ValueError: It was not fitted, or an argument is wrong.
        """
        check_fitted(self._found, "TCAV")
        gradients = self._reader.gradients(inputs, target, batch_size)
        level = _LEVEL / len(self._found)
        return Records({"concept": name, **found.record(gradients, level)} for name, found in self._found.items())

    def figure(self, records: Sequence[Mapping[str, Any]]) -> Figure:
        """Returns a figure of what a call returned: a row for each concept.

        Left a bar is its `score`, with the range over the random sets. Right a diamond is its `rise`, filled where it
        is significant, and each grey line that of a random set. A star beside p says significant, too.

        Args:
            records: The answer of a call.

        Returns:
            A Matplotlib `Figure`.

        Raises:
            TypeError: It is no such answer.
        """
        if not isinstance(records, (list, tuple)) or not all(map(_is_record, records)) or not records:
            raise TypeError(
                f"`records` must be what a call of a `TCAV` returned. Received: {shown(records)}. Such as "
                "`tcav.figure(tcav(images, target=1))`."
            )
        return rise_figure(records)


class Records(list):
    """A list of dicts with the same keys, printed as a table."""

    def __str__(self) -> str:
        if not self:
            return ""
        names = [name for name in self[0] if name != "random_rises"]
        rows = [names, *([_word(record[name]) for name in names] for record in self)]
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join("  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip() for row in rows)


def _is_record(value):
    return isinstance(value, dict) and "random_rises" in value


def _word(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _read_concepts(concepts):
    if not hasattr(concepts, "items") or not len(concepts):
        raise TypeError(
            "`concepts` must be a dict from names to examples, at least one. Received: "
            f"{shown(concepts)}. Such as `{{'stripes': images}}`."
        )
    return dict(concepts)


def _as_list(data, inputs):
    """Returns the sets of random inputs as a list, for a model with a number of inputs."""
    if not isinstance(data, (list, tuple)) or not data:
        return [data]
    if is_dataset(data[0]):
        return list(data)
    several = isinstance(data[0], (list, tuple, Mapping)) if inputs > 1 else np.ndim(data[0]) > 1
    return list(data) if several else [data]


class _Found:
    """Vectors and means of one concept and of random sets of its size.

    Args:
        name: Of the concept.
        examples: What the layer puts out for its examples, `(n, channels)`.
        pool: The same for random inputs, in random order, `(m, channels)`.
    """

    def __init__(self, name, examples, pool):
        size = len(examples)
        self.sets = len(pool) // size if size else 0
        if size < 2 or self.sets < 2:
            raise ValueError(
                f"Concept {shown(name)} needs at least 2 examples, and `random` at least twice as many inputs, to make "
                f"several sets of that size. Received: {size} examples and {len(pool)} random inputs."
            )
        sets = np.split(pool[: self.sets * size], self.sets)
        self.vectors = np.stack([direction(examples, one) for one in sets])
        self.accuracy = float(np.mean([told_apart(examples, one) for one in sets[:_TOLD]]))
        self.means = np.stack([one.mean(axis=0, dtype="float64") for one in (examples, *sets)])

    def record(self, gradients, level):
        """Returns what there is to say of the concept, with gradients `(N, channels)`."""
        own, scores = shares(gradients, self.vectors), mean_scores(gradients, self.means)
        rises, p = scores - scores[1:].mean(), rank_p(scores)
        return {
            **{"score": float(own.mean()), "low": float(own.min()), "high": float(own.max())},
            **{"rise": float(rises[0]), "p": p, "significant": p < level},
            **{"accuracy": self.accuracy, "sets": self.sets, "random_rises": rises[1:].tolist()},
        }


def shares(gradients: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Returns for which share of gradients `(N, channels)` the score rises along vectors `(R, channels)`, `(R,)`.

    Where the score does neither rise nor fall, it counts half.
    """
    along = np.einsum("nc,rc->rn", gradients, vectors)
    return (along > 0).mean(axis=1) + (along == 0).mean(axis=1) / 2


def mean_scores(gradients: np.ndarray, means: np.ndarray) -> np.ndarray:
    """Returns the score at the means of sets, to first order and without its constant, `(R + 1,)`.

    Args:
        gradients: `(N, channels)`, averaged over N.
        means: `(R + 1, channels)`, of the concept and of the random sets.
    """
    return means @ gradients.mean(axis=0, dtype="float64")


def rank_p(scores: np.ndarray) -> float:
    """Returns in which share of sets the score is at least as far from the mean of all as in the first one."""
    far = np.abs(scores - scores.mean())
    return float((far >= far[0] * (1 - 1e-9)).mean())


def direction(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the direction from one set of samples to another, by ridge regression, `(channels,)`, of length 1.

    It is zeros where all samples are alike.

    Args:
        one: `(n, channels)`, to which the direction points.
        other: `(m, channels)`.
    """
    samples, sides = _labelled(one, other)
    found = np.ravel(_classifier(samples).fit(samples, sides).coef_)
    return found / (np.linalg.norm(found) or 1.0)


def told_apart(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the share of samples that are on the right side when they are left out, in at most five parts."""
    from sklearn.model_selection import cross_val_score

    samples, sides = _labelled(one, other)
    parts = min(_PARTS, len(one), len(other))
    return float(cross_val_score(_classifier(samples), samples, sides, cv=parts).mean())


def _labelled(one, other):
    return np.concatenate([one, other]).astype("float64"), np.repeat([1, -1], [len(one), len(other)])


def _classifier(samples):
    from sklearn.linear_model import RidgeClassifier

    size = np.square(samples - samples.mean(axis=0)).sum()  # so that units of the layer do not matter
    return RidgeClassifier(_RIDGE * size / len(samples) or 1.0)


def _check_installed():
    if importlib.util.find_spec("sklearn") is None:
        raise ImportError(
            "Concepts are told apart by the package scikit-learn, which is not installed. Install it, "
            "`pip install scikit-learn`, or the extra `concepts`."
        )
