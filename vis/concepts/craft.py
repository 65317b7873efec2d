"""CRAFT: concepts that a layer uses, found in pieces of images, and how much they matter for a score."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from vis.concepts.activations import LayerReader, check_fitted, each_batch
from vis.concepts.crops import Reservoir, enlarged, piece_size, pieces
from vis.concepts.figures import concept_figure, concept_records
from vis.engine.sensitivity import TotalIndices
from vis.losses import Direction
from vis.methods.feature_visualization import FeatureVisualization
from vis.utils.files import check_writable
from vis.utils.images import resize
from vis.utils.seeds import fresh_seed
from vis.utils.validation import check_count, check_flag, check_numeric, shown

if TYPE_CHECKING:
    import os
    from typing import Self

    from matplotlib.figure import Figure

    from vis.utils.types import Inputs, LayerLike, TargetLike

_STEPS = 200  # of the factorisation


class CRAFT:
    """Concept recursive activation factorisation: what a layer is made of, where it is, and what it is worth.

    Images are cut into pieces; what the layer puts out for them, averaged over the positions, is factorised into
    non-negative concepts. A concept is a direction in the space of channels; its best pieces show what it
    is, `maps` where it is in an image, `importances` how much of the score hangs on it. Its limits: concepts are as
    good as the images that they are found in; another number of concepts finds others; and a name for one is yours.

    Needs scikit-learn (the extra `concepts`). Memory is bounded, however many images there are.

    Source: Fel et al. 2023, "CRAFT: Concept Recursive Activation FacTorization for Explainability", equations 1 to 4.
    Unlike in the authors' code, what the factorisation leaves over stays in place when concepts are faded, so that with
    all concepts shown the score is that of the image.

    Args:
        model: Any built or callable Keras model with one image as its input. Not changed.
        layer: Its name, path, index, the layer itself, or a pair of one of these and the number of the call. Its
            outputs must have spatial axes and be at least 0, as after a ReLU.
        num_concepts: How many concepts, at least 1, at most as many as the layer has channels. Default 10.
        patch: Size of the pieces in pixels, a number or a pair. Default `None`: two sevenths of the image's sides.
        seed: Seed of what is drawn. Default `None`: another for each fit.
        num_crops: How many pieces are kept at most, drawn with equal odds. Default 2000.
        output_layer: Layer whose units are explained. Default `None`: the model's output.
        logits: Whether the score before a final softmax or sigmoid is explained. Default `True`.

    Attributes:
        concepts: float32 `(num_concepts, channels)`, each of length 1, once it is fitted; the one that explains most of
            the activations first.
        explained: The share of the activations' squares that the concepts make up, from 0 to 1.

    Raises:
        ValueError: There is no such layer, or an argument is wrong.
        TypeError: An argument is of the wrong kind.
    """

    def __init__(
        self,
        model: keras.Layer,
        layer: LayerLike,
        num_concepts: int = 10,
        patch: int | tuple[int, int] | None = None,
        seed: int | None = None,
        num_crops: int = 2000,
        *,
        output_layer: LayerLike | None = None,
        logits: bool = True,
    ) -> None:
        self._reader = LayerReader(model, layer, output_layer, logits)
        self.num_concepts, self._patch = check_count("num_concepts", num_concepts, 1), patch
        self._num_crops = check_count("num_crops", num_crops, 1)
        self._seed = None if seed is None else check_count("seed", seed)
        self.concepts, self.explained = np.zeros((0, 0), "float32"), 0.0
        self._crops = self._strengths = np.zeros(0)

    @property
    def model(self) -> keras.Layer:
        """The model."""
        return self._reader.model

    def fit(self, images: Any, batch_size: int = 32) -> Self:
        """Finds the concepts.

        Args:
            images: `(N, H, W, C)` as the model takes them (channels first if it does), or a data set of such batches.
            batch_size: How many pieces run at once. Default 32.

        Returns:
            Itself.

        Raises:
            ValueError: There are fewer pieces or channels than concepts, or the layer puts out negative numbers, or 0
                only.
            ImportError: scikit-learn is missing.
        """
        solver = _import_decomposition()
        seed = fresh_seed(self._seed)
        crops, shape = self._cut(images, seed)
        if len(crops) < self.num_concepts:
            raise ValueError(
                f"`images` must give at least as many pieces as concepts, {self.num_concepts}. Received: {len(crops)} "
                "pieces. Give more images, a smaller `patch`, or fewer concepts."
            )
        means = np.concatenate(
            [
                self._means(enlarged(crops[i : i + batch_size], shape), batch_size)
                for i in range(0, len(crops), batch_size)
            ]
        )
        self._check_means(means)
        found = solver.NMF(self.num_concepts, init="nndsvda", random_state=seed % 2**32, max_iter=_STEPS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it could be better: see `explained`
            found.fit(means)
        self._keep(found.components_.astype("float64"), means, crops)
        return self

    def _cut(self, images, seed):
        kept, shape = Reservoir(self._num_crops, seed), None
        for batch in each_batch(self.model, images):
            array = self._pictures(batch)
            shape = shape or array.shape[1:3]
            for piece in pieces(array, piece_size(self._patch, shape)):
                kept.add(piece)
        if not kept.kept:
            raise ValueError("`images` must hold at least one image. Received: none.")
        return np.stack(kept.kept), shape

    def _check_means(self, means):
        name, channels = self._reader.layer.name, means.shape[1]
        if self.num_concepts > channels:
            raise ValueError(
                f"`num_concepts` must be at most the number of channels of the layer. Received: {self.num_concepts} "
                f"concepts for {name!r}, which has {channels} channels. Give fewer concepts, or a layer with more."
            )
        if not means.any():
            raise ValueError(
                f"`layer` must put out something for the images. Received: {name!r}, which puts out 0 for all. Choose "
                "another layer, or check the range of the images."
            )

    def _pictures(self, images):
        """Returns images with their channels last."""
        array = check_numeric("images", images)
        if array.ndim != 4:
            raise ValueError(
                f"`images` must have the shape (N, H, W, C), as pieces are cut out of them. Received: {array.shape}."
            )
        return np.moveaxis(array, 1, -1) if self._is_first else array

    @property
    def _is_first(self):
        return keras.config.image_data_format() == "channels_first"

    def _as_inputs(self, pictures):
        return np.moveaxis(pictures, -1, 1) if self._is_first else pictures

    def _means(self, pictures, batch_size):
        values = self._reader.read(self._as_inputs(pictures), batch_size)
        self._check(values)
        return values.reshape(len(values), -1, values.shape[-1]).mean(axis=1)

    def _check(self, values):
        name = self._reader.layer.name
        if values.ndim < 3:
            raise ValueError(
                f"`layer` must have spatial output, as concepts have places. Received: {name!r}, which puts out "
                f"{values.shape}. Choose the last layer before the positions are pooled."
            )
        if values.min() < 0:
            raise ValueError(
                f"`layer` must put out numbers of at least 0, to be taken apart. Received: {name!r}, with values from "
                f"{values.min():.3g}. Choose a layer after a ReLU, such as the activation that follows it."
            )

    def _keep(self, components, means, crops):
        lengths = np.linalg.norm(components, axis=1)
        known = components / np.where(lengths, lengths, 1)[:, None]
        strengths = coefficients(means, known)
        order = np.argsort(-strengths.sum(axis=0), kind="stable")
        self.concepts = known[order].astype("float32")
        self.explained = float(1 - ((means - strengths @ known) ** 2).sum() / max((means**2).sum(), 1e-30))
        self._strengths, self._crops = strengths[:, order], crops

    def coefficients(self, images: Inputs, batch_size: int = 32) -> np.ndarray:
        """Returns how much of each concept is at each position of the layer, float32 `(N, *positions, concepts)`."""
        check_fitted(self.concepts.size, "CRAFT")
        values = self._reader.read(images, batch_size)
        self._check(values)
        return self._of(values).astype("float32")

    def _of(self, values):
        found = coefficients(values.reshape(-1, values.shape[-1]), self.concepts)
        return found.reshape(*values.shape[:-1], -1)

    def maps(self, images: Inputs, batch_size: int = 32, upsample: bool = True) -> np.ndarray:
        """Returns where each concept is in images.

        Args:
            images: `(N, H, W, C)` as the model takes them.
            batch_size: How many images run at once. Default 32.
            upsample: Whether maps are resized (linearly) to the images. Default `True`.

        Returns:
            float32 `(N, H, W, concepts)`, at least 0; without `upsample` in the size of the layer's output.
        """
        found = self.coefficients(images, batch_size)
        if not check_flag("upsample", upsample):
            return found
        return resize(found, self._pictures(images).shape[1:3])

    def importances(
        self, images: Inputs, target: TargetLike = None, num_designs: int = 32, batch_size: int = 32
    ) -> np.ndarray:
        """Returns in which share of the score's variance each concept has a part, when concepts are faded at random.

        Only the network after the layer runs, where its graph allows it. Source: Fel et al. 2023, section 3.3; total
        Sobol indices by Jansen's estimator, as of `vis.Sobol`.

        Args:
            images: `(N, H, W, C)` as the model takes them.
            target: See `vis.Saliency`. Default `None`: each image's top class.
            num_designs: How many places concepts are varied at, at least 2; each costs concepts + 2 evaluations of the
                rest of the network. Default 32.
            batch_size: How many evaluations run at once. Default 32.

        Returns:
            float32 `(N, concepts)`, at least 0; the mean over images of a class, `.mean(axis=0)`, is the importance for
            the class. They are estimates: of few designs, one may be above 1.
        """
        check_fitted(self.concepts.size, "CRAFT")
        onward = self._reader.onward(images, target, check_count("batch_size", batch_size, 1))
        values = self._reader.last(onward.outputs)
        self._check(values)
        parts, seed = self._of(values).astype("float32"), fresh_seed(self._seed)
        design = TotalIndices(self.num_concepts, check_count("num_designs", num_designs, 2), seed)

        def faded(rows, numbers):
            shown_parts = design.masks[numbers].reshape(len(rows), *[1] * (values.ndim - 2), -1)
            return self._reader.in_place(values[rows] - ((1 - shown_parts) * parts[rows]) @ self.concepts)

        return design.values(onward.scores_of(len(design.masks), faded)).astype("float32")

    def crops(self, concept: int, count: int = 10) -> np.ndarray:
        """Returns the pieces with most of a concept, float32 `(count, h, w, C)`, the best first."""
        check_fitted(self.concepts.size, "CRAFT")
        order = np.argsort(-self._strengths[:, self._index(concept)], kind="stable")
        return self._crops[order[: check_count("count", count, 1)]]

    def visualize(self, concept: int, steps: int = 256, seed: int = 0, **options: Any) -> np.ndarray:
        """Returns an image that excites a concept, made by `vis.FeatureVisualization` of its direction.

        Args:
            concept: Its number.
            steps: How many steps. Default 256.
            seed: Seed of the image. Default 0.
            **options: As of `vis.FeatureVisualization`, such as `input_range` or `parameterization`.

        Returns:
            float32, one image as the model takes it.
        """
        check_fitted(self.concepts.size, "CRAFT")
        layer = self._reader.layer
        loss = Direction(layer, self.concepts[self._index(concept)], cosine_power=1.0)
        return FeatureVisualization(self.model, loss, **options)(steps=steps, seed=seed)[0]

    def _index(self, concept):
        if check_count("concept", concept) >= self.num_concepts:
            raise ValueError(f"`concept` must be from 0 to {self.num_concepts - 1}. Received: {shown(concept)}.")
        return concept

    def figure(self, images: Inputs | None = None, importances: np.ndarray | None = None, count: int = 6) -> Figure:
        """Returns a figure: a row a concept, with its best pieces, and where it is in some images.

        Args:
            images: Images for the maps, `(N, H, W, C)`. Default `None`: no maps.
            importances: `(concepts,)`, written beside the rows, which they order. Default none.
            count: How many pieces are shown of each. Default 6.

        Returns:
            A Matplotlib `Figure`.
        """
        return concept_figure(self.records(images, importances, count))

    def records(
        self, images: Inputs | None = None, importances: np.ndarray | None = None, count: int = 6
    ) -> list[dict[str, Any]]:
        """Returns what `figure` shows, for `Evaluation.to_html(concepts=...)` and for pages of your own.

        Args:
            images: Images for the maps, `(N, H, W, C)`. Default `None`: no maps.
            importances: `(concepts,)`, which order the concepts. Default none.
            count: How many pieces are shown of each. Default 6.

        Returns:
            A dict for each concept: its `name`, its `importance` (or `None`), its `pieces` and its `maps` over the
            images, lists of uint8 arrays `(h, w, 3)`.
        """
        check_fitted(self.concepts.size, "CRAFT")
        maps = None if images is None else self.maps(images)
        pictures = None if images is None else self._pictures(images)
        best = [self.crops(k, count) for k in range(self.num_concepts)]
        return concept_records(best, pictures, maps, importances)

    def to_html(
        self,
        path: str | os.PathLike[str],
        images: Inputs | None = None,
        importances: np.ndarray | None = None,
        count: int = 6,
        title: str = "Concepts",
    ) -> None:
        """Writes what `figure` shows as one self-contained page.

        Args:
            path: Of the file; an existing one is replaced, once the new one is whole.
            images: Images for the maps, `(N, H, W, C)`. Default `None`: no maps.
            importances: `(concepts,)`, which order the concepts. Default none.
            count: How many pieces are shown of each. Default 6.
            title: Words at its top.

        Raises:
            OSError: The file cannot be written.
            ValueError: Nothing was fitted, or the importances are not one for each concept.
        """
        from vis.report import Page, write_page

        check_writable(path)
        records = self.records(images, importances, count)
        call = f"vis.concepts.CRAFT(model, {self._reader.layer.name!r}, num_concepts={self.num_concepts}).fit(images)"
        write_page(path, Page(title, self._settings(), call, concepts=records))

    def _settings(self):
        return {
            "layer": self._reader.layer.name,
            "pieces": str(len(self._crops)),
            "share of the activations explained": f"{self.explained:.3f}",
            "seed": "drawn" if self._seed is None else str(self._seed),
        }


def coefficients(values: np.ndarray, concepts: np.ndarray) -> np.ndarray:
    """Returns the non-negative coefficients `(n, concepts)` with which concepts make up values best.

    Args:
        values: `(n, channels)`, at least 0.
        concepts: `(concepts, channels)`, at least 0.
    """
    from scipy import optimize  # slow to import

    # Exact, and of each row by itself. With orthonormal axes, the problem is as small as there are concepts.
    axes, known = np.linalg.qr(concepts.T.astype("float64"))
    return np.stack([optimize.nnls(known, row)[0] for row in values @ axes])


def _import_decomposition() -> Any:
    try:
        from sklearn import decomposition
    except ImportError:
        raise ImportError(
            "Concepts are found by the package scikit-learn, which is not installed. Install it, "
            "`pip install scikit-learn`, or the extra `concepts`."
        ) from None
    return decomposition
