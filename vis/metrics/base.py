"""What all metrics share: samples to measure on, maps that fit them, and the one call.

A metric measures several maps of each sample at once, `(K, N, *spatial)`: a method's own and random ones beside it. So
what does not depend on the maps is evaluated once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import tree

from vis.engine.imputation import Imputation
from vis.engine.masking import Background, Hiding, Masking, Masks, Values, fill_for
from vis.engine.requests import SCORES
from vis.methods.perturbation import PerturbationExplainer
from vis.utils.validation import check_count, check_numeric, listed, shown

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from vis.engine.tasks import Task
    from vis.utils.types import Index, Inputs, LayerLike, Maps, TargetLike

Reduction = str | Callable[[np.ndarray], np.ndarray]
FILLS = ("mean", "blur", "road")
_REDUCTIONS = {
    "absolute": lambda maps: np.abs(maps).sum(axis=-1),
    "sum": lambda maps: maps.sum(axis=-1),
    "max": lambda maps: np.abs(maps).max(axis=-1),
}


class Metric:
    """Base class of the metrics.

    Attributes:
        name: What tables call it.
        higher_is_better: Which way is better.
        says_truth: Whether it tells if a map is true to the model or to given masks; otherwise it only describes.
    """

    name = ""
    higher_is_better = True
    says_truth = True
    needs_masks = False

    def __init__(self, reduce: Reduction = "absolute", seed: int = 0) -> None:
        self.reduce, self.seed = read_reduction(reduce), check_count("seed", seed)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def __call__(
        self, inputs: Inputs, maps: Maps, target: TargetLike = None, batch_size: int = 32, verbose: int = 0
    ) -> np.ndarray:
        """Measures maps.

        Args:
            inputs: What the model takes, batch axis first. Not changed.
            maps: What an explainer returned for them, raw: `(N, *spatial)`, or with channels, which are summed by
                absolute value (`reduce=`); one channel is taken as it is, with its sign.
            target: What was explained, see `vis.Saliency`. Default `None`: each sample's top class.
            batch_size: How many evaluations of the model run at once.
            verbose: 1 for a progress bar. Default 0.

        Returns:
            float32 `(N,)`.

        Raises:
            ValueError: An argument has a wrong value; maps are of another size or count, or not finite.
            TypeError: An argument is of the wrong kind.
        """
        samples = self.samples(inputs, target, batch_size, verbose)
        return self.measure(samples, samples.read(maps, self.reduce)[None], {})[0].astype("float32")

    def samples(self, inputs, target=None, batch_size=32, verbose=0):
        """Returns what is measured on."""
        check_count("batch_size", batch_size, 1)
        return PlainSamples(inputs)

    def measure(self, samples, maps: np.ndarray, known: dict) -> np.ndarray:
        """Measures several maps of each sample.

        Args:
            samples: What `samples` returned.
            maps: `(K, N, *spatial)`.
            known: What other metrics evaluated of the same maps; it is read and filled.

        Returns:
            float64 `(K, N)`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `measure(samples, maps, known)`.")


class ModelMetric(Metric):
    """Base class of the metrics that ask the model what becomes of its score when positions are hidden.

    Args:
        model: Any built or callable Keras model. Not changed.
        fill: What stands in place of hidden positions: a number, an array that fits one sample or the batch, `"mean"`
            (each channel's mean over the positions of the sample), `"blur"`, `"road"` (what the neighbours suggest, and
            noise) or a `vis.metrics.Background`.
        reduce: What becomes of several channels: `"absolute"` (sum of absolute values), `"sum"`, `"max"` (of absolute
            values), or a function `(..., channels) -> (...)`. One channel is taken as it is.
        seed: Seed of what is random, such as the order of equal values.
        input_name: Which of several inputs the maps belong to, see `vis.Occlusion`.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is meant. Default `False`.
    """

    def __init__(
        self,
        model: keras.Layer,
        fill: ArrayLike | str | Background = "mean",
        *,
        reduce: Reduction = "absolute",
        seed: int = 0,
        input_name: str | Index | None = None,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(reduce, seed)
        self._explainer = PerturbationExplainer(model, input_name=input_name, output_layer=output_layer, logits=logits)
        self.fill = check_fill(fill)

    @property
    def model(self) -> keras.Layer:
        """The model that is asked."""
        return self._explainer.model

    @property
    def fill_name(self) -> str:
        """The fill in words."""
        return words_fill(self.fill)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.model.name!r}, fill={self.fill_name!r})"

    def samples(self, inputs, target=None, batch_size=32, verbose=0):
        """Returns what is measured on, with the target settled."""
        explainer = self._explainer
        task = explainer.evaluator.task(inputs, target, batch_size, verbose).settled()
        return Samples(explainer, task, explainer.perturbed(task.batch))


@dataclasses.dataclass(eq=False)
class PlainSamples:
    """Samples of which only the inputs are known, not the model.

    Args:
        inputs: What the user gave.
    """

    inputs: Any

    @property
    def arrays(self) -> list:
        """The inputs, flat."""
        return [np.asarray(one) for one in tree.flatten(self.inputs)]

    def read(self, maps, reduce):
        """Returns maps `(N, *spatial)`: an axis of channels that the inputs have too is reduced."""
        array, given = check_maps(maps), self.arrays
        if len(given) == 1 and len(array) != len(given[0]):
            raise ValueError(
                f"`maps` must have one map for each of {len(given[0])} inputs. Received: shape {array.shape}."
            )
        if len(given) == 1 and array.ndim == given[0].ndim > 3 and array.shape != given[0].shape:
            raise ValueError(
                f"`maps` must have the shape of the inputs, {given[0].shape}, or that without channels. Received: "
                f"shape {array.shape}. Give what the explainer returned for these inputs."
            )
        if array.ndim > 3 and any(array.shape == one.shape for one in given):
            is_first = keras.config.image_data_format() == "channels_first"
            return reduced(np.moveaxis(array, 1, -1) if is_first else array, reduce)
        return array


@dataclasses.dataclass(eq=False)
class Samples:
    """Samples of one model, and its scores where parts of them are hidden.

    Args:
        explainer: What knows the model and which input is meant, a `vis.methods.perturbation.PerturbationExplainer`.
        task: The inputs and the settled target.
        index: The input that the maps belong to.
    """

    explainer: PerturbationExplainer
    task: Task
    index: int
    known: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        self.shape = self.explainer.spatial_shape(self.task.batch, self.index)
        self.is_text = bool(self.explainer.vocabulary(self.task.batch, self.index))
        kept = self.explainer.evaluator.kept_tokens(self.task.batch, self.index) if self.is_text else None
        self.kept = np.ones((self.count, *self.shape), bool) if kept is None else kept

    @property
    def count(self) -> int:
        """The number of samples."""
        return self.task.count

    @property
    def values(self) -> np.ndarray:
        """The input that the maps belong to, channels last, or without channels."""
        array = self.task.batch.arrays[self.index]
        is_first = self.has_channels and self.task.batch.formats[self.index] == "channels_first"
        return np.moveaxis(array, 1, -1) if is_first else array

    @property
    def has_channels(self) -> bool:
        """Whether the input has a channel axis besides the positions."""
        return self.task.batch.arrays[self.index].ndim > len(self.shape) + 1

    def once(self, key, make):
        """Returns what was made under a key before, or makes it."""
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]

    def clean(self) -> np.ndarray:
        """Returns the scores `(N,)` of the samples as they are."""
        return self.once("clean", lambda: check_scores(self.task.scores()).astype("float64"))

    def read(self, maps, reduce):
        """Returns maps `(N, *spatial)`, float32, checked."""
        return self._fitting(check_maps(self._own(maps)), reduce)

    def _own(self, maps):
        """Returns the maps of the input that is meant, out of those of several."""
        names, count = self.task.batch.layout.names, len(self.task.batch.arrays)
        if isinstance(maps, dict) and set(maps) == set(names):
            return maps[names[self.index]]
        if not isinstance(maps, (dict, tuple)) and not (isinstance(maps, list) and len(maps) == count > 1):
            return maps
        flat, places = tree.flatten(maps), tree.flatten(self.task.batch.pack([str(i) for i in range(count)]))
        if len(flat) not in (1, count):
            raise ValueError(f"`maps` must be those of one input, or of {count}. Received: {len(flat)} arrays.")
        return flat[places.index(str(self.index))] if len(flat) > 1 else flat[0]

    def _fitting(self, array, reduce):
        whole, has_axis = (self.count, *self.shape), array.ndim == len(self.shape) + 2
        if array.shape == whole:
            return array
        is_first = has_axis and not self.is_text and self.task.batch.formats[self.index] == "channels_first"
        moved = np.moveaxis(array, 1, -1) if is_first else array
        if has_axis and moved.shape[:-1] == whole and (self.is_text or moved.shape == self.values.shape):
            return reduced(moved, reduce)
        mend = "Give what the explainer returned for these inputs."
        if array.ndim == len(whole) and len(array) == self.count:
            mend = f"Enlarge coarse maps with `vis.utils.images.resize(maps, {self.shape})`."
        raise ValueError(
            f"`maps` must have the shape {whole}, that of the inputs' positions, or that with channels. Received: "
            f"shape {array.shape}. {mend}"
        )

    def read_fill(self, fill):
        """Returns a fill as what `vis.engine.masking.Hiding` takes."""
        if isinstance(fill, Imputation):
            self._check_imputable()
            return fill
        if isinstance(fill, str) and fill == "road":
            self._check_imputable()
            return Imputation()
        values, batch = self.task.batch.arrays[self.index], self.task.batch
        words = self.explainer.vocabulary(batch, self.index) if self.is_text else None
        if words and not isinstance(fill, (str, Background)) and not _are_tokens(fill, words):
            raise ValueError(
                f"`fill` of a text must be a token id, from 0 to {words - 1}. Received: {shown(fill)}. Take the id of "
                "the tokenizer's mask or padding token."
            )
        if self.is_text and isinstance(fill, str):
            raise ValueError(
                f"`fill` of a text must be a token id. Received: {fill!r}. Take the id of the tokenizer's mask or "
                "padding token, such as `fill=0` (in `vis.evaluate`, `fills=(0,)`)."
            )
        return fill_for(fill, values, batch.formats[self.index], self.has_channels, "fill")

    def _check_imputable(self):
        values = self.task.batch.arrays[self.index]
        if values.dtype.kind != "f" or values.ndim < 3:
            raise ValueError(
                "`fill='road'` means neighbours that are images, signals or volumes of floats. Received: an input "
                f"{values.shape} of {values.dtype}. Give a number, an array or a `vis.metrics.Background`."
            )

    def scores(self, fill, count, hidden, quiet=False) -> np.ndarray:
        """Returns the scores where positions are hidden, averaged over the versions of the fill.

        Args:
            fill: What stands in their place, as `read_fill` gives it.
            count: How many parts are hidden of each sample, one at a time.
            hidden: See `vis.engine.masking.Hiding`.
            quiet: Whether to show no progress.

        Returns:
            float64 `(N, count)`.
        """
        rows = Hiding(self.task.batch, self.index, hidden, fill, self.has_channels)
        found = check_scores(self.task.scores_of(SCORES, count * fill.versions, inputs=rows, quiet=quiet))
        return found.reshape(self.count, count, fill.versions).mean(axis=-1, dtype="float64")

    def faded(self, fill, maps) -> np.ndarray:
        """Returns the scores `(K, N)` of samples seen through maps `(K, N, *spatial)`, each from its 0 to its 1.

        A map is scaled from its least to its largest value; a constant one hides nothing.
        """
        shown_fill = self.read_fill(fill)
        if not isinstance(shown_fill, Values) or self.is_text:
            raise ValueError(
                "Seeing an input through a map needs a fill that can be mixed with it. Received: "
                f"{'token ids' if self.is_text else words_fill(fill)}. Give a number, an array, 'mean' or 'blur'."
            )
        axes = tuple(range(2, maps.ndim))
        low, high = maps.min(axis=axes, keepdims=True), maps.max(axis=axes, keepdims=True)
        flat = high == low
        masks = np.where(flat, 1, (maps - low) / np.where(flat, 1, high - low)).astype("float32")
        is_first = self.has_channels and self.task.batch.formats[self.index] == "channels_first"
        array = np.moveaxis(shown_fill.array, -1, 1) if is_first else shown_fill.array
        parts = Masks(len(maps), len(self.shape), lambda images, numbers: masks[numbers, images])
        rows = Masking(self.task.batch, self.index, parts, array)
        return check_scores(self.task.scores_of(SCORES, len(maps), inputs=rows)).T.astype("float64")


def check_scores(scores: np.ndarray) -> np.ndarray:
    """Returns scores, or raises where some are NaN or infinite: no comparison with them means anything."""
    bad = int((~np.isfinite(scores)).sum())
    if bad:
        raise FloatingPointError(
            f"{bad} of {scores.size} scores are NaN or infinite when parts of the inputs are hidden. Give a fill that "
            "the model can take: of a text, a token that its mask does not leave out."
        )
    return scores


def check_maps(maps) -> np.ndarray:
    """Returns maps as float32, or raises."""
    array = check_numeric("maps", maps)
    if array.ndim < 2 or not array.size:
        raise ValueError(
            f"`maps` must be a batch of maps, (N, *spatial). Received: shape {array.shape}. For one map, `maps[None]`."
        )
    return array


def read_reduction(reduce) -> Callable:
    """Returns the function that takes channels together."""
    if callable(reduce):
        return reduce
    if not isinstance(reduce, str) or reduce not in _REDUCTIONS:
        raise ValueError(
            f"`reduce` must be one of {listed(_REDUCTIONS)}, or a function (..., channels) -> (...). Received: "
            f"{shown(reduce)}."
        )
    return _REDUCTIONS[reduce]


def reduced(maps, reduce) -> np.ndarray:
    """Returns maps without their last axis, of which one channel is taken as it is."""
    if maps.shape[-1] == 1:
        return maps[..., 0]
    found = np.asarray(reduce(maps), "float32")
    if found.shape != maps.shape[:-1]:
        raise ValueError(
            f"`reduce` must take the last axis away: {maps.shape} to {maps.shape[:-1]}. Received: {found.shape}."
        )
    return found


def _are_tokens(fill, words):
    ids = np.asarray(fill)
    return bool((ids == np.round(ids)).all() and ids.min() >= 0 and ids.max() < words)


def check_fill(fill):
    """Returns a fill, or raises for words that name none and for what holds no numbers."""
    if isinstance(fill, (Background, Imputation)):
        return fill
    if isinstance(fill, str):
        if fill not in FILLS:
            raise ValueError(
                f"`fill` must be a number, an array, {listed(FILLS)}, or a `vis.metrics.Background`. Received: "
                f"{shown(fill)}."
            )
        return fill
    if isinstance(fill, (bool, np.bool_)) or fill is None:
        raise TypeError(f"`fill` must be a number, an array, {listed(FILLS)}, or a background. Received: {fill}.")
    array = check_numeric("fill", fill)
    return array if array.ndim else float(array)


def words_fill(fill) -> str:
    """Words a fill for tables."""
    if isinstance(fill, str):
        return fill
    if isinstance(fill, Background):
        return f"background of {fill.versions}"
    if isinstance(fill, Imputation):
        return "road"
    return f"{fill:g}" if np.ndim(fill) == 0 else "array"
