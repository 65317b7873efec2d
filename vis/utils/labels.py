"""Names of classes: those of ImageNet, which come with the package."""

import functools
import pathlib

from vis.utils.validation import near_names, shown


@functools.cache
def imagenet_labels() -> tuple:
    """Returns the English names of the 1,000 ImageNet classes, in order."""
    return tuple((pathlib.Path(__file__).parent / "imagenet_labels.txt").read_text("utf-8").splitlines())


def class_names(labels, units: int) -> list:
    """Returns a name for each output unit.

    Args:
        labels: The names, or `None`: those of ImageNet where there are 1,000 units, else "class 0" and so on.
        units: How many there are.

    Raises:
        ValueError: There are fewer or more names.
        TypeError: They are in no order.
    """
    if labels is None:
        known = imagenet_labels()
        return list(known) if units == len(known) else [f"class {number}" for number in range(units)]
    if isinstance(labels, (str, dict, set)):
        raise TypeError(
            f"`labels` must be a list of names in the order of the output's classes. Received: {shown(labels)}."
        )
    if len(labels) != units:
        raise ValueError(
            f"`labels` must be a list with a name for each of {units} classes. Received: {len(labels)} names, "
            f"{shown(labels)}."
        )
    return [str(label) for label in labels]


def class_index(name: str, classes: int, what: str) -> int:
    """Returns the index of a class that is given by its name.

    Args:
        name: One of ImageNet's names; capitals do not matter, and `_` stands for a space.
        classes: How many classes there are; names are known where there are 1,000.
        what: Words for the output.

    Raises:
        TypeError: There is another number of classes, so their names are not known.
        ValueError: No class has the name, or several have.
    """
    labels = imagenet_labels()
    if classes != len(labels):
        raise TypeError(
            f"`target` may be a class's name only for the {len(labels):,} classes of ImageNet. Received: "
            f"{shown(name, 60)} for {what}, with {classes} classes, whose names are not known. Give the index: "
            "`labels.index(name)`, where `labels` lists your classes' names in the order of the outputs."
        )
    found = [i for i, label in enumerate(labels) if _plain(label) == _plain(name)]
    if not found:
        raise ValueError(
            f"`target` must be the name of an ImageNet class, or an index. Received: {shown(name, 60)}. "
            f"{near_names(_plain(name), labels)}"
        )
    if len(found) > 1:
        raise ValueError(
            f"`target` must be the name of one class. Received: {shown(name)}, which the ImageNet classes "
            f"{' and '.join(map(str, found))} have. Give the index."
        )
    return found[0]


def _plain(name):
    return name.replace("_", " ").casefold().strip()
