"""Every example in a docstring runs, and every public name has a full docstring."""

import doctest
import importlib
import inspect

import keras
import numpy as np
import pytest
from test_architecture import MODULES

PUBLIC = [name for name in MODULES if not name.split(".")[-1].startswith("_")]


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_run(name):
    module = importlib.import_module(name)
    finder = doctest.DocTestFinder(exclude_empty=True)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for case in finder.find(module, name, extraglobs={"np": np, "keras": keras}):
        runner.run(case)
    assert runner.failures == 0


DOCUMENTED = [
    "vis.visualization",
    "vis.losses",
    "vis.regularizers",
    "vis.optimizer",
    "vis.callbacks",
    "vis.training",
    "vis.scale",
    "vis.grad_modifiers",
    "vis.backprop_modifiers",
    "vis.input_modifiers",
    "vis.parameterizations",
    "vis.utils.utils",
]


def public_functions():
    for name in DOCUMENTED:
        module = importlib.import_module(name)
        for key, value in vars(module).items():
            if key.startswith("_") or not inspect.isfunction(value) or not value.__module__.startswith("vis"):
                continue
            yield f"{name}.{key}", value


@pytest.mark.parametrize(
    "name, function", list(public_functions()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_arguments_and_results_are_documented(name, function):
    doc = inspect.getdoc(function)
    assert doc and doc.splitlines()[0].endswith(".")
    parameters = [p for p in inspect.signature(function).parameters if p not in ("self", "root", "the_rule")]
    if doc.count("\n") == 0:  # a one-liner: an inner helper with plain arguments
        return
    if "Args:" in doc:
        for parameter in parameters:
            assert f"{parameter}:" in doc, f"{name} does not document {parameter}"
