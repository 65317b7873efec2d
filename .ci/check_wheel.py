"""Uses an installed wheel as a stranger would: `cd EMPTY_FOLDER && python .../.ci/check_wheel.py PLACE`.

PLACE is the folder that the wheel was installed into, so that nothing else is taken for it.
"""

import importlib.metadata
import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np

import vis
from vis.report import Page, write_page
from vis.utils.utils import lookup_imagenet_labels

DATA = [
    "vis/py.typed",
    "vis/utils/imagenet_labels.txt",
    "vis/report/page.css",
    "vis/report/page.html.jinja",
    "vis/report/page.js",
]


def check(is_right, what):
    """Ends with a message unless something is right."""
    if not is_right:
        sys.exit(f"The wheel is wrong: {what}.")


def distribution(place):
    """Returns what the wheel says of itself."""
    found = [one for one in importlib.metadata.distributions(path=[str(place)]) if one.files]
    check(len(found) == 1, f"{place} must hold one package, and holds {[one.name for one in found]}")
    return found[0]


def check_files(package):
    """Checks that what belongs into the wheel is in it, and nothing else."""
    names = [str(file) for file in package.files]
    licences = package.metadata.get_all("License-File") or []
    for name in [*DATA, *(f"licenses/{licence}" for licence in licences)]:
        check(any(one.endswith(name) for one in names), f"{name} is missing")
    check(len(licences) >= 2, f"the licences are {licences}, and those of data must be among them")
    own = [name for name in names if "dist-info" not in name and not name.endswith("bin/keras-vis")]
    tops = {name.split("/")[0] for name in own}
    check(tops == {"vis"}, f"it installs {sorted(tops)}")


def check_use():
    """Checks that it explains."""
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), keras.layers.Conv2D(2, 3), keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    images = np.random.default_rng(0).random((2, 8, 8, 1)).astype("float32")
    maps = vis.Saliency(model)(images, target=1)
    check(maps.shape == images.shape and np.abs(maps).max() > 0, "`Saliency` gives no maps")
    check(lookup_imagenet_labels(0) == ["tench"], "class 0 of ImageNet must be a tench")


def check_report():
    """Checks that it writes a report."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "report.html"
        write_page(path, Page("A report", {}, "vis.evaluate(...)"))
        check("A report" in path.read_text("utf-8"), "a report has no title")


def check_command_line():
    """Checks that the command line says the version."""
    command = [sys.executable, "-m", "vis", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = f"`python -m vis --version` says {done.stdout!r} {done.stderr!r}"
    check(done.stdout.strip() == f"keras-vis {vis.__version__}", said)


def main():
    """Runs all checks."""
    place = pathlib.Path(sys.argv[1]).resolve()
    check(pathlib.Path(vis.__file__).resolve().is_relative_to(place), f"`vis` is {vis.__file__}")
    package = distribution(place)
    check(package.version == vis.__version__, f"it is {package.version}, and `vis.__version__` is {vis.__version__}")
    check_files(package)
    check_use()
    check_report()
    check_command_line()
    print(f"{package.name} {package.version} works from its wheel")


if __name__ == "__main__":
    main()
