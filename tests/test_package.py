"""The package `vis` itself: nothing is loaded before it is asked for, and everything is there when it is."""

import ast
import pydoc
import subprocess
import sys

import pytest
from conftest import ROOT, slow

import vis


def run_alone(code):
    """Returns what code prints in an interpreter of its own."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_package_alone_loads_no_framework():
    code = "import sys, vis; print(vis.__version__, [m for m in ('keras', 'numpy', 'matplotlib') if m in sys.modules])"
    assert run_alone(code) == f"{vis.__version__} []"


@pytest.mark.parametrize(
    "code",
    [
        "import vis; print(vis.GradCAM is vis.visualization.GradCAM)",
        "from vis import *; import vis; print(all(globals()[name] is getattr(vis, name) for name in vis.__all__))",
        *slow(
            "import vis; print(callable(vis.utils.utils.draw_text) and callable(vis.plotting.overlay))",
            "import vis, vis.losses; print(callable(vis.utils.utils.swap_softmax))",  # `vis.utils` is there by then
            "import vis.engine.network; import vis; print(vis.heatmap is vis.utils.heatmaps.heatmap)",
            "from vis import losses, plotting; print(losses.__name__ + plotting.__name__ == 'vis.lossesvis.plotting')",
        ),
    ],
)
def test_everything_is_there_when_it_is_asked_for(code):
    assert run_alone(code) == "True"


def test_every_name_is_loaded_once_and_kept():
    for name in vis.__all__:
        assert getattr(vis, name) is vars(vis)[name]


def test_what_is_not_there_is_an_attribute_error():
    for package in (vis, vis.utils):
        with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'grad_cam'"):
            _ = package.grad_cam
    with pytest.raises(ImportError, match="cannot import name 'grad_cam'"):
        from vis import grad_cam  # noqa: F401


def test_names_and_modules_are_listed():
    assert {*vis.__all__, "losses", "plotting", "utils", "__version__"} <= set(dir(vis))
    words = pydoc.render_doc(vis, renderer=pydoc.plaintext)
    assert all(f"class {name}" in words or f"{name}(" in words for name in vis.__all__)


def test_type_checkers_see_the_names_that_there_are():
    body = ast.parse((ROOT / "vis/__init__.py").read_text()).body
    block = next(node for node in body if isinstance(node, ast.If))
    assert {alias.name for node in block.body for alias in node.names} == set(vis.__all__)
