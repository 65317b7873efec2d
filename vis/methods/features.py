"""The base class of the methods that ask what becomes of the score when some features are shown and others are not.

A method is a design of `vis.engine.designs` or `vis.engine.sensitivity`: which features to show, and what the scores
say. Which positions are a feature, and what stands in its place, is read here.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from vis.engine.inputs import farthest_mean, named_input
from vis.engine.masking import Background, fill_for, warn_of_far_zero, warn_of_wide_columns
from vis.engine.players import Part, Players, cells, numbered
from vis.engine.requests import SCORES
from vis.engine.tokens import no_token, plain_inputs
from vis.methods.explainer import check_finite
from vis.methods.perturbation import PerturbationExplainer, check_ids
from vis.methods.regions import import_segmentation
from vis.methods.sampling import Sampler
from vis.utils.hints import first_text
from vis.utils.seeds import fresh_seed
from vis.utils.validation import (
    VisualizationWarning,
    check_count,
    check_unmasked,
    cut,
    is_integer,
    listed,
    shown,
)

if TYPE_CHECKING:
    import keras

    from vis.engine.inputs import Batch
    from vis.engine.tasks import Task
    from vis.utils.types import Inputs, LayerLike, Maps, TargetLike

_MOST = 2**20  # scores that are kept at once
_SIDES = {2: 8, 3: 4}  # cells along each axis of images and volumes
_SEGMENTS = 50  # of an image, about
_SMALLEST = 1 / 200  # of the image, of Felzenszwalb's segments
_SEGMENTERS = ("slic", "felzenszwalb")


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureValues:
    """What a method found, feature by feature.

    Attributes:
        values: float32 `(N, features)`, in units of the score; NaN behind the last feature of samples that have fewer.
        errors: Standard errors in the same form; NaN where too few samples were drawn to tell.
        base: float32 `(N,)`: the score where no feature is shown, averaged over a background; NaN for methods that
            do not ask for it.
        scores: float32 `(N,)`: the scores of the samples as they are.
        labels: The feature of each position, the column of `values`, `(N, *spatial)`; -1 for padding. A structure like
            that of the inputs if several of them have features.
        names: What each column of `values` is, for `feature_names=` of the pictures: of a data frame its columns,
            "a + b" where they are one feature; else the input, and the number of the feature in it, in the order of the
            model's inputs (of a dict, that of its keys in the alphabet).
        classes: Whole numbers `(N,)`: the output unit that is explained of each sample; of one unit, 1, or 0 where its
            negative is explained. `None` for other targets.
    """

    values: np.ndarray
    errors: np.ndarray
    base: np.ndarray
    scores: np.ndarray
    labels: Any
    names: list[str]
    classes: np.ndarray | None = None

    def __repr__(self) -> str:
        return f"FeatureValues(values={self.values.shape}, base={self.base.shape}, names={shown(self.names)})"


class FeatureExplainer(Sampler, PerturbationExplainer):
    """Base class of the methods that show some features and not others; a subclass writes `design`.

    Args:
        model: Any built or callable Keras model. Not changed.
        features: See `vis.ShapleyValues`.
        baseline: See `vis.ShapleyValues`.
        seed: See `vis.ShapleyValues`.
        output_layer: See `vis.methods.explainer.Explainer`.
        logits: See `vis.methods.explainer.Explainer`.
    """

    asks_baseline = True  # whether the score without any feature is wanted
    fades = False  # whether features are shown in part
    cells: int | None = None  # along each axis by default; `None`: as `_SIDES` says
    how_to_name = "Give `features=` as a dict with the name of the one whose parts are hidden, such as {'image': None}."

    def __init__(
        self,
        model: keras.Layer,
        features: Any = None,
        baseline: Any = 0.0,
        seed: int | None = None,
        *,
        output_layer: LayerLike | None = None,
        logits: bool = False,
    ) -> None:
        super().__init__(model, output_layer=output_layer, logits=logits)
        self._features, self._baseline = _checked(features), baseline
        self._seed = None if seed is None else check_count("seed", seed)

    def design(self, count: int, seed: int, pairs: int = 1) -> Any:
        """Returns which coalitions of some features to evaluate, a `vis.engine.designs.Growing` such as `Everything`.

        Args:
            count: The number of features, at least 1.
            seed: Of what is drawn.
            pairs: How many independent draws there must be: 2 where errors are wanted.
        """
        raise NotImplementedError(f"{type(self).__name__} must define `design(count, seed, pairs)`.")

    def explain(self, task: Task) -> Maps:
        """Returns the value of each feature at its positions."""
        answer = self._answer(task)
        return self._painted(task.batch, answer.players, answer.values)

    def with_error(
        self, inputs: Inputs, target: TargetLike = None, batch_size: int = 32, verbose: int = 0
    ) -> tuple[Maps, Maps]:
        """Explains a batch of inputs, and says how far off the sampling may be.

        Args:
            inputs: As of a call.
            target: As of a call.
            batch_size: As of a call.
            verbose: As of a call.

        Returns:
            `(maps, errors)`: what a call returns, and the standard error of each value in the same form: 0 where all
            coalitions were evaluated. About 95 % of values lie within 1.96 standard errors of the exact one; of few
            draws (Sobol's designs, pairs of KernelSHAP) some fewer.

        Raises:
            ValueError: Too few samples are drawn to tell.
        """
        task = self.evaluator.task(inputs, target, batch_size, verbose)
        answer = self._answer(task, pairs=2)
        maps, errors = (self._painted(task.batch, answer.players, rows) for rows in (answer.values, answer.errors))
        return check_finite(maps), check_finite(errors)

    def by_feature(
        self, inputs: Inputs, target: TargetLike = None, batch_size: int = 32, verbose: int = 0
    ) -> FeatureValues:
        """Explains a batch of inputs, one number a feature instead of a map.

        Args:
            inputs: As of a call.
            target: As of a call.
            batch_size: As of a call.
            verbose: As of a call.

        Returns:
            A `vis.methods.features.FeatureValues`, as `vis.plotting.waterfall` and its relatives draw them.
        """
        task = self.evaluator.task(inputs, target, batch_size, verbose)
        answer = self._answer(task, pairs=1)
        if target is None:
            _tell_of_classes(task.batch, answer.classes)
        labels = [np.broadcast_to(part.labels, (task.count, *part.labels.shape[1:])) for part in answer.players.parts]
        return FeatureValues(
            _table(answer.values),
            _table(answer.errors),
            answer.base.astype("float32"),
            answer.scores,
            self._packed(task.batch, answer.players, labels),
            _names(self.model, task.batch, answer.players),
            answer.classes,
        )

    def _answer(self, task, pairs=None):
        """Returns an `_Answer` for a task, with errors where it is said how many independent draws there must be."""
        task, seed = task.settled(), fresh_seed(self._seed)
        pairs = pairs if self._standard_error is None else 2
        players, progress = self.players(task.batch), self.progress(task.count)
        full, base = task.scores().astype("float64"), np.full(task.count, np.nan)
        values, errors = [np.zeros(0)] * task.count, [np.zeros(0)] * task.count
        for count in np.unique(players.counts):
            design = self.design(int(count), seed, pairs or 1)
            for indices in self.groups(task, design, players):
                own = self.progress(len(indices))
                known = _Known(self, task if len(indices) == task.count else task.part(indices), players, indices)
                for part in [design] if own.goal is None else design.growing():
                    left, (scores, empty) = indices[own.left], known.scores(own, part.masks)
                    base[left] = empty
                    found = part.values(scores, empty, full[left])
                    doubts = part.errors(scores, empty, full[left]) if pairs else found * np.nan
                    for place, index in enumerate(left):
                        values[index], errors[index] = found[place], doubts[place]
                    own.look(known.fresh * players.versions, doubts.max(axis=1))
                    if not len(own.left):
                        break
                progress.take(indices, own)
        self.tell(progress)
        return _Answer(players, values, errors, base, full.astype("float32"), getattr(task.goal, "classes", None))

    @staticmethod
    def groups(task: Task, design: Any, players: Players) -> Iterator[np.ndarray]:
        """Yields the samples that have a design's number of features, some at a time: their scores fit into memory."""
        indices = np.flatnonzero(players.counts == design.count)
        size = max(1, _MOST // max(len(design.masks) * players.versions, 1))
        for start in range(0, len(indices), size):
            yield indices[start : start + size]

    def coalition_scores(
        self, task: Task, players: Players, indices: np.ndarray, masks: np.ndarray
    ) -> tuple[np.ndarray, Any]:
        """Returns the scores `(G, n)` of masks, and those of the baseline, `(G,)`, or NaN where they are not wanted.

        Args:
            task: The samples.
            players: The features of the whole batch.
            indices: Which samples of the whole batch they are.
            masks: Which features are shown.
        """
        return _Known(self, task, players, indices).scores(self.progress(len(indices)), masks)

    def evaluated(self, task: Task, players: Players, indices: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Returns the scores `(G, n)` of masks; the arguments are those of `coalition_scores`."""
        rows = players.rows(task.batch, indices, masks)
        found = task.scores_of(SCORES, rows.count, inputs=rows)
        _check_scores(found)
        return found.reshape(len(indices), len(masks), players.versions).mean(axis=2, dtype="float64")

    def _painted(self, batch, players, rows):
        """Returns values of features, a row a sample, as maps in the structure that the user gets."""
        return self._packed(batch, players, [part.painted(rows) for part in players.parts])

    @staticmethod
    def _packed(batch, players, arrays):
        """Returns the array of the only input with features, or one for each input, in the inputs' structure."""
        if len(arrays) == 1:
            return arrays[0]
        known = {part.index: array for part, array in zip(players.parts, arrays)}
        flat = [known.get(i, np.zeros(array.shape, "float32")) for i, array in enumerate(batch.arrays)]
        return batch.pack(flat)

    def players(self, batch: Batch) -> Players:
        """Returns the features of a batch."""
        features = self._by_input(batch)
        baselines = _for_inputs("baseline", self._baseline, batch, self.model, list(features))
        parts, before = [], np.zeros(batch.count, int)
        for index, own in features.items():
            part = self._part(batch, index, own, baselines[index])
            part.labels = _raised(part.labels, before)
            before = before + part.counts
            parts.append(part)
        _check_versions(parts)
        return Players(parts)

    def _by_input(self, batch):
        """Returns which inputs have features, and what the user gave for each."""
        given = self._features
        if isinstance(given, dict):
            return {named_input(self.model, batch, name, "features"): own for name, own in given.items()}
        if isinstance(given, list):
            return dict(enumerate(_one_each("features", given, batch)))
        plain = list(plain_inputs(self.model, batch) or range(len(batch.arrays)))
        are_columns = all(batch.arrays[i].ndim == 2 and self._is_table(batch, i) for i in plain)
        if are_columns and len(plain) > 1 and (given is None or is_integer(given)):
            return dict.fromkeys(plain, given)
        chosen = self.perturbed(batch)
        _tell_of_others(batch, chosen, [i for i in plain if i != chosen and self._is_table(batch, i)])
        return {chosen: given}

    def _is_table(self, batch, index):
        """Tells whether an input is columns, a single one of codes among them, and no text."""
        return batch.arrays[index].shape[1] == 1 or not self.vocabulary(batch, index)

    def _part(self, batch, index, features, baseline):
        array, name = batch.arrays[index], batch.layout.names[index]
        if self.fades and (not batch.is_float(index) or self.vocabulary(batch, index)):
            raise ValueError(
                f"`{name}` holds whole numbers or strings, which {type(self).__name__} cannot show in part. Received: "
                f"{array.dtype}. Use vis.KernelSHAP or vis.Occlusion."
            )
        shape = self.spatial_shape(batch, index)
        has_channels = array.ndim > len(shape) + 1
        moves = has_channels and batch.formats[index] == "channels_first"
        values = np.moveaxis(array, 1, -1) if moves else array
        kept = self.evaluator.kept_tokens(batch, index) if self.vocabulary(batch, index) else None
        labels, counts = numbered(self._labels(name, features, values, shape), kept)
        if not counts.all():
            raise ValueError(f"`{name}` must hold a feature in each sample. Received: a sample of padding only.")
        fill = self._fill(batch, index, baseline, has_channels)
        return Part(index, labels, np.broadcast_to(counts, batch.count), fill, has_channels)

    def _labels(self, name, features, values, shape):
        """Returns the feature of each position, `(N, *spatial)` or `(1, *spatial)`."""
        if features is None and values.dtype.kind == "f" and values.ndim > 2:
            features = _SIDES.get(len(shape)) if self.cells is None else self.cells
        if features is None:
            return np.arange(np.prod(shape)).reshape(1, *shape)
        if is_integer(features):
            return cells(shape, features)[None]
        if isinstance(features, str):
            return segmented(name, features, values, len(shape))
        if callable(features):
            features = _read_labels("what `features` returns", features(values.copy()))
        if features.shape not in (shape, (len(values), *shape)):
            raise ValueError(
                f"`features` must have the shape of the positions of `{name}`, {shape}, or {(len(values), *shape)} "
                f"with a row for each sample. Received: shape {features.shape}. Give a whole number for each "
                "position: those with one number are one feature."
            )
        return features[None] if features.shape == shape else features

    def _fill(self, batch, index, baseline, has_channels):
        """Returns what is shown in place of features, as `vis.engine.masking.Values` or `Background`."""
        values, vocabulary = batch.arrays[index], self.vocabulary(batch, index)
        batch.check_columns("baseline", index, baseline)
        if vocabulary and first_text(getattr(baseline, "samples", baseline)) is not None:
            raise no_token("baseline", baseline, vocabulary)
        if np.ndim(baseline) == values.ndim and len(baseline) > 1:
            baseline = Background(baseline)
        if np.isscalar(baseline) and baseline == 0 and not vocabulary:
            name = batch.layout.names[index]
            if values.ndim == 2:
                warn_of_wide_columns(name, values, farthest_mean(self.model))
            else:
                warn_of_far_zero(name, values)
        # ids as floats, which hold fractions too: these are told of
        given = np.float32(values) if vocabulary else values
        fill = fill_for(baseline, given, batch.formats[index], has_channels)
        if vocabulary:
            check_ids(fill.samples if isinstance(fill, Background) else fill.array, vocabulary)
        return fill


def _names(model, batch, players):
    """Returns what each feature is called, by the sample that has most of them."""
    packed = batch.pack(list(range(len(batch.arrays))))
    own = {index: str(key) for key, index in packed.items()} if isinstance(packed, dict) else {}
    tensors, found = getattr(model, "inputs", None) or [], []
    for part in players.parts:
        known = tensors[part.index].name if part.index < len(tensors) else "input"
        known = "feature" if len(players.parts) == 1 and known.startswith("keras_tensor") else known
        name, count = own.get(part.index, known), int(part.counts.max())
        columns = batch.columns and batch.columns[part.index]
        if columns and part.labels.shape == (1, len(columns)):
            found += [
                " + ".join(column for column, own_label in zip(columns, part.labels[0]) if own_label == label)
                for label in np.unique(part.labels[0])
            ]
            continue
        found += [name] if count == 1 and len(players.parts) > 1 else [f"{name} {i}" for i in range(count)]
    return found


class _Known:
    """The scores of coalitions that were evaluated for some samples, so that none is evaluated twice.

    Args:
        explainer: The explainer.
        task: The samples.
        players: The features of the whole batch.
        indices: Which samples of the whole batch they are.
    """

    def __init__(self, explainer, task, players, indices):
        self._evaluated = functools.partial(explainer.evaluated, players=players)
        self._task, self._indices, self._asks_baseline = task, indices, explainer.asks_baseline
        self._places, self._scores = {}, np.zeros((len(indices), 0))
        self.fresh = 0  # coalitions that were evaluated of late

    def scores(self, progress, masks):
        """Returns the scores of masks, and of the baseline or NaN, of the samples that are left."""
        if self._asks_baseline:
            masks = np.concatenate([np.zeros((1, masks.shape[1]), masks.dtype), masks])
        # where all are evaluated at once, no less than was said: another number would be compiled anew
        keys = list(range(len(masks))) if progress.goal is None else [row.tobytes() for row in masks]
        left = progress.left
        fresh = list({key: i for i, key in enumerate(keys) if key not in self._places}.values())
        self._places.update({keys[i]: len(self._places) + n for n, i in enumerate(fresh)})
        if fresh:
            found = np.full((len(self._indices), len(fresh)), np.nan)
            found[left] = self._evaluated(progress.part(self._task), indices=self._indices[left], masks=masks[fresh])
            self._scores = np.concatenate([self._scores, found], axis=1)
        self.fresh = len(fresh)
        found = self._scores[np.ix_(left, [self._places[key] for key in keys])]
        return (found[:, 1:], found[:, 0]) if self._asks_baseline else (found, np.nan)


@dataclasses.dataclass(eq=False)
class _Answer:
    """What `FeatureExplainer` found of a batch: a row of values for each sample."""

    players: Players
    values: list
    errors: list
    base: np.ndarray
    scores: np.ndarray
    classes: np.ndarray | None


def _tell_of_others(batch, chosen, others):
    """Says so where columns beside the input that is meant are never hidden."""
    names = [batch.layout.names[i] for i in others if batch.arrays[i].ndim == 2]
    if names:
        warnings.warn(
            f"Only parts of `{batch.layout.names[chosen]}` are hidden and have values; {cut(listed(names), 80)} stay "
            "as they are. For all, name each input: `features={'image': None, 'table': None}`, by your names.",
            VisualizationWarning,
            stacklevel=3,
        )


def _tell_of_classes(batch, classes):
    """Says so where rows of a table are explained for classes or outputs of their own, as no one named one."""
    if classes is not None and len(set(classes)) > 1 and all(array.ndim == 2 for array in batch.arrays):
        found = cut(listed(np.unique(classes).tolist()), 60)
        warnings.warn(
            f"Each row is explained for its own highest output, {found}: the values do not belong into one picture. "
            "Name one, `by_feature(rows, target=1)`; `classes` tells which they were.",
            VisualizationWarning,
            stacklevel=3,
        )


def _table(rows):
    """Returns rows of several lengths as one float32 array, with NaN at the ends."""
    table = np.full((len(rows), max(map(len, rows))), np.nan, "float32")
    for line, row in zip(table, rows):
        line[: len(row)] = row
    return table


def _raised(labels, before):
    """Returns labels that count on from the features of earlier inputs."""
    if not before.any():
        return labels
    offsets = before[:1] if (before == before[0]).all() and len(labels) == 1 else before
    offsets = offsets.reshape(-1, *[1] * (labels.ndim - 1))
    return np.where(labels < 0, labels, labels + offsets)


def _checked(features):
    """Returns what the user gave as `features`, its arrays read and copied."""
    if isinstance(features, Mapping) and not features:
        raise ValueError("`features` as a dict must name an input. Received: {}. For all, leave it out.")
    if isinstance(features, Mapping):
        return {name: _checked_one(own) for name, own in features.items()}
    if isinstance(features, (list, tuple)) and any(not is_integer(one) and np.ndim(one) == 0 for one in features):
        return [_checked_one(own) for own in features]  # words, functions and None are no labels
    if isinstance(features, (list, tuple)) and len({np.shape(one) for one in features}) > 1:
        return [_checked_one(own) for own in features]
    return _checked_one(features)


def _checked_one(features):
    if features is None or callable(features):
        return features
    if is_integer(features):
        return check_count("features", features, 1)
    if isinstance(features, str):
        if features not in _SEGMENTERS:
            raise ValueError(
                f"`features` must be a number of cells, {listed(_SEGMENTERS)}, an array of whole numbers or a "
                f"function. Received: {shown(features)}."
            )
        return features
    return _read_labels("features", features)


def _read_labels(name, value):
    check_unmasked(name, value)
    try:
        array = np.array(value)
    except ValueError:
        array = np.array(None)
    if array.dtype.kind not in "iu" or array.ndim == 0 or not array.size or array.min() < 0:
        came = f"{array.dtype}, shape {array.shape}" if array.dtype != object else shown(value)
        least = f", least {array.min()}" if array.dtype.kind == "i" and array.size else ""
        least += ". Rows to compare with are the `baseline=`" if array.dtype.kind == "f" and array.ndim else ""
        raise ValueError(
            f"{name if ' ' in name else f'`{name}`'} must be whole numbers from 0 on, the feature of each position. "
            f"Received: {came}{least}. For columns, `np.array([0, 0, 1])` takes the first two together."
        )
    return array


def _one_each(name, given, batch):
    if len(given) != len(batch.arrays):
        raise ValueError(
            f"`{name}` as a list must have one entry for each of {len(batch.arrays)} inputs. Received: {len(given)}. "
            "Or give a dict with the names of the inputs that are meant."
        )
    return given


def _for_inputs(name, given, batch, model, indices):
    """Returns what the user gave for each input with features: the same for all, or one for each."""
    if isinstance(given, Mapping):
        found = {named_input(model, batch, key, name): own for key, own in given.items()}
        missing = [batch.layout.names[index] for index in indices if index not in found]
        if missing:
            raise ValueError(f"`{name}` must have an entry for each input with features. Missing: {listed(missing)}.")
        return found
    if len(batch.arrays) > 1 and isinstance(given, (list, tuple)):
        return dict(enumerate(_one_each(name, given, batch)))
    if len(indices) > 1 and (np.ndim(given) if not isinstance(given, Background) else 1):
        raise ValueError(
            f"`{name}` must be a number or one for each of {len(batch.arrays)} inputs, as a list or a dict. Received: "
            f"{shown(given)}."
        )
    return dict.fromkeys(indices, given)


def _check_scores(scores):
    if not np.isfinite(scores).all():
        raise FloatingPointError(
            f"The model's score is NaN or infinite for {int((~np.isfinite(scores)).sum())} of {scores.size} inputs "
            "with hidden features. Give another `baseline=`: for a text the id of the mask token, as a text of "
            "padding only may have no score."
        )


def _check_versions(parts):
    found = {part.fill.versions for part in parts} - {1}
    if len(found) > 1:
        raise ValueError(
            f"`baseline` must hold as many samples for each input: row i of all is one sample. Received: "
            f"{' and '.join(map(str, sorted(found)))}."
        )


def segmented(name: str, method: str, values: np.ndarray, rank: int) -> np.ndarray:
    """Returns segments of images, found by scikit-image.

    Args:
        name: What messages call the images.
        method: `"slic"` (also for volumes) or `"felzenszwalb"`.
        values: `(N, *spatial, C)`.
        rank: How many spatial axes there are.

    Returns:
        Whole numbers `(N, *spatial)`.

    Raises:
        ValueError: They are no images, or one is a single segment.
        ImportError: scikit-image is missing.
    """
    if rank not in ((2, 3) if method == "slic" else (2,)) or values.ndim != rank + 2 or values.dtype.kind != "f":
        raise ValueError(
            f"`features={method!r}` needs images with channels. Received: `{name}` of shape {values.shape}. Give a "
            "number of cells along each axis, or whole numbers, the feature of each position."
        )
    segmentation = import_segmentation()
    size = np.prod(values.shape[1:-1])
    images = [_scaled(image) for image in values]
    least = max(1, int(size * _SMALLEST))
    if method == "slic":
        found = [segmentation.slic(image, n_segments=_SEGMENTS, start_label=0) for image in images]
    else:
        found = [segmentation.felzenszwalb(image, scale=250, min_size=least) for image in images]
    whole = [number for number, labels in enumerate(found) if labels.min() == labels.max()]
    if whole:
        raise ValueError(
            f"`features={method!r}` must cut each image of `{name}` into two segments or more. Received: one segment, "
            f"the whole image, for images {listed(whole)}, as of noise or of a single colour. Give a number of cells "
            "along each axis, `features=8`; or `features=` a function of the images, a segmentation of your own."
        )
    return np.stack(found)


def _scaled(image):
    """Returns an image with values from 0 to 1."""
    low, high = float(image.min()), float(image.max())
    return (image.astype("float64") - low) / (high - low or 1.0)
