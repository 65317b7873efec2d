"""Prints the oldest Keras and TensorFlow that `pyproject.toml` allows, as `pip install` takes them."""

import pathlib
import re
import tomllib

project = tomllib.loads((pathlib.Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
print(*(one.replace(">=", "==") for one in project["dependencies"] if re.match("(keras|tensorflow)>=", one)))
