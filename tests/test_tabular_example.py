"""The example of the table: methods that answer one question agree, and the table says so."""

import importlib
import pathlib
import sys

import numpy as np
import pytest

pytest.importorskip("sklearn")
EXAMPLE = pathlib.Path(__file__).resolve().parents[1] / "examples" / "tabular"


@pytest.fixture(scope="module")
def example():
    """The example as a module; other examples have a `network.py` too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        patch.delitem(sys.modules, "network", raising=False)
        module = importlib.import_module("explain_patients")
        sys.modules.pop("network")
        yield module


def test_methods_agree_on_patients(example):
    rows, answers, others, truth = example.load_patients()
    assert rows.shape == (342, 10) and others.shape == (100, 10) and len(example.NAMES) == 10
    model = example.trained_network(rows, answers)
    predicted = model.predict(others, verbose=0)[:, 0]
    assert example.determination(truth, predicted) > 0.3
    found = example.explain(model, others[:20], rows[:20])
    exact = found[example.SHAPLEY]
    base = model.predict(rows[:20], verbose=0).mean()
    np.testing.assert_allclose(exact.sum(axis=1), predicted[:20] - base, rtol=1e-4, atol=1e-2)
    for name, values in found.items():
        assert np.corrcoef(values.ravel(), exact.ravel())[0, 1] > 0.95, name
    importances = {name: np.abs(values).mean(axis=0) for name, values in found.items()}
    lines = example.table(importances).splitlines()
    assert len(lines) == 13 and lines[2][2:].startswith(("body mass index", "log triglycerides"))
    assert float(lines[-1].split("|")[2]) == 1


def test_importance_of_a_column_that_is_not_used_is_zero(example, rng):
    class Model:
        def predict(self, rows, **_):
            return rows[:, :1]

    rows = rng.normal(size=(50, 3))
    found = example.permutation_importance(Model(), rows, rows[:, 0], repeats=5)
    assert found[0] > 1 and not found[1:].any()
