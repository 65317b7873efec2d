"""Makes `shapley.npz`: numbers of shap, lime and Xplique for `tests/test_shapley.py`.

Exact and kernel values of shap 0.51.0 on a small network with a background of five rows, the line of lime 0.2.0.1
through given coalitions, and Sobol indices of Xplique 2.0.2 from given masks. Run in an environment with these three,
scikit-learn, keras and tensorflow: `KERAS_BACKEND=tensorflow python tests/reference/make_shapley.py`.

What is to be known of them:

* shap's kernel explainer draws coalitions by NumPy's global seed, and drops small values unless `l1_reg` is 0.
* lime's distance is the cosine distance of a coalition from that of all features; its kernel is the square root of
  exp(-d^2 / width^2). Its intercept is not penalised.
* Xplique takes the variance of the first places only, not of both sets.
"""

import pathlib

import numpy as np

HERE = pathlib.Path(__file__).parent


def score(weights, rows):
    """The small network, in NumPy."""
    first, second = weights
    return np.tanh(rows @ first) @ second


def of_shap(draw):
    """Values of six columns."""
    import shap

    weights = draw.normal(size=(6, 8)), draw.normal(size=8)
    rows, background = draw.normal(size=(4, 6)), draw.normal(size=(5, 6))
    exact = shap.ExactExplainer(lambda x: score(weights, x), shap.maskers.Independent(background))(rows).values
    wide = draw.normal(size=(14, 8)) / 2, draw.normal(size=8)
    wide_row, wide_background = draw.normal(size=(1, 14)), draw.normal(size=(5, 14))
    np.random.seed(0)
    explainer = shap.KernelExplainer(lambda x: score(wide, x), wide_background)
    kernel = [explainer.shap_values(wide_row, nsamples=400, l1_reg=0, silent=True)[0] for _ in range(10)]
    names = ("first", "second", "rows", "background", "exact")
    found = dict(zip(names, (*weights, rows, background, exact)))
    names = ("wide_first", "wide_second", "wide_row", "wide_background", "kernel")
    return {**found, **dict(zip(names, (*wide, wide_row, wide_background, np.array(kernel))))}


def of_lime(draw):
    """Coefficients of a line through the scores of coalitions."""
    from lime.lime_base import LimeBase
    from sklearn.linear_model import Ridge
    from sklearn.metrics import pairwise_distances

    masks = draw.random((200, 7)) < 0.5
    masks[0] = True
    scores = np.tanh(masks @ draw.normal(size=7)) + 0.1 * masks[:, 0]
    distances = pairwise_distances(masks.astype(float), masks[:1].astype(float), metric="cosine").ravel()
    base = LimeBase(lambda d: np.sqrt(np.exp(-(d**2) / 0.25**2)))
    labels = np.stack([scores, -scores], axis=1)
    _, found, _, _ = base.explain_instance_with_data(
        masks.astype(float), labels, distances, 0, 7, "none", Ridge(alpha=1, fit_intercept=True, random_state=None)
    )
    return {"lime_masks": masks, "lime_scores": scores, "lime": np.array([value for _, value in sorted(found)])}


def of_xplique(draw):
    """Total indices of a function of four numbers."""
    from xplique.attributions.global_sensitivity_analysis import JansenEstimator

    places, others = draw.random((2, 64, 4))
    changed = np.repeat(places[None], 4, axis=0)
    for i in range(4):
        changed[i, :, i] = others[:, i]
    masks = np.concatenate([places, others, changed.reshape(-1, 4)])
    scores = np.sin(6 * masks[:, 0]) + masks[:, 1] * masks[:, 2] + 0.3 * masks[:, 3]
    found = JansenEstimator()(masks.reshape(-1, 2, 2, 1).astype("float32"), scores.astype("float32"), 64)
    return {"sobol_masks": masks, "sobol_scores": scores, "sobol": np.asarray(found).reshape(-1)}


if __name__ == "__main__":
    random = np.random.default_rng(0)
    made = {**of_shap(random), **of_lime(random), **of_xplique(random)}
    np.savez_compressed(HERE / "shapley.npz", **made)
    print({name: array.shape for name, array in made.items()})
