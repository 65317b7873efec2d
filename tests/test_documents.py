"""What looks like code in the README and the docs runs."""

import ast
import json
import re
import runpy
import tomllib
import types

import keras
import matplotlib
import numpy as np
import pytest
from conftest import KERAS, ROOT
from test_architecture import MODULES

import vis

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
APPLICATIONS = DOCS / "how-to" / "keras-applications.md"
NOTEBOOKS = sorted(DOCS.rglob("*.ipynb"))


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT.get("urls", {}).get("Repository", "https://github.com/keras-vis/keras-vis")
FIRST = "<!-- runs first -->\n"  # before the block of a model that the page's other blocks take for granted


def blocks(page, language):
    """Returns the blocks of a page, those that are marked to run first in front."""
    marked = rf"^({FIRST})?```{language}\n(.*?)^```"
    found = re.findall(marked, page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [block for mark, block in sorted(found, key=lambda pair: not pair[0])]


def in_time(page):
    """Marks the pages but for the README as slow."""
    return pytest.param(page, id=page.name, marks=[] if page.name == "README.md" else pytest.mark.slow)


@pytest.mark.parametrize("page", list(map(in_time, PAGES)))
def test_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    if page.name == "concepts.md" and KERAS < (3, 14):
        pytest.skip("it shows that a keras.Function refuses tensors of another graph, which older ones do when called")
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for block in blocks(page, "python"):
        if "import keras_hub" in block:
            pytest.importorskip("keras_hub")
        exec(compile(block.replace('weights="imagenet"', "weights=None"), page.name, "exec"), names)


def test_the_page_on_keras_applications_says_what_each_model_expects():
    rows = re.findall(
        r"^\| `(\w+)` \| ([-.\d]+), ([-.\d]+) \| (\w+) \| (.*) \|$", APPLICATIONS.read_text(), flags=re.MULTILINE
    )
    modules = {name: module for name, module in vars(keras.applications).items() if hasattr(module, "preprocess_input")}
    assert {name for name, *_ in rows} == set(modules) - {"imagenet_utils", "resnet50"}
    for name, *ends, colours, where in rows:
        black_white = np.array([[0, 0, 0], [255, 255, 255]], "float32").reshape(1, 1, 2, 3)
        red = np.array([255, 0, 0], "float32").reshape(1, 1, 1, 3)
        given = modules[name].preprocess_input(black_white.copy(), data_format="channels_last")
        np.testing.assert_allclose([given.min(), given.max()], [float(end) for end in ends], atol=0.005, err_msg=name)
        assert modules[name].preprocess_input(red, data_format="channels_last").argmax() == colours.index("R"), name
        assert (where == "inside the model") == np.array_equal(given, black_white), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_exist(page):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()) + re.findall(r'src="([^"]+)"', page.read_text()):
        if not target.startswith(("http:", "https:", "mailto:")):
            assert (page.parent / target).exists(), f"{page.name} points to {target}, which does not exist"


def test_the_readme_can_be_read_on_a_package_index():
    text = (ROOT / "README.md").read_text()
    targets = dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", text, flags=re.MULTILINE))
    raw = REPOSITORY.replace("https://github.com/", "https://raw.githubusercontent.com/") + "/main/"
    for name, url in targets.items():
        assert (ROOT / name).exists(), name
        kind = "tree" if (ROOT / name).is_dir() else "blob"
        assert url == (raw if name.startswith("docs/images/") else f"{REPOSITORY}/{kind}/main/") + name
    assert set(re.findall(r"\]\[([^\]]+)\]", text)) == set(targets)
    assert all(url.startswith("https://") for url in re.findall(r"\]\(([^)]+)\)", text))
    assert f"pip install git+{REPOSITORY}\n" in text


def test_the_site_says_where_it_and_the_repository_are():
    settings = (ROOT / "mkdocs.yml").read_text()
    site = PROJECT.get("urls", {}).get("Documentation", "https://keras-vis.github.io/keras-vis")
    assert re.search(rf"^repo_url: {REPOSITORY}$", settings, flags=re.MULTILINE)
    assert re.search(rf"^site_url: {site}/?$", settings, flags=re.MULTILINE)
    assert f"]({site})" in (ROOT / "README.md").read_text()


def test_the_readme_shows_what_one_gets_in_its_first_twenty_lines():
    top = "\n".join((ROOT / "README.md").read_text().split("\n")[:20])
    picture, example = top.index("docs/images/features_hero.jpg"), top.index("```python")
    assert picture < example
    assert 'figure.savefig("map.png")\n```' in top


def test_the_readme_has_its_two_commands():
    commands = [line for block in blocks(ROOT / "README.md", "sh") for line in block.splitlines()]
    install = "python3 -m venv .venv && .venv/bin/pip install "
    example = " && .venv/bin/python examples/mnist/attention.py"
    assert any(line.startswith(install) and example in line for line in commands)
    assert any(line.startswith(install) and line.endswith(" && .venv/bin/python -m pytest") for line in commands)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_fits_into_the_column_that_the_site_has_for_it(page):
    # Commands that are joined into one stay one line: they are copied, not read.
    lines = [line for block in blocks(page, r"\w*") for line in block.splitlines() if " && " not in line]
    assert [line for line in lines if len(line) > 75] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.name)
def test_notebooks_are_kept_without_outputs(path):
    cells = json.loads(path.read_text())["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
    assert "".join(cells[0]["source"]).startswith("# ")


@pytest.fixture(scope="module")
def hooks():
    return runpy.run_path(str(ROOT / ".ci" / "docs_hooks.py"))


@pytest.mark.parametrize(
    ("words", "target"),
    [
        ("GradCAM", "vis.GradCAM"),
        ("vis.GradCAM(model, layer=None)", "vis.GradCAM"),
        ("plotting.overlay", "vis.plotting.overlay"),
        ("swap_softmax", "vis.utils.utils.swap_softmax"),
        ("vis.methods.explainer.Explainer.stream", "vis.methods.explainer.Explainer.stream"),
        ("show", None),
        ("compile()", None),
        ("keras.optimizers.Adam", None),
        ("keras.utils.load_img", None),
        ("captum.attr.Saliency", None),
    ],
)
def test_the_site_makes_links_of_names(hooks, words, target):
    code = f"<code>{words}</code>"
    link = f'<autoref identifier="{target}" optional>{code}</autoref>' if target else code
    fixed = f'<pre>{code}</pre><h2>{code}</h2><a href="#">{code}</a>'
    assert hooks["link_names"](f"<p>{code}</p>{fixed}") == f"<p>{link}</p>{fixed}"
    row = "<p>{0}</p><tr>\n<td>{0}</td>\n<td>{1}</td>\n</tr>"
    assert hooks["link_names_beside"](row.format(code, code)) == row.format(code, link)


@pytest.mark.parametrize(
    ("shown", "wanted"),
    [
        ("–{0}<p>When called, float32.</p>{1}", "<p>When called, float32.</p>"),
        ("<code>float32 in [0, 1]</code>–{0}<p>one map.</p>{1}", "<p>float32 in [0, 1]: one map.</p>"),
        ("<code>Array `(N, *shape[1</code>–{0}<p>])`, raw.</p>{1}", "<p>Array <code>(N, *shape[1:])</code>, raw.</p>"),
        ("<code>ndarray | None</code>–{0}<p>The map.</p>{1}", None),
    ],
)
def test_the_site_writes_results_without_a_type_as_sentences(hooks, shown, wanted):
    item = '<ul><li class="doc-section-item field-body">{}</li></ul>'
    html = item.format(shown.format('<div class="doc-md-description">', "</div>"))
    assert hooks["describe_results"](html) == (wanted or html)


def test_paths_in_tables_may_break(hooks):
    cell = "<td><code>{}</code></td><p><code>a/b</code></p>"
    assert hooks["break_paths"](cell.format("net/block/out")) == cell.format("net/<wbr>block/<wbr>out")


def test_the_site_makes_links_of_pictures(hooks):
    picture = '<img alt="a" src="images/a.png" />'
    assert hooks["enlarge"](f"<p>{picture}</p>") == f'<p><a href="images/a.png">{picture}</a></p>'
    for alone in (f'<a href="page.html">{picture}</a>', '<img src="data:image/png;base64,00">'):
        assert hooks["enlarge"](alone) == alone


def test_the_site_shows_the_version(hooks):
    config = hooks["on_config"](types.SimpleNamespace(site_name="keras-vis", repo_name="", copyright="MIT licence"))
    assert vis.__version__ in config.repo_name
    assert config.copyright == f"keras-vis {vis.__version__}, MIT licence"


def test_every_page_and_notebook_is_in_the_navigation():
    navigation = (ROOT / "mkdocs.yml").read_text()
    for path in [*DOCS.rglob("*.md"), *NOTEBOOKS]:
        assert re.search(rf": {re.escape(str(path.relative_to(DOCS)))}$", navigation, flags=re.MULTILINE), path


def test_the_reference_has_every_public_name():
    text = "\n".join(path.read_text() for path in (DOCS / "reference").glob("*.md"))
    listed = set(re.findall(r"^::: (\S+)", text, flags=re.MULTILINE))
    homes = ("vis", "vis.visualization", "vis.metrics")
    missing = [name for name in vis.__all__ if not listed & {f"{home}.{name}" for home in homes}]
    whole = [module for module in listed if module in MODULES]
    for name in missing:
        assert getattr(vis, name).__module__ in whole, f"docs/reference does not have vis.{name}"
    public = ["losses", "regularizers", "parameterizations", "input_modifiers", "grad_modifiers", "backprop_modifiers"]
    assert {f"vis.metrics.{name}" for name in vis.metrics.__all__} <= listed
    public += ["optimizer", "callbacks", "training", "plotting", "utils.utils", "utils.validation", "backend"]
    assert {f"vis.{module}" for module in public} <= set(whole)


def test_every_picture_of_the_docs_can_be_made_again():
    pictures = runpy.run_path(str(ROOT / ".ci" / "docs_images.py"))["PICTURES"]
    assert set(pictures) == {path.name for path in (DOCS / "images").iterdir()}
    for example, _ in pictures.values():
        script = ROOT / "examples" / f"{example}.py"
        functions = [node.name for node in ast.parse(script.read_text()).body if isinstance(node, ast.FunctionDef)]
        assert "main" in functions, script
