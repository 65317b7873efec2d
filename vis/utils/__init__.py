"""Helpers for models, images and arguments."""

import importlib
import pkgutil


def __getattr__(name):
    """Imports a module of this package when it is first asked for, as `import vis; vis.utils.utils` does."""
    if any(module.name == name for module in pkgutil.iter_modules(__path__)):
        return importlib.import_module(f"vis.utils.{name}")
    raise AttributeError(f"module 'vis.utils' has no attribute {name!r}")
