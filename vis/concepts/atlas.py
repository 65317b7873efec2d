"""Activation atlas: what a layer puts out for many images, laid out on a plane and made visible."""

from __future__ import annotations

import dataclasses
import importlib.util
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from vis.concepts.activations import LayerReader, check_fitted, each_batch
from vis.concepts.atlas_pages import write_atlas
from vis.concepts.crops import Reservoir
from vis.concepts.figures import atlas_figure
from vis.losses import Direction
from vis.methods.feature_visualization import FeatureVisualization
from vis.utils.seeds import fresh_seed
from vis.utils.validation import check_count, pick

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence
    from typing import Self

    from matplotlib.figure import Figure

    from vis.utils.types import LayerLike

_EDGE = 1  # percent of the activations at either end of an axis that are put into the outermost cells
_LAYOUTS = {"pca": None, "umap": None}


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """One cell of an atlas.

    Attributes:
        row: From the top, from 0.
        column: From the left, from 0.
        activation: The mean of the activations in it, float32 `(channels,)`.
        count: How many they are.
        classes: Pairs of a class, as the model numbers it, and its attribution: the sum, over the activations of images
            that the model puts into the class, of gradient times activation, divided by `count`. The largest first.
    """

    row: int
    column: int
    activation: np.ndarray
    count: int
    classes: list[tuple[int, float]]

    def __repr__(self) -> str:
        return f"Cell({self.row}, {self.column}, count={self.count}, classes={self.classes[:2]})"


class ActivationAtlas:
    """An atlas of what a layer puts out for many images: like beside like, each cell shown by feature visualisation.

    Of each image, the outputs at some positions are taken. They are laid out on a plane, so that what is alike lies
    near by; the plane is cut into cells; and for each cell an image is made that excites the mean of its
    activations. Its limits: a plane holds little of many axes, and another layout gives another atlas; a mean may be of
    things that have nothing in common; and a picture shows what the layer can tell, not that the network uses it:
    the attributions say which classes hang on it.

    Needs scikit-learn (the extra `concepts`), and `umap-learn` for its layout. Memory is bounded, however many images
    there are.

    Source: Carter et al. 2019, "Activation Atlas", https://distill.pub/2019/activation-atlas.

    Args:
        model: Any built or callable Keras model with one input. Not changed.
        layer: Its name, path, index, the layer itself, or a pair of one of these and the number of the call. With
            spatial outputs or without.
        grid: Cells along each side, at least 1. Default 8.
        num_positions: How many positions of each image are drawn, at least 1. Default 1, as in the paper.
        layout: `"pca"`, the two axes along which activations differ most (default), or `"umap"`, which keeps
            neighbours together.
        seed: Seed of what is drawn. Default `None`: another for each fit.
        num_samples: How many activations are kept at most, drawn with equal odds. Default 20000.
        output_layer: Layer whose units are the classes. Default `None`: the model's output.

    Attributes:
        cells: The cells that hold anything, a list of `Cell`, row by row, once it is fitted.
        images: What `visualize` made, float32, one for each cell; empty before.

    Raises:
        ValueError: There is no such layer, or an argument is wrong.
        TypeError: An argument is of the wrong kind.
        ImportError: `layout="umap"`, and `umap-learn` is missing.
    """

    def __init__(
        self,
        model: keras.Layer,
        layer: LayerLike,
        grid: int = 8,
        num_positions: int = 1,
        layout: str = "pca",
        seed: int | None = None,
        num_samples: int = 20_000,
        *,
        output_layer: LayerLike | None = None,
    ) -> None:
        self._reader = LayerReader(model, layer, output_layer)
        self.grid, self._positions = check_count("grid", grid, 1), check_count("num_positions", num_positions, 1)
        pick("layout", layout, _LAYOUTS)
        self._layout, self._seed = layout, None if seed is None else check_count("seed", seed)
        self._num_samples = check_count("num_samples", num_samples, 1)
        if layout == "umap" and importlib.util.find_spec("umap") is None:
            raise ImportError(
                '`layout="umap"` needs the package umap-learn, which is not installed: `pip install umap-learn`. Or '
                'take `layout="pca"`.'
            )
        self.cells: list[Cell] = []
        self.images = np.zeros(0, "float32")

    @property
    def model(self) -> keras.Layer:
        """The model."""
        return self._reader.model

    def fit(self, images: Any, batch_size: int = 32) -> Self:
        """Reads the layer for images, and lays the atlas out.

        Args:
            images: As the model takes them, or a data set of such batches.
            batch_size: How many run at once. Default 32.

        Returns:
            Itself.

        Raises:
            ValueError: There are fewer than three activations, or they are all alike.
            ImportError: scikit-learn is missing.
        """
        _check_installed()
        seed = fresh_seed(self._seed)
        kept, draw = Reservoir(self._num_samples, seed), np.random.default_rng([seed, 1])
        for batch in each_batch(self.model, images):
            for row in self._samples(batch, check_count("batch_size", batch_size, 1), draw):
                kept.add(row)
        rows = np.stack(kept.kept) if kept.kept else np.zeros((0, 3))
        values, classes, shares = rows[:, :-2], rows[:, -2].astype(int), rows[:, -1]
        if len(rows) < 3 or not np.ptp(values, axis=0).any():
            raise ValueError(
                f"An atlas needs at least three activations that differ. Received: {len(rows)}"
                f"{' equal ones' if len(rows) > 2 else ''}. Give more images, or a larger `num_positions`."
            )
        places = grid_places(_laid_out(values, self._layout, seed), self.grid)
        self.cells, self.images = cells_of(places, values, classes, shares), np.zeros(0, "float32")
        return self

    def _samples(self, batch, batch_size, draw):
        """Returns rows of some positions of a batch: activation, the image's class, and the position's share in it."""
        onward = self._reader.onward(batch, None, batch_size)
        values = self._reader.last(onward.outputs)
        gradients = self._reader.last(np.concatenate([found for *_, found in onward.gradients()]))
        values, gradients = (one.reshape(len(one), -1, one.shape[-1]) for one in (values, gradients))
        picked = draw.permuted(np.tile(np.arange(values.shape[1]), (len(values), 1)), axis=1)[:, : self._positions]
        images = np.repeat(np.arange(len(values)), picked.shape[1])
        found = values[images, picked.ravel()]
        shares = (found * gradients[images, picked.ravel()]).sum(axis=1)
        return np.column_stack([found, onward.classes[images], shares]).astype("float32")

    def visualize(
        self, steps: int = 128, batch_size: int = 16, seed: int = 0, model: keras.Layer | None = None, **options: Any
    ) -> np.ndarray:
        """Makes an image for each cell, and keeps them for `figure` and `to_html`.

        Args:
            steps: How many steps. Default 128.
            batch_size: How many images are made at once. Default 16.
            seed: Of all images: what neighbours share does not come from the start. Default 0.
            model: The same network for smaller images, which is faster, with a layer of the same name. Default `None`:
                the model.
            **options: As of `vis.FeatureVisualization`, such as `input_range` or `transforms`.

        Returns:
            float32, an image for each of `cells`.
        """
        check_fitted(self.cells, "ActivationAtlas")
        check_count("batch_size", batch_size, 1)
        vectors = np.stack([cell.activation for cell in self.cells])
        layer = self._reader.layer if model is None else self._reader.layer.name
        made = []
        for start in range(0, len(vectors), batch_size):
            own = vectors[start : start + batch_size]
            maker = FeatureVisualization(model or self.model, Direction(layer, own, cosine_power=1.0), **options)
            made.append(maker(len(own), steps=steps, seed=seed))
        self.images = np.concatenate(made)
        return self.images

    def figure(self, names: Sequence[str] | None = None) -> Figure:
        """Returns a figure of the atlas, each cell with the class that hangs on it most.

        Args:
            names: Of the classes. Default `None`: their numbers.

        Returns:
            A Matplotlib `Figure`.

        Raises:
            ValueError: There are no images yet: call `visualize` before.
        """
        return atlas_figure(self._drawn(), self.cells, self.grid, self._named(names))

    def to_html(
        self,
        path: str | os.PathLike[str],
        names: Sequence[str] | None = None,
        title: str = "Activation atlas",
    ) -> None:
        """Writes the atlas as one self-contained page to zoom and move in, by mouse, fingers or keys.

        Args:
            path: Of the file; an existing one is replaced, once the new one is whole.
            names: Of the classes. Default `None`: their numbers.
            title: Words at its top.

        Raises:
            OSError: The file cannot be written.
            ValueError: There are no images yet: call `visualize` before.
        """
        about = {"layer": self._reader.layer.name, "layout": self._layout, "seed": str(self._seed)}
        write_atlas(path, self._drawn(), self.cells, self.grid, self._named(names), title, about)

    def _drawn(self):
        check_fitted(self.cells, "ActivationAtlas")
        if not len(self.images):
            raise ValueError("An atlas has no images before `visualize(...)` has made them. Call it first.")
        moves = keras.config.image_data_format() == "channels_first" and self.images.ndim == 4
        return np.moveaxis(self.images, 1, -1) if moves else self.images

    def _named(self, names):
        """Returns the pairs of name and attribution of each cell's classes; a dash where none of them hangs on it."""
        most = max(number for cell in self.cells for number, _ in cell.classes)
        if names is not None and len(names) <= most:
            raise ValueError(f"`names` must be one for each class, more than {most}. Received: {len(names)}.")
        words = (lambda number: str(number)) if names is None else (lambda number: str(names[number]))
        named = [[(words(number), share) for number, share in cell.classes if share > 0] for cell in self.cells]
        return [own or [("\N{EN DASH}", 0.0)] for own in named]


def grid_places(places: np.ndarray, grid: int) -> np.ndarray:
    """Returns the row and column of each place on a plane, int `(n, 2)`: x to the right, y to the top.

    The outermost hundredths of either axis are put into the cells at the edges.

    Args:
        places: `(n, 2)`.
        grid: Cells along each side.
    """
    low, high = np.percentile(places, [_EDGE, 100 - _EDGE], axis=0)
    share = ((places - low) / np.where(high > low, high - low, 1)).clip(0, 1)
    columns, rows = np.minimum((share * grid).astype(int), grid - 1).T
    return np.column_stack([grid - 1 - rows, columns])


def cells_of(places: np.ndarray, values: np.ndarray, classes: np.ndarray, shares: np.ndarray) -> list[Cell]:
    """Returns the cells of activations, row by row.

    Args:
        places: Row and column of each, `(n, 2)`.
        values: The activations, `(n, channels)`.
        classes: The class of the image that each is of, `(n,)`.
        shares: Its share of that class's score, `(n,)`.
    """
    cells = []
    for row, column in np.unique(places, axis=0):
        own = (places == (row, column)).all(axis=1)
        count = int(own.sum())
        totals = {int(one): float(shares[own & (classes == one)].sum() / count) for one in np.unique(classes[own])}
        ranked = sorted(totals.items(), key=lambda pair: -pair[1])
        mean = values[own].mean(axis=0, dtype="float64").astype("float32")
        if mean.any():  # a direction; where all is 0, there is none
            cells.append(Cell(int(row), int(column), mean, count, ranked))
    return cells


def _laid_out(values, layout, seed):
    """Returns the places of activations on a plane, `(n, 2)`."""
    if layout == "umap":
        import umap  # type: ignore[import-not-found, unused-ignore]

        return umap.UMAP(n_components=2, metric="cosine", random_state=seed % 2**32).fit_transform(values)
    from sklearn.decomposition import PCA

    found = PCA(min(2, *values.shape), svd_solver="full").fit_transform(values.astype("float64"))
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))


def _check_installed():
    if importlib.util.find_spec("sklearn") is None:
        raise ImportError(
            "An atlas is laid out by the package scikit-learn, which is not installed. Install it, "
            "`pip install scikit-learn`, or the extra `concepts`."
        )
