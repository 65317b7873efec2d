"""TCAV: how often a score rises along a concept that is given by examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from vis.concepts.activations import LayerReader, check_fitted
from vis.utils.seeds import fresh_seed
from vis.utils.validation import check_count, shown

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    import keras

    from vis.utils.types import Inputs, LayerLike, TargetLike

_RIDGE = 1e-2  # of the mean squared length of a sample
_LEVEL = 0.05


class TCAV:
    """Testing with concept activation vectors: for which share of inputs the score rises along a concept.

    A concept is a set of examples. The direction that tells it from a random set, in the space of a layer's channels
    averaged over the positions, is its vector; the score's gradient says whether more of the concept raises the score.
    This is done against several random sets. The same is done for each random set against the others and against the
    concept: if the concept were one more random set, its deviation would be the largest of R + 1 by chance once in
    R + 1 times. That is the p value: exact, at least 1 / (R + 1), and multiplied by the number of concepts before it is
    called significant. Its limits: a concept is what its examples have in common, which may be another thing
    than you think; and a direction says nothing of how much the score changes.

    Source: Kim et al. 2018, "Interpretability Beyond Feature Attribution: Quantitative Testing with Concept Activation
    Vectors", equations 1 to 3. The authors flatten the layer's output and compare by a t-test, whose p values are too
    small, as all scores of a concept share its examples; here they are ranked. The classifier is ridge regression.

    Args:
        model: Any built or callable Keras model. Not changed.
        layer: Its name, path, index, the layer itself, or a pair of one of these and the number of the call.
        concepts: Dict from names to examples: inputs as the model takes them, at least 2, or a data set of these.
        random: Inputs that have nothing to do with the concepts: an array, a list of arrays, or a data set. They are
            cut into sets as large as each concept; there must be at least 2 sets, and 20 for a single concept to be
            significant.
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
        >>> images = np.random.default_rng(0).random((60, 8, 8, 1))
        >>> tcav = TCAV(model, "conv", {"bright": images[:10] + 1}, images[10:]).fit()
        >>> [record["concept"] for record in tcav(images[:5], target=1)]
        ['bright']
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
        self._vectors: dict[str, dict[str, Any]] = {}

    def fit(self, batch_size: int = 32) -> Self:
        """Finds the concepts' vectors; the examples are not needed afterwards, and are let go of.

        Args:
            batch_size: How many examples run at once. Default 32.

        Returns:
            Itself.
        """
        if self._vectors:
            return self
        examples = {name: self._reader.means(data, batch_size) for name, data in self._concepts.items()}
        pool = np.concatenate([self._reader.means(one, batch_size) for one in _as_list(self._random)])
        order = np.random.default_rng(fresh_seed(self._seed)).permutation(len(pool))
        self._vectors = {name: _vectors(name, own, pool[order]) for name, own in examples.items()}
        self._concepts = self._random = None
        return self

    @property
    def accuracies(self) -> dict[str, float]:
        """How well each concept is told from random sets: the share of examples on the right side when left out."""
        check_fitted(self._vectors, "TCAV")
        return {name: float(found["accuracy"]) for name, found in self._vectors.items()}

    def vector(self, concept: str) -> np.ndarray:
        """Returns a concept's vector `(channels,)`, of length 1, the mean over the random sets."""
        check_fitted(self._vectors, "TCAV")
        if concept not in self._vectors:
            raise ValueError(f"There is no concept {shown(concept)}. Choose from {', '.join(self._vectors)}.")
        found = self._vectors[concept]
        mean = found["vectors"][0, 1:].mean(axis=0)
        return (mean / np.linalg.norm(mean)).astype("float32")

    def __call__(self, inputs: Inputs, target: TargetLike = None, batch_size: int = 32) -> Records:
        """Tests the concepts.

        Args:
            inputs: Inputs of the class that is asked about, batch axis first.
            target: See `vis.Saliency`. Give the class; `None` is each input's top class.
            batch_size: How many evaluations of the model run at once. Default 32.

        Returns:
            A list, printed as a table, of a dict for each concept: `concept`; `score`, the share of inputs whose score
            rises along it, averaged over the random sets; `low` and `high`, its range over these; `random`, the
            same for random sets, always 0.5 on average; `p`; `significant`, whether p times the number of concepts is
            below 0.05; `accuracy`; `sets`, the number of random sets.

        Raises:
            ValueError: It was not fitted, or an argument is wrong.
        """
        check_fitted(self._vectors, "TCAV")
        gradients = self._gradients(inputs, target, batch_size)
        return Records(self._record(name, found, gradients) for name, found in self._vectors.items())

    def _gradients(self, inputs, target, batch_size):
        """Returns the score's gradients at the layer, summed over the positions, `(N, channels)`."""
        onward = self._reader.onward(inputs, target, batch_size)
        rows = [self._reader.last(gradients) for _, _, _, gradients in onward.gradients()]
        whole = np.concatenate(rows)
        return whole.reshape(len(whole), -1, whole.shape[-1]).sum(axis=1)

    def _record(self, name, found, gradients):
        rises = np.einsum("nc,ijc->ijn", gradients, found["vectors"])
        shares = (rises > 0).mean(axis=2) + (rises == 0).mean(axis=2) / 2
        sets = len(shares) - 1
        each = (shares.sum(axis=1) - 0.5) / sets  # without that against itself, whose vector is 0
        far = np.abs(each - 0.5)
        p = float((far >= far[0] - 1e-9).mean())
        return {
            "concept": name,
            "score": float(each[0]),
            "low": float(shares[0, 1:].min()),
            "high": float(shares[0, 1:].max()),
            "p": p,
            "significant": bool(p * len(self._vectors) < _LEVEL),
            "accuracy": float(found["accuracy"]),
            "sets": sets,
        }


class Records(list):
    """A list of dicts with the same keys, printed as a table."""

    def __str__(self) -> str:
        if not self:
            return ""
        rows = [list(self[0]), *([_word(value) for value in record.values()] for record in self)]
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join("  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip() for row in rows)


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


def _as_list(data):
    return list(data) if isinstance(data, (list, tuple)) and np.ndim(data[0]) > 1 else [data]


def _vectors(name, examples, pool):
    """Returns the vectors `(R + 1, R + 1, channels)` that tell sets from one another, that of the concept first."""
    size = len(examples)
    number = len(pool) // size if size else 0
    if size < 2 or number < 2:
        raise ValueError(
            f"Concept {name!r} needs at least 2 examples, and `random` at least twice as many inputs, to make several "
            f"sets of that size. Received: {size} examples and {len(pool)} random inputs."
        )
    sets = [examples, *np.split(pool[: number * size], number)]
    vectors, right = np.zeros((number + 1, number + 1, pool.shape[1]), "float32"), []
    for i in range(number + 1):
        for j in range(i + 1, number + 1):
            vectors[i, j], accuracy = told_apart(sets[i], sets[j])
            vectors[j, i] = -vectors[i, j]
            right += [accuracy] if i == 0 else []
    return {"vectors": vectors, "accuracy": np.mean(right)}


def told_apart(one: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns the direction from one set of samples to another by ridge regression, and how well it tells them apart.

    Args:
        one: `(n, channels)`, to which the direction points.
        other: `(m, channels)`.

    Returns:
        `(direction (channels,), share)`: of length 1, and the share of samples that are on the right side when they are
        left out of the fit; zeros and 0.5 where all samples are alike.
    """
    samples = np.concatenate([one, other]).astype("float64")
    sides = np.concatenate([np.ones(len(one)), -np.ones(len(other))])
    samples, wanted = samples - samples.mean(axis=0), sides - sides.mean()
    inner = samples @ samples.T
    strength = _RIDGE * np.trace(inner) / len(inner)
    if strength == 0:
        return np.zeros(samples.shape[1]), 0.5
    inverse = np.linalg.inv(inner + strength * np.eye(len(inner)))
    direction = samples.T @ (inverse @ wanted)
    hat = inner @ inverse + 1 / len(inner)
    fitted = inner @ inverse @ wanted + sides.mean()
    left_out = (fitted - np.diag(hat) * sides) / np.maximum(1 - np.diag(hat), 1e-9)
    return direction / (np.linalg.norm(direction) or 1.0), float((left_out * sides > 0).mean())
