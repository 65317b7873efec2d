"""Several processes or machines: a data set explained by the workers of Ray.

An explainer pickles together with its model, so that each worker process holds one copy and explains its share of the
batches. Needs Ray Data: `pip install "keras-vis[scale]"`. For one process, `explainer.stream` is enough.
"""

from __future__ import annotations

import gc
import importlib.util
import inspect
import os
import pathlib
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from vis.methods.explainer import Explainer, check_target_of_many
from vis.utils.validation import check_count, cut, shown, words_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from vis.utils.types import Index, Tensor

_PATIENCE = 300  # seconds for the workers to start; without it the first one does all of what is little


def start(workers: int = 2, address: str = "local") -> None:
    """Starts Ray, or joins a cluster, with workers that run the Keras backend of this process.

    Stop it with `ray.shutdown()`.

    Args:
        workers: How many worker processes are wanted, where Ray is started. Default 2.
        address: Where the cluster is, such as `"auto"` on its head. Default `"local"`: this machine, for the occasion.

    Raises:
        ImportError: Ray Data is not installed.
        ValueError: There is no such address.
        RuntimeError: Ray runs already.
    """
    ray = _ray()
    if ray.is_initialized():
        raise RuntimeError("Ray runs already in this process. Go on with it, or stop it first: `ray.shutdown()`.")
    workers = check_count("workers", workers, 1)
    options = {"num_cpus": workers + 1, "include_dashboard": False} if address == "local" else {}  # one to write files
    environment = {"env_vars": {"KERAS_BACKEND": keras.config.backend()}}  # maps of another backend differ a little
    try:
        ray.init(address=address, runtime_env=environment, **options)
    except (ValueError, TypeError, ConnectionError) as error:
        raise type(error)(
            f"`address` must be 'local', 'auto' or that of a cluster's head. Received: {shown(address)}, of which Ray "
            f"says: {words_error(error)}"
        ) from error
    ray.data.DataContext.get_current().wait_for_min_actors_s = _PATIENCE


def explain(
    explainer: Explainer,
    images: ArrayLike | Any,
    folder: str | os.PathLike[str],
    target: Index | str | Callable[..., Tensor] | None = None,
    workers: int = 2,
    batch_size: int = 64,
    retries: int = 3,
    **options: Any,
) -> None:
    """Writes the maps of images as Parquet files, made by worker processes.

    A worker that dies, by a lack of memory or with its machine, is started anew, and its batch is given to a worker
    again: no map is lost, none is there twice.

    Args:
        explainer: Any explainer that returns one array.
        images: Array `(N, ...)`. For what does not fit into memory, a data set of Ray (`ray.data.read_images` and its
            kin) whose rows have an `"index"`, which no other row has, and an `"image"`.
        folder: Where the files go; on a cluster, a place that all machines see. Earlier maps there are replaced, once
            the new ones are whole; a folder that holds anything else is refused. Of an address such as `s3://...`
            Ray replaces what is there.
        target: `None`, an int, a name or a function, see `vis.methods.explainer.Explainer.__call__`.
        workers: How many worker processes. Default 2.
        batch_size: How many images go to a worker at once, and how many evaluations run at once. Default 64.
        retries: How often a worker is started again, and how often a batch that its worker did not survive is given
            out again. Default 3. Where Ray no longer takes this (it plans so for 2.64), it tries for ever.
        **options: For `ray.data.Dataset.map_batches`, such as `num_gpus=1` for a GPU of its own for each worker.

    Raises:
        ImportError: Ray Data is not installed.
        ValueError: There is no image, Ray's rows have no index or image, or the explainer refuses the first one or the
            target. Or the folder holds something else than maps.
        TypeError: `explainer` is no explainer, the folder is no path, or the target is of another kind.
        RuntimeError: A batch could not be explained, or its workers died too often.
    """
    ray = _ray()
    workers, batch_size = check_count("workers", workers, 1), check_count("batch_size", batch_size, 1)
    retries = check_count("retries", retries)
    path, given = _local(folder), _dataset(ray, images, batch_size)
    begun = str(folder) if path is None else str(_begun(path))
    _check_first(explainer, np.stack([given.take(1)[0]["image"]]), target)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")  # and there is no other way yet
        explained = given.map_batches(
            _Worker,
            fn_constructor_args=(explainer, target, batch_size),
            compute=ray.data.ActorPoolStrategy(size=workers),
            batch_size=batch_size,
            **{**_retrying(given.map_batches, retries), **options},
        )
    explained.context.raise_original_map_exception = True
    failed = _failure(lambda: explained.write_parquet(begun, mode="overwrite"))
    if failed is not None:
        del explained
        gc.collect()  # Ray ends the workers of a run when nothing refers to them
        raise RuntimeError(
            cut(f"The data set could not be explained: {type(failed).__name__}: {words_error(failed)}", 220)
            + f". Where a worker died, it was tried {retries} times more (`retries`): give it more memory, or a "
            "smaller `batch_size`."
        ) from failed
    if path is not None:
        shutil.rmtree(path, ignore_errors=True)
        os.rename(begun, path)


def read(folder: str | os.PathLike[str], count: int | None = None) -> tuple[np.ndarray, set[int]]:
    """Reads what `explain` wrote.

    Args:
        folder: The folder.
        count: How many maps there must be. Default `None`: not checked.

    Returns:
        The maps `(N, ...)`, float32, in the order of the indices, and the process numbers of the workers that made
        them.

    Raises:
        ImportError: Ray Data is not installed.
        TypeError: The folder is no path.
        ValueError: There are no files, a map is missing, or there twice.
    """
    _ray()
    import pandas

    path = _local(folder)
    if path is not None and not _names(path):
        raise ValueError(
            f"`folder` must be one that `explain` wrote to. Received: {shown(str(folder))}, which is none."
        )

    table = pandas.read_parquet(folder).sort_values("index")  # Ray taught pandas what an array in a column is
    index = table["index"].to_numpy()
    if len(np.unique(index)) != len(index) or count not in (None, len(index)):
        raise ValueError(
            f"The folder must hold one map for each of {shown(count) if count else 'the'} images. Received: "
            f"{len(index)} maps of {len(np.unique(index))} images in {shown(str(folder))}. Explain them again."
        )
    return np.stack(table["map"].to_list()), set(table["process"].tolist())


def _local(folder):
    """Returns a folder of this machine as a path, and `None` for an address such as `s3://...`."""
    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"`folder` must be a path, of the folder of the maps. Received: {shown(folder)}.")
    # Workers have current folders of their own.
    return None if "://" in os.fspath(folder) else pathlib.Path(folder).absolute()


def _begun(path):
    """Returns the folder beside that of earlier maps where new ones are written, so that those stay until then."""
    begun = path.with_name(f"{path.name}.unfinished")
    for place in (path, begun):
        others = [name for name in _names(place) if not name.endswith(".parquet")]
        if others:
            raise ValueError(
                f"`folder` must be new, or hold maps only (`.parquet`). Received: the folder {shown(place.name)}, "
                f"where {cut(shown(others[0]), 60)} is, which would be lost. Give another folder."
            )
    return begun


def _names(path):
    """Returns the names of what is in a folder, none if there is no such folder."""
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:  # a file, too long a name, or a null byte
        why = getattr(error, "strerror", None) or error
        raise ValueError(f"`folder` must be a folder. Received: {cut(shown(str(path)), 120)}: {why}.") from error


def _check_first(explainer, images, target):
    """Raises what the explainer has against the first image or the target, before workers start."""
    if not isinstance(explainer, Explainer):
        raise TypeError(f"`explainer` must be one, such as `vis.GradCAM(model)`. Received: {type(explainer).__name__}.")
    check_target_of_many(target)
    explainer.evaluator.task(images, target, 1)


class _Worker:
    """What a worker process does; Ray makes it once in each.

    Args:
        explainer: The explainer. Ray pickled it in the main process and unpickled it here.
        target: What is explained.
        batch_size: How many evaluations of the model run at once.
    """

    def __init__(self, explainer, target, batch_size):
        self._explainer, self._target, self._batch_size = explainer, target, batch_size

    def __call__(self, batch):
        """Returns the maps of a batch, with what tells which images they belong to."""
        maps = self._explainer(batch["image"], self._target, self._batch_size)
        return {"index": batch["index"], "map": maps, "process": np.full(len(maps), os.getpid())}


def _dataset(ray, images, batch_size):
    """Returns images as a data set of Ray."""
    if not isinstance(images, ray.data.Dataset):
        images = np.asarray(images)
        if images.ndim < 2 or not len(images):
            raise ValueError(f"`images` must be an array (N, ...) of at least one. Received: shape {images.shape}.")
        rows = [{"index": index, "image": image} for index, image in enumerate(images)]
        return ray.data.from_items(rows, override_num_blocks=-(-len(rows) // batch_size))
    names = images.schema().names if images.schema() else []
    if not {"index", "image"} <= set(names):
        raise ValueError(
            f"`images`, a data set of Ray, must have the columns 'index' and 'image'. Received: {shown(names)}. Add "
            "them with `dataset.map` or `dataset.rename_columns`."
        )
    return images


def _retrying(function, retries):
    """Returns how often Ray is to try again, as far as it can be told; by itself it never gives up."""
    takes_any = any(one.kind is one.VAR_KEYWORD for one in inspect.signature(function).parameters.values())
    return {"max_restarts": retries, "max_task_retries": retries} if takes_any else {}


def _failure(work):
    """Returns what a worker raised, or `None`; without the calls that led to it: these would keep all workers alive."""
    try:
        work()
    except Exception as error:  # of Ray, which wraps what the workers raise
        cause = getattr(error, "cause", None) or error.__cause__ or error
        cause.__cause__ = cause.__context__ = None
        return cause.with_traceback(None)
    return None


def _ray() -> Any:
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pandas") is None:
        raise ImportError('`vis.scale` needs Ray Data, which is not installed: `pip install "keras-vis[scale]"`.')
    import ray.data

    return ray
