"""Noisy linear imputation: hidden positions become weighted means of their neighbours (Rong et al. 2022, section 4.2).

Each hidden position is `sum_n w_n x_n / sum_n w_n` over its neighbours n, hidden or not, which makes a sparse linear
system. Of an image, w is 1/6 of those that share an edge, and 1/12 of those at the corners. It is solved by conjugate
gradients with a coarse grid beside the fine one, in half a dozen steps whatever the form of what is hidden.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

_CELL = 3  # positions along each axis that one unknown of the coarse grid stands for
_DAMPING = 2 / 3
_TOLERANCE = 1e-6  # of the residual, relative to the right-hand side
_MOST_STEPS = 100
_DENSE = 300  # unknowns that are not worth a coarse grid


@dataclasses.dataclass(frozen=True)
class Imputation:
    """What stands in place of hidden positions: what their neighbours suggest, and noise.

    Args:
        noise: Standard deviation of the noise, in units of that of each channel of the sample.
        seed: Seed of the noise, which is the same for every part that is hidden of a sample.
    """

    noise: float = 0.1
    seed: int = 0

    @property
    def versions(self) -> int:
        """How many versions there are of a sample with one part hidden."""
        return 1

    def show(self, rows, hidden, images, versions):
        """Fills hidden positions, in place.

        Args:
            rows: `(B, *spatial)` or `(B, *spatial, channels)`.
            hidden: Booleans `(B, *spatial)`.
            images: Which sample each row is of.
            versions: Not used.
        """
        for row, out, image in zip(rows, hidden, images):
            if out.any():
                draw = np.random.default_rng([self.seed, int(image)]).normal(size=row.shape)
                spread = row.std(axis=tuple(range(out.ndim)))
                filled = impute(row.reshape(*out.shape, -1), out).reshape(-1, *row.shape[out.ndim :])
                row[out] = filled + self.noise * (draw * spread)[out]


def impute(values, hidden) -> np.ndarray:
    """Returns what the hidden positions become, without noise.

    Args:
        values: `(*spatial, channels)`.
        hidden: Booleans `(*spatial)`. Where all are hidden, the result is the mean.

    Returns:
        float64 `(hidden positions, channels)`, in the order of `values[hidden]`.

    Examples:
        >>> impute(np.array([[0.0], [9.0], [1.0]]), np.array([False, True, False])).tolist()
        [[0.5]]
    """
    values = np.asarray(values, "float64")
    if hidden.all():
        mean = values.reshape(-1, values.shape[-1]).mean(axis=0)
        return np.repeat(mean[None], hidden.size, axis=0)
    matrix, known = _system(values, hidden)
    if len(known) <= _DENSE:
        return np.linalg.solve(matrix.toarray(), known)
    return _solved(matrix, known, _coarse(matrix, hidden))


def _system(values, hidden):
    """Returns the sparse matrix `(H, H)` and the right-hand sides `(H, channels)` of H hidden positions."""
    from scipy import sparse  # slow to import

    flat, given = hidden.ravel(), values.reshape(hidden.size, -1)
    numbers, places = np.cumsum(flat) - 1, np.arange(hidden.size).reshape(hidden.shape)
    count = int(flat.sum())
    total, known, entries = np.zeros(count), np.zeros((count, given.shape[1])), []
    for step, weight in _neighbours(hidden.ndim):
        here = places[tuple(slice(max(0, -d), size - max(0, d)) for d, size in zip(step, hidden.shape))].ravel()
        there = places[tuple(slice(max(0, d), size - max(0, -d)) for d, size in zip(step, hidden.shape))].ravel()
        here, there = here[flat[here]], there[flat[here]]
        both = flat[there]
        total[numbers[here]] += weight
        known[numbers[here[~both]]] += weight * given[there[~both]]
        entries.append((numbers[here[both]], numbers[there[both]], np.full(int(both.sum()), -weight)))
    entries.append((np.arange(count), np.arange(count), total))
    rows, columns, weights = map(np.concatenate, zip(*entries))
    return sparse.csr_matrix((weights, (rows, columns)), shape=(count, count)), known


def _neighbours(rank):
    """Returns steps to neighbours and their weights, which are as one over the axes along which they lie apart."""
    steps = [step for step in itertools.product((-1, 0, 1), repeat=rank) if any(step)]
    weights = np.array([1 / np.abs(step).sum() for step in steps])
    return list(zip(steps, weights / weights.sum()))


def _coarse(matrix, hidden):
    """Returns a function that solves the system roughly: on cells, with a smooth way back to the positions."""
    from scipy import sparse
    from scipy.sparse import linalg

    cells = np.ravel_multi_index(np.argwhere(hidden).T // _CELL, [-(-size // _CELL) for size in hidden.shape])
    found, cell_of = np.unique(cells, return_inverse=True)
    count = matrix.shape[0]
    plain = sparse.csr_matrix((np.ones(count), (np.arange(count), cell_of)), shape=(count, len(found)))
    damped = _DAMPING / matrix.diagonal()
    up = (plain - sparse.diags(damped) @ (matrix @ plain)).tocsr()
    down = up.T.tocsr()
    options = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    small = linalg.splu((down @ matrix @ up).tocsc(), **options)

    def solve(residual):
        found = damped[:, None] * residual
        found += up @ small.solve(down @ (residual - matrix @ found))
        return found + damped[:, None] * (residual - matrix @ found)

    return solve


def _solved(matrix, known, roughly):
    """Solves by conjugate gradients, all channels side by side."""
    enough = _TOLERANCE * np.linalg.norm(known, axis=0)
    found, residual = np.zeros_like(known), known.copy()
    better = roughly(residual)
    way, size = better, (residual * better).sum(axis=0)
    for _ in range(_MOST_STEPS):
        if (np.linalg.norm(residual, axis=0) <= enough).all():
            break
        moved = matrix @ way
        length = _ratio(size, (way * moved).sum(axis=0))
        found, residual = found + length * way, residual - length * moved
        better = roughly(residual)
        size, before = (residual * better).sum(axis=0), size
        way = better + _ratio(size, before) * way
    return found


def _ratio(one, other):
    return np.divide(one, other, out=np.zeros_like(one), where=other != 0)
