"""What decides the maps of a run, in words and checksums that can be kept and compared."""

import functools
import json
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
    code = function.__code__
    closed = [cell.cell_contents for cell in function.__closure__ or ()]
    parts = [code.co_code, str(code.co_names), str([one for one in code.co_consts if not hasattr(one, "co_code")])]
    parts += [one.co_code for one in code.co_consts if hasattr(one, "co_code")]
    bound = getattr(function, "__self__", None)
    return inner({"function": _name(function), "code": _of_text(parts), "with": [function.__defaults__, closed, bound]})


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
    return _of_text([json.dumps(_renamed(config, names), sort_keys=True, default=_plain)])


def _renamed(config, names):
    if isinstance(config, dict):
        return {names.get(str(key), str(key)): _renamed(one, names) for key, one in config.items()}
    if isinstance(config, (list, tuple)):
        return [_renamed(one, names) for one in config]
    return names.get(config, config) if isinstance(config, str) else config


def _plain(value):
    return str(described(value))
