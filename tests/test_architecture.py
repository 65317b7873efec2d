"""The house's rules, kept by reading the source: floors, no cycles, framework names only in the seam."""

import ast
import importlib
import inspect
import pathlib
import re
import statistics
import subprocess
import sys

import pytest
from conftest import ROOT

PACKAGE = ROOT / "vis"

# A module imports only from floors below its own, or from its own where that makes no cycle.
FLOORS = {
    "vis.utils": 0,
    "vis.utils.types": 0,
    "vis.utils.hints": 0,
    "vis.utils.labels": 0,
    "vis.utils.validation": 0,
    "vis.utils.contexts": 0,
    "vis.utils.images": 0,
    "vis.utils.heatmaps": 0,
    "vis.utils.figures": 0,
    "vis.utils.files": 0,
    "vis.utils.ahead": 0,
    "vis.utils.recordings": 0,
    "vis.utils.folders": 0,
    "vis.utils.internals": 0,
    "vis.utils.seeds": 0,
    "vis.utils.tokens": 0,
    "vis.utils.formats": 1,
    "vis.utils.outputs": 1,
    "vis.losses": 1,
    "vis.detectors": 1,
    "vis.targets": 1,
    "vis.feature_plots": 1,
    "vis.plotting": 1,
    "vis.regularizers": 1,
    "vis.grad_modifiers": 1,
    "vis.input_modifiers": 2,
    "vis.parameterizations": 2,
    "vis.backend": 2,
    "vis.backend.patience": 2,
    "vis.backend._tensorflow": 2,
    "vis.backend._jax": 2,
    "vis.backend._torch": 2,
    "vis.engine": 3,
    "vis.engine.taps": 3,
    "vis.engine.requests": 3,
    "vis.engine.memory": 3,
    "vis.engine.masking": 3,
    "vis.engine.imputation": 3,
    "vis.engine.quadrature": 3,
    "vis.engine.players": 3,
    "vis.engine.designs": 3,
    "vis.engine.sensitivity": 3,
    "vis.engine.tasks": 3,
    "vis.engine.rest": 3,
    "vis.engine.onward": 3,
    "vis.engine.tokens": 3,
    "vis.engine.evaluator": 3,
    "vis.engine.graph": 3,
    "vis.engine.copying": 3,
    "vis.engine.probabilities": 3,
    "vis.engine.linear": 3,
    "vis.engine.surrogates": 3,
    "vis.engine.code": 3,
    "vis.engine.insides": 3,
    "vis.engine.attention": 3,
    "vis.engine.readers": 3,
    "vis.engine.inputs": 3,
    "vis.engine.network": 3,
    "vis.engine.survey": 3,
    "vis.engine.feature_maps": 3,
    "vis.engine.streams": 3,
    "vis.engine.runs": 3,
    "vis.engine.records": 3,
    "vis.engine.goals": 3,
    "vis.engine.energy": 3,
    "vis.engine.descent": 3,
    "vis.engine.synthesis": 3,
    "vis.utils.utils": 4,
    "vis.backprop_modifiers": 4,
    "vis.backprop_modifiers.attention_rules": 4,
    "vis.backprop_modifiers.composites": 4,
    "vis.backprop_modifiers.difference_rules": 4,
    "vis.backprop_modifiers.gradient_rules": 4,
    "vis.backprop_modifiers.kinds": 4,
    "vis.backprop_modifiers.models": 4,
    "vis.backprop_modifiers.relevance_rules": 4,
    "vis.callbacks": 4,
    "vis.optimizer": 4,
    "vis.methods": 5,
    "vis.methods.explainer": 5,
    "vis.methods.gradients": 5,
    "vis.methods.integrated": 5,
    "vis.methods.paths": 5,
    "vis.methods.sampled_gradients": 5,
    "vis.methods.smooth": 5,
    "vis.methods.full_gradients": 5,
    "vis.methods.regions": 5,
    "vis.methods.relevance": 5,
    "vis.methods.attention": 5,
    "vis.methods.language": 5,
    "vis.methods.layer_outputs": 5,
    "vis.methods.cam": 5,
    "vis.methods.channel_cam": 5,
    "vis.methods.perturbation": 5,
    "vis.methods.sampling": 5,
    "vis.methods.features": 5,
    "vis.methods.occlusion": 5,
    "vis.methods.rise": 5,
    "vis.methods.shapley": 5,
    "vis.methods.lime": 5,
    "vis.methods.sensitivity": 5,
    "vis.methods.feature_visualization": 5,
    "vis.report": 6,
    "vis.report.atlas": 6,
    "vis.report.charts": 6,
    "vis.report.checks": 6,
    "vis.report.flat": 6,
    "vis.report.packing": 6,
    "vis.report.page": 6,
    "vis.report.pictures": 6,
    "vis.report.rendering": 6,
    "vis.concepts": 6,
    "vis.concepts.activations": 6,
    "vis.concepts.atlas": 6,
    "vis.concepts.layouts": 6,
    "vis.concepts.crops": 6,
    "vis.concepts.figures": 6,
    "vis.concepts.craft": 6,
    "vis.concepts.neighbours": 6,
    "vis.concepts.tcav": 6,
    "vis.metrics": 6,
    "vis.metrics.base": 6,
    "vis.metrics.curves": 6,
    "vis.metrics.faithfulness": 6,
    "vis.metrics.robustness": 6,
    "vis.metrics.randomization": 6,
    "vis.metrics.localization": 6,
    "vis.metrics.complexity": 6,
    "vis.metrics.baselines": 6,
    "vis.metrics.verdicts": 6,
    "vis.metrics.studies": 6,
    "vis.metrics.tables": 6,
    "vis.metrics.figures": 6,
    "vis.metrics.pages": 6,
    "vis.metrics.evaluation": 6,
    "vis.training": 7,
    "vis.scale": 7,
    "vis.visualization.maps": 7,
    "vis.visualization.saliency": 7,
    "vis.visualization.class_activation": 7,
    "vis.visualization.activation_maximization": 7,
    "vis.visualization": 7,
    "vis": 8,
    "vis.commands": 8,
    "vis.commands.shared": 8,
    "vis.commands.compare": 8,
    "vis.commands.explain": 8,
    "vis.commands.layers": 8,
    "vis.commands.maximize": 8,
    "vis.__main__": 8,
}


def module_name(path):
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def tree_of(module):
    return ast.parse(MODULES[module].read_text())


def running(tree):
    """Yields the nodes of a module but for those that only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"):
            yield node
            yield from running(node)


def imports(module):
    """Returns the modules that a module imports when it runs, at whatever depth of its code."""
    found = set()
    for node in running(tree_of(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in MODULES else node.module)
    return found


def test_every_module_has_a_floor():
    assert set(MODULES) == set(FLOORS)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    for imported in imports(module) & set(MODULES):
        assert FLOORS[imported] <= FLOORS[module], f"{module} imports {imported}"


def test_there_is_no_cycle():
    graph = {module: imports(module) & set(MODULES) for module in MODULES}
    done = set()
    while len(done) < len(graph):
        free = [module for module in graph if module not in done and graph[module] <= done]
        assert free, f"a cycle among {sorted(set(graph) - done)}"
        done.update(free)


@pytest.mark.parametrize("module", MODULES)
def test_frameworks_are_named_in_the_seam_only(module):
    outside = {name.split(".")[0] for name in imports(module)}
    if not module.startswith("vis.backend"):
        assert not outside & {"tensorflow", "jax", "torch"}
    assert not any(name.startswith("keras.src") for name in imports(module))
    assert "keras.src" not in MODULES[module].read_text()


def test_the_ground_floor_knows_numpy_and_the_standard_library_only():
    for module in ("vis.utils.validation", "vis.utils.images"):
        for name in imports(module):
            top = name.split(".")[0]
            assert top in sys.stdlib_module_names or top == "numpy" or name in FLOORS


@pytest.mark.parametrize("module", MODULES)
def test_no_assert_no_print_no_bare_except(module):
    for node in ast.walk(tree_of(module)):
        assert not isinstance(node, ast.Assert)
        assert not (isinstance(node, ast.ExceptHandler) and node.type is None)
        if module != "vis.callbacks":
            assert not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print")


@pytest.mark.parametrize("module", MODULES)
def test_functions_are_short(module):
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef):
            start = node.body[1].lineno if ast.get_docstring(node) and len(node.body) > 1 else node.body[0].lineno
            assert node.end_lineno - start < 40, f"{module}.{node.name}"


def test_import_does_no_work():
    code = (
        "import sys\n"
        "def heavy():\n"
        "    return {'matplotlib.pyplot', 'imageio', 'scipy.ndimage', 'PIL.Image'} & set(sys.modules)\n"
        "import keras\n"
        "before = heavy()\n"
        "import vis.visualization, vis.training\n"
        "print(sorted(heavy() - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"  # nothing heavy that Keras has not brought in


def test_no_file_is_outside_the_package_list():
    assert all(isinstance(path, pathlib.Path) and path.stat().st_size < 40_000 for path in MODULES.values())


def test_underscored_attributes_of_keras_are_touched_in_one_module():
    words = ("_inbound_nodes", "_outbound_nodes", "_keras_history", "_flatten_layers")
    assert [m for m, path in MODULES.items() if any(w in path.read_text() for w in words)] == ["vis.utils.internals"]


def code_lines(function, lines):
    """Counts the lines of a function's body that hold code."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    own = lines[body[0].lineno - 1 : function.end_lineno] if body else []
    return sum(1 for line in own if line.strip() and not line.strip().startswith("#"))


def functions():
    """Yields `(module, function, lines of the module)` for every function of the package."""
    for module, path in MODULES.items():
        lines = path.read_text().split("\n")
        for node in ast.walk(tree_of(module)):
            if isinstance(node, ast.FunctionDef):
                yield module, node, lines


def test_most_functions_are_a_few_lines():
    assert statistics.median(code_lines(function, lines) for _, function, lines in functions()) <= 6


def test_signatures_are_short():
    by_contract = {"visualize_activation", "evaluate", "gallery"}
    for module, function, _ in functions():
        names = [argument.arg for argument in function.args.args + function.args.kwonlyargs]
        own = [name for name in names if name not in ("self", "cls", "model")]
        assert len(own) <= 8 or function.name in by_contract, f"{module}.{function.name}"


def test_no_two_modules_say_the_same_of_themselves():
    firsts = [re.split(r"[.:]", ast.get_docstring(tree_of(module)))[0] for module in MODULES]
    assert len(set(firsts)) == len(firsts)


def test_the_contributors_table_names_every_room():
    table = (ROOT / "CONTRIBUTING.md").read_text()
    for module in MODULES:
        parts = module.split(".")
        if len(parts) > 1 and parts[1] not in ("backend", "methods", "visualization"):
            assert parts[-1] in table, module


# What users call. Of a module without `__all__`, what it defines itself under a public name.
PUBLIC = [
    *(
        "vis",
        "vis.losses",
        "vis.regularizers",
        "vis.optimizer",
        "vis.callbacks",
        "vis.targets",
        "vis.detectors",
        "vis.plotting",
    ),
    *("vis.backprop_modifiers", "vis.grad_modifiers", "vis.input_modifiers", "vis.parameterizations", "vis.training"),
    *("vis.report", "vis.scale"),
    *("vis.utils.utils", "vis.utils.heatmaps", "vis.utils.images", "vis.utils.tokens"),
    *(module for module in MODULES if module.startswith(("vis.visualization", "vis.methods"))),
]


def public_names(module):
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    names = getattr(module, "__all__", None) or [name for name in own if not name.startswith("_")]
    return {name: getattr(module, name) for name in names}


def public_functions(name, value):
    """Yields the functions behind a public name: of a class, its methods and those that it inherits in the package."""
    if not inspect.isclass(value):
        if inspect.isfunction(value):
            yield name, value
        return
    for one in inspect.classify_class_attrs(value):
        is_ours = one.defining_class.__module__.partition(".")[0] == "vis"
        if is_ours and (one.name in ("__init__", "__call__") or not one.name.startswith("_")):
            function = getattr(one.object, "fget", None) or getattr(one.object, "__func__", one.object)
            if inspect.isfunction(function):
                yield f"{name}.{one.name}", function


def missing_annotations(function):
    signature = inspect.signature(function)
    names = [name for name, one in signature.parameters.items() if one.annotation is one.empty and name != "self"]
    return names + (["the result"] if signature.return_annotation is signature.empty else [])


@pytest.mark.parametrize("module", PUBLIC)
def test_public_functions_are_annotated(module):
    names = public_names(importlib.import_module(module))
    functions = [pair for name, value in names.items() for pair in public_functions(name, value)]
    missing = {name: missing_annotations(function) for name, function in functions}
    assert functions or module == "vis.methods"
    assert {name: what for name, what in missing.items() if what} == {}


def test_the_package_says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()
