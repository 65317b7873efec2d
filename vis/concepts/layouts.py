"""Activations on a plane, and the cells of a grid that they fall into."""

from __future__ import annotations

from typing import Any

import numpy as np

from vis.utils.validation import pick

_ENDS = (1, 99)  # percentiles of each axis where the grid ends; what lies beyond is put into the cells at the edge
_SMALL = 64  # up to so many rows or columns, all axes are found


def check_layout(layout: Any) -> str:
    """Returns the name of a layout, or raises where there is none, or its package is missing."""
    pick("layout", layout, {"pca": pca, "umap": umap})
    if layout == "umap":
        _import_umap()
    return layout


def on_a_plane(activations: np.ndarray, layout: str, seed: int) -> np.ndarray:
    """Returns coordinates of activations, float32 `(n, 2)`; what counts is their directions, not how long they are.

    Args:
        activations: `(n, channels)`, none of them 0.
        layout: "pca" or "umap".
        seed: Of what is drawn.
    """
    directions = activations.astype("float64")
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return {"pca": pca, "umap": umap}[layout](directions, seed).astype("float32")


def pca(points: np.ndarray, seed: int) -> np.ndarray:
    """Returns coordinates on the two principal axes, `(n, 2)`; the largest number of an axis is positive.

    Source: Pearson 1901, "On Lines and Planes of Closest Fit to Systems of Points in Space".
    """
    centred = points - points.mean(axis=0)
    axes = _axes(centred, seed)
    signs = np.sign(np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1))
    found = centred @ (axes * signs).T
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))  # of a single channel there is no second axis


def _axes(centred, seed):
    """Returns the two principal axes, `(2, channels)`, that of the larger spread first."""
    if min(centred.shape) <= _SMALL:
        return np.linalg.svd(centred, full_matrices=False)[2][:2]
    from scipy.sparse.linalg import svds

    start = np.random.default_rng(seed).normal(size=min(centred.shape))
    _, sizes, axes = svds(centred, 2, v0=start)
    return axes[np.argsort(-sizes)]


def umap(points: np.ndarray, seed: int) -> np.ndarray:
    """Returns coordinates by UMAP with the cosine as likeness, `(n, 2)`.

    Source: McInnes et al. 2018, "UMAP: Uniform Manifold Approximation and Projection for Dimension Reduction"; the
    settings are those of Carter et al. 2019.
    """
    neighbours = min(20, len(points) - 1)
    maker = _import_umap().UMAP(
        n_neighbors=neighbours, min_dist=0.01, metric="cosine", random_state=seed % 2**32, n_jobs=1
    )
    return maker.fit_transform(points.astype("float32"))


def _import_umap() -> Any:
    try:
        import umap as package
    except ImportError:
        raise ImportError(
            '`layout="umap"` is made by the package umap-learn, which is not installed. Install it, `pip install '
            'umap-learn`, or the extra `umap`; or take `layout="pca"`.'
        ) from None
    return package


def cells_of(coordinates: np.ndarray, grid: int) -> np.ndarray:
    """Returns the row and the column of the cell that each point is in, int `(n, 2)`; row 0 is at the top.

    Args:
        coordinates: `(n, 2)`, to the right and upwards.
        grid: Rows and columns of the grid, which reaches from the 1st to the 99th percentile of each axis.
    """
    low, high = np.percentile(coordinates, _ENDS, axis=0)
    shares = (coordinates - low) / np.where(high > low, high - low, 1)
    across, up = np.clip(np.floor(grid * shares), 0, grid - 1).astype("int64").T
    return np.stack([grid - 1 - up, across], axis=1)
