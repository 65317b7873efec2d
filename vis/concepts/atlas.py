"""An activation atlas: what a layer puts out for many images, as one map of pictures."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from vis.concepts.activations import LayerReader, check_fitted, each_batch
from vis.concepts.crops import Reservoir
from vis.concepts.figures import atlas_figure
from vis.concepts.layouts import cells_of, check_layout, on_a_plane
from vis.losses import Direction
from vis.methods.explainer import check_finite
from vis.methods.feature_visualization import FeatureVisualization
from vis.plotting import as_pictures
from vis.utils.labels import class_names
from vis.utils.seeds import fresh_seed
from vis.utils.validation import check_count

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Self

    from matplotlib.figure import Figure

    from vis.engine.onward import Onward
    from vis.utils.types import LayerLike

_LEAST = 10  # activations
_COSINE_POWER = 2.0
_MOST_NAMES = 5  # classes that the page tells of each cell


class ActivationAtlas:
    """What a layer knows, as a map: what it puts out for many images, laid out so that like is beside like.

    The activations of random places in the images are put on a plane and averaged in the cells of a grid. Each cell
    gets an image that is made for its average, and the classes that it speaks for. `fit` finds the cells, `visualize`
    makes their images, `figure` and `to_html` show them.

    Its limits: a layout is one of many, and what is far apart in it may be alike. An average hides what differs within
    its cell. An image shows what the direction of a cell looks like to the network, not that the network uses it; and
    what is not in the images is not on the map.

    Memory is bounded, however many images there are. The layout by UMAP needs umap-learn (the extra `umap`).

    Source: Carter et al. 2019, "Activation Atlas". Unlike there, the standard layout is by PCA, of activations scaled
    to length 1; and what an activation contributes to a class is how much its score falls when the activation is set to
    0 at its place. Where the rest of the network is affine, such as a mean and a dense layer, that is the gradient
    times the activation, as in the paper.

    Args:
        model: Any built or callable Keras model with one input. Not changed.
        layer: Its name, path, index, the layer itself, or a pair of one of these and the number of the call. With
            spatial axes or tokens, each place has an activation; without, as of a dense layer, each image has one.
        grid: Rows and columns of the map, at least 1. It reaches from the 1st to the 99th percentile of each axis;
            activations beyond are counted to the cells at the edge. Default 10.
        layout: `"pca"`, the two principal axes, always the same; or `"umap"`, which keeps neighbours together.
            Default `"pca"`.
        min_count: How many activations a cell needs; others stay empty. Default 5.
        num_activations: How many activations are kept at most, drawn with equal odds. Default 10,000.
        seed: Seed of what is drawn. Default `None`: another for each fit.
        output_layer: Layer whose units are the classes. Default `None`: the model's output.
        logits: Whether scores before a final softmax or sigmoid are meant. Default `True`.

    Attributes:
        activations: float32 `(n, channels)`: those that were kept. Activations of 0 in all channels have no direction
            and are left out.
        coordinates: float32 `(n, 2)`: where they are on the plane, to the right and upwards.
        counts: int `(grid, grid)`: how many are in each cell; row 0 is at the top.
        cells: int `(cells, 2)`: row and column of the cells that have enough.
        directions: float32 `(cells, channels)`: the average of each.
        contributions: float32 `(cells, classes)`: how much of each class's score its activations carry, on average.
        images: float32 `(cells, *input shape)`: what was made for them; `None` before `visualize`.

    Raises:
        ValueError: There is no such layer, or an argument is wrong.
        TypeError: An argument is of the wrong kind.
        ImportError: `layout="umap"` without umap-learn.

    Examples:
        >>> pool, dense = keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(2)
        >>> model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.ReLU(name="colours"), pool, dense])
        >>> images = np.random.default_rng(0).random((50, 8, 8, 3))
        >>> atlas = ActivationAtlas(model, "colours", grid=2, seed=0).fit(images, per_image=4)
        >>> atlas.counts.sum(), atlas.directions.shape
        (np.int64(200), (4, 3))
    """

    def __init__(
        self,
        model: keras.Layer,
        layer: LayerLike,
        grid: int = 10,
        layout: str = "pca",
        min_count: int = 5,
        num_activations: int = 10_000,
        seed: int | None = None,
        *,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        self._reader = LayerReader(model, layer, output_layer, logits)
        self.grid, self.layout = check_count("grid", grid, 1), check_layout(layout)
        self.min_count = check_count("min_count", min_count, 1)
        self._num_activations = check_count("num_activations", num_activations, _LEAST)
        self._seed = None if seed is None else check_count("seed", seed)
        self.activations = self.coordinates = self.directions = self.contributions = np.zeros((0, 0), "float32")
        self.counts = self.cells = np.zeros((0, 0), "int64")
        self.images: np.ndarray | None = None
        self._range = 0.0, 1.0
        self._settings: dict[str, Any] = {}

    @property
    def model(self) -> keras.Layer:
        """The model."""
        return self._reader.model

    def fit(self, images: Any, per_image: int = 1, batch_size: int = 32) -> Self:
        """Finds the cells, what they hold, and which classes they speak for.

        Only the network after the layer runs for the classes, once for each activation, where its graph allows it.

        Args:
            images: As the model takes them, or a data set of such batches.
            per_image: How many places of each image are drawn; of fewer, all are taken. Default 1.
            batch_size: How many images run at once. Default 32.

        Returns:
            Itself.

        Raises:
            ValueError: There are fewer than 10 activations, or no cell has enough.
        """
        per_image, batch_size = check_count("per_image", per_image, 1), check_count("batch_size", batch_size, 1)
        seed = fresh_seed(self._seed)
        activations, worth = self._draw(images, per_image, batch_size, seed)
        coordinates = on_a_plane(activations, self.layout, seed)
        places = cells_of(coordinates, self.grid)
        numbers = places @ [self.grid, 1]
        counts = np.bincount(numbers, minlength=self.grid**2)
        enough = np.flatnonzero(counts >= self.min_count)
        if not len(enough):
            raise ValueError(
                f"`images` must give some cell at least {self.min_count} activations. Received: {len(activations)} "
                f"activations, at most {counts.max()} in a cell. Give more images, more `per_image`, a smaller "
                "`grid` or `min_count`."
            )
        self.activations, self.coordinates, self.images = activations, coordinates, None
        self.counts, self.cells = counts.reshape(self.grid, self.grid), np.stack(divmod(enough, self.grid), axis=1)
        self.directions = np.stack([activations[numbers == one].mean(axis=0) for one in enough])
        self.contributions = np.stack([worth[numbers == one].mean(axis=0) for one in enough])
        self._settings = {"activations": len(activations), "per image": per_image, "seed": seed}
        return self

    def _draw(self, images, per_image, batch_size, seed):
        """Returns activations `(n, channels)` and what they contribute, `(n, classes)`."""
        kept, draw, channels = Reservoir(self._num_activations, seed), np.random.default_rng([seed, 1]), 0
        for inputs in each_batch(self.model, images):
            for onward in self._reader.onward_to_all(inputs, batch_size):
                found, worth = self._drawn(onward, per_image, draw)
                channels = found.shape[1]
                for row in np.concatenate([found, worth], axis=1)[found.any(axis=1)]:
                    kept.add(row)
        if len(kept.kept) < _LEAST:
            raise ValueError(
                f"`images` must give at least {_LEAST} activations that are not 0. Received: {len(kept.kept)}. Give "
                "more images, or more places of each, `per_image=`."
            )
        return np.split(np.stack(kept.kept), [channels], axis=1)

    def _drawn(self, onward: Onward, per_image, draw):
        """Returns the activations of random places, `(n, channels)`, and what they contribute, `(n, classes)`."""
        values = check_finite(self._reader.last(onward.outputs))
        flat = values.reshape(len(values), -1, values.shape[-1])
        places = np.argsort(draw.random(flat.shape[:2]), axis=1)[:, :per_image]

        def without(images, numbers):
            rows = flat[images]
            rows[np.arange(len(rows)), places[images, numbers]] = 0
            return self._reader.in_place(rows.reshape(-1, *values.shape[1:]))

        worth = onward.scores()[:, None] - onward.scores_of(places.shape[1], without)
        found = np.take_along_axis(flat, places[..., None], axis=1)
        worth = worth.reshape(-1, worth.shape[-1])
        if worth.shape[1] == 1:  # a single output unit is class 1, its negative class 0
            worth = np.concatenate([-worth, worth], axis=1)
        return found.reshape(-1, found.shape[-1]), worth

    def labels(self, names: Sequence[str] | None = None, count: int = 2) -> list[list[str]]:
        """Returns the names of the classes that each cell contributes most to, the first one first.

        Args:
            names: A name for each class. Default `None`: those of ImageNet for 1,000 classes, else "class 0" and so on.
            count: How many at most; classes that a cell speaks against are left out. Default 2.

        Returns:
            A list of names for each cell, in the order of `cells`.
        """
        return [[name for name, _ in pairs] for pairs in self._best(names, check_count("count", count, 1))]

    def _best(self, names, count):
        """Returns pairs of names and contributions for each cell; of classes with one name, the best of them."""
        check_fitted(self.cells.size, "ActivationAtlas")
        known, found = class_names(names, self.contributions.shape[1]), []  # ImageNet has two missiles
        for row in self.contributions:
            best = {}
            for k in np.argsort(-row, kind="stable"):
                if row[k] > 0 and len(best) < count:
                    best.setdefault(known[k], float(row[k]))
            found.append(list(best.items()))
        return found

    def visualize(self, steps: int = 256, seed: int = 0, batch_size: int = 16, **options: Any) -> np.ndarray:
        """Makes an image for each cell, by `vis.FeatureVisualization` of its direction.

        Args:
            steps: How many steps. Default 256.
            seed: Seed of the images: with the same `batch_size` the same images. Default 0.
            batch_size: How many images are made at once. Default 16.
            **options: As of `vis.FeatureVisualization`, such as `input_range` or `parameterization`.

        Returns:
            float32 `(cells, *input shape)`, values in `input_range`; they are kept as `images` too.
        """
        check_fitted(self.cells.size, "ActivationAtlas")
        count = len(self.directions)
        size = min(check_count("batch_size", batch_size, 1), count)
        loss = Direction(self._reader.layer, self.directions[:size], cosine_power=_COSINE_POWER)
        maker, found = FeatureVisualization(self.model, loss, **options), []
        for start in range(0, count, size):
            chosen = np.minimum(np.arange(start, start + size), count - 1)  # the last batch is filled up
            loss.vector = self.directions[chosen]  # an argument of what is compiled: the next batch needs no new one
            found.append(maker(size, steps, seed))
        self.images, self._range = np.concatenate(found)[:count], options.get("input_range", (0.0, 1.0))
        self._settings["steps"] = steps
        return self.images

    def _pictures(self):
        """Returns the images as RGB pictures, uint8 `(cells, H, W, 3)`."""
        if self.images is None:
            raise ValueError("Cells must have images before they are shown. Received: none. Call `.visualize()` first.")
        low, high = self._range
        return np.round(255 * as_pictures(np.clip((self.images - low) / (high - low), 0, 1))).astype("uint8")

    def figure(self, labels: Sequence[str] | None = None) -> Figure:
        """Returns a figure of the whole map: the image of each cell above its two best classes; empty cells are white.

        Args:
            labels: A name for each class, see `labels`.

        Raises:
            ValueError: There are no images yet, or they are no pictures.
        """
        words = self.labels(labels)
        return atlas_figure(self._pictures(), self.cells, self.grid, words)

    def to_html(
        self, path: str | os.PathLike, labels: Sequence[str] | None = None, title: str = "Activation atlas"
    ) -> None:
        """Writes one self-contained page with the map, to zoom in and to walk around.

        Args:
            path: Of the file; an existing one is replaced, once the new one is whole.
            labels: A name for each class, see `labels`.
            title: Words at its top.

        Raises:
            OSError: The file cannot be written.
            ValueError: There are no images yet, or they are no pictures.
        """
        from vis.report.atlas import write_atlas

        best = self._best(labels, _MOST_NAMES)
        write_atlas(path, title, self._pictures(), self.cells, self.counts, best, self._all_settings())

    def _all_settings(self):
        own = {"layout": self.layout, "grid": self.grid, "least count": self.min_count}
        return {
            "vis": sys.modules[__name__.partition(".")[0]].__version__,
            "keras": keras.version(),
            "backend": keras.backend.backend(),
            "model": self.model.name,
            "layer": self._reader.layer.name,
            **{**own, **self._settings},
        }
