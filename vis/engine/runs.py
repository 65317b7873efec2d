"""What decides the maps of a run, in words and checksums that can be kept and compared."""

import functools
import itertools
import json
import pathlib
import sys
import sysconfig
import types
import zlib
from collections.abc import Mapping

import keras
import numpy as np

from vis.engine.evaluator import Evaluator
from vis.engine.graph import walk
from vis.utils.validation import cut, shown

_DEEPEST = 8  # values within values, such as a rule in a composite in a setting
_TOLD = "evaluations"  # what an explainer tells of its latest call, which decides nothing


def run_of(explainer, target) -> dict:
    """Returns what decides the maps that an explainer makes of given inputs, as JSON can hold it.

    Args:
        explainer: The explainer; its model is built.
        target: The target, as the user gave it.
    """
    own = {name: value for name, value in vars(explainer).items() if name not in ("evaluator", _TOLD)}
    return {
        "method": _name(type(explainer)),
        "settings": described({**own, **explainer.evaluator.settings}),
        "target": described(target),
        "layers of the model": _words_layers(explainer.model),
        "weights of the model": checksum(map(np.asarray, explainer.model.get_weights())),
        "backend": keras.backend.backend(),
    }


def difference(there, here, path=()) -> str | None:
    """Words the first difference of two runs, or returns `None` where there is none."""
    if isinstance(there, dict) and isinstance(here, dict):
        names = dict.fromkeys([*there, *here])
        found = (difference(there.get(name), here.get(name), (*path, name)) for name in names)
        return next(filter(None, found), None)
    if there == here:
        return None
    name = next((word for word in reversed(path) if not word.startswith("[")), "method")
    return f"{name.lstrip('_')}: {cut(shown(there), 60)} there, {cut(shown(here), 60)} here"


def checksum(arrays) -> str:
    """Returns eight characters that change with the numbers, shapes or types of arrays."""
    value = 0
    for array in arrays:
        value = zlib.crc32(f"{array.dtype} {array.shape}".encode(), value)
        value = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view("uint8"), value)
    return f"{value:08x}"


def described(value, depth=0):
    """Returns a value as JSON can hold it: arrays as checksums, objects by their class and what they hold.

    Layers are told by their class, as their names change from one run to the next.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, np.generic):
        return described(value.item())
    if isinstance(value, (float, complex, bytes, range, type)):
        return repr(value)
    if depth > _DEEPEST:
        return _name(type(value))
    return _of_many(value, functools.partial(described, depth=depth + 1))


def _of_many(value, inner):
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        array = keras.ops.convert_to_numpy(value)
        return f"{array.dtype} {array.shape} {checksum([array])}"
    if isinstance(value, Mapping):
        return {str(key): inner(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return {f"[{i}]": inner(one) for i, one in enumerate(value)}
    if isinstance(value, (set, frozenset)):
        return sorted(map(str, value))
    return _of_object(value, inner)


def _of_object(value, inner):
    if isinstance(value, Evaluator):
        return inner(value.settings)
    if isinstance(value, (types.FunctionType, types.MethodType)):
        return _of_function(value, inner)
    if isinstance(value, functools.partial):
        return inner({"function": value.func, "arguments": value.args, "by name": value.keywords})
    own = {} if isinstance(value, keras.Operation) else dict(getattr(value, "__dict__", {}))
    own.pop(_TOLD, None)
    return inner({"class": _name(type(value)), **own}) if own else _name(value if callable(value) else type(value))


def _of_function(function, inner):
    """Returns a function's name, and checksums of its code and of what it takes from around it."""
    code, around = _reached([getattr(function, "__func__", function)])
    closed = [cell.cell_contents for cell in function.__closure__ or ()]
    bound = getattr(function, "__self__", None)
    given = [function.__defaults__, closed, bound]
    return inner({"function": _name(function), "code": code, "with": given, "global values": around})


def _reached(functions):
    """Returns a checksum of the code of functions and of those of the user's own that they call, and global values."""
    found, around = {}, {}
    functions = list(functions)
    while functions:
        one = functions.pop()
        if one in found:
            continue
        found[one] = _parts(one.__code__)
        for name in sorted(_words(one.__code__) & set(one.__globals__)) if _is_own(one) else []:
            value = one.__globals__[name]
            if isinstance(value, types.FunctionType) and _is_own(value):
                functions.append(value)
            elif _is_data(value):
                around[name] = value
    return _of_text(itertools.chain(*found.values())), around


def _parts(code):
    """Returns what makes the code of a function, and of those within it."""
    plain, inner = [], []
    for one in code.co_consts:
        (inner if isinstance(one, types.CodeType) else plain).append(one)
    own = [code.co_code, str(code.co_names), json.dumps([described(one) for one in plain])]
    return own + [part for one in inner for part in _parts(one)]


def _words(code):
    """Returns the names that code takes from around it, and of attributes."""
    return set(code.co_names).union(*(_words(one) for one in code.co_consts if isinstance(one, types.CodeType)))


def _is_own(thing):
    """Tells whether a function or class is the user's own, not of an installed package."""
    name = str(thing.__module__)
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:  # of a script or a notebook, or built in
        return name not in sys.builtin_module_names
    path = pathlib.Path(file)
    is_installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts) or name.split(".")[0] == "keras"
    return not is_installed and not path.is_relative_to(sysconfig.get_path("stdlib"))


def _is_data(value):
    """Tells whether a value is a number, a text, an array of numbers, or a collection of these."""
    if isinstance(value, dict):
        return all(map(_is_data, value.values()))
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(map(_is_data, value))
    if isinstance(value, np.ndarray):
        return not value.dtype.hasobject
    if keras.ops.is_tensor(value):
        return not isinstance(value, keras.Variable) and "string" not in str(value.dtype)  # weights are told anyway
    return isinstance(value, (bool, int, float, complex, str, bytes, np.generic))


def _of_text(parts):
    return f"{functools.reduce(lambda value, part: zlib.crc32(_bytes(part), value), parts, 0):08x}"


def _bytes(part):
    return part if isinstance(part, bytes) else part.encode()


def _name(thing):
    name = getattr(thing, "__qualname__", None) or type(thing).__qualname__
    return f"{getattr(thing, '__module__', None) or 'builtins'}.{name}"


def _words_layers(model):
    """Returns a checksum of the model's layers, their settings and connections, whatever they are called."""
    operations = [operation for _, operation in walk(model)]
    names = {}
    for operation in [model, *operations]:
        names.setdefault(operation.name, f"#{len(names)}")
    try:
        config = model.get_config()
    except Exception:  # of the user's own, which tells nothing of itself
        config = [type(operation).__name__ for operation in operations]
    for name in _names_within(config):  # some are no operations of the graph, as Sequential's input layers
        names.setdefault(name, f"#{len(names)}")
    own = [_of_own_class(operation) for operation in [model, *operations]]
    return _of_text([json.dumps(part, sort_keys=True, default=_plain) for part in (_renamed(config, names), own)])


def _names_within(config):
    """Yields the names of the layers and models within a configuration."""
    if isinstance(config, dict):
        inner = config.get("config")
        if isinstance(inner, dict) and "name" in inner and not str(config.get("class_name")).endswith("DTypePolicy"):
            yield inner["name"]
    if isinstance(config, (dict, list, tuple)):
        for one in config.values() if isinstance(config, dict) else config:
            yield from _names_within(one)


def _of_own_class(operation):
    """Returns what a layer of the user's own does: checksums of its code, and the data that it holds and that names."""
    classes = [one for one in type(operation).__mro__ if _is_own(one)]
    functions = [one for cls in classes for one in vars(cls).values() if isinstance(one, types.FunctionType)]
    code, around = _reached(functions)
    names = set().union(*(_words(one.__code__) for one in functions)) - {"name"}
    held = {name: value for name, value in vars(operation).items() if name in names and _is_data(value)}
    return [code, described(around), described(held)] if functions else None


def _renamed(config, names):
    if isinstance(config, dict):
        return {str(key): _renamed(one, names) for key, one in config.items()}
    if isinstance(config, (list, tuple)):
        return [_renamed(one, names) for one in config]
    return names.get(config, config) if isinstance(config, str) else config


def _plain(value):
    return str(described(value))
