"""Several processes or machines: a data set explained by the workers of Ray.

An explainer pickles together with its model, so that each worker process holds one copy and explains its share of the
batches. Needs Ray Data: `pip install "keras-vis[scale]"`. For one process, `explainer.stream` is enough.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import warnings
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from vis.utils.validation import check_count, cut, shown, words_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from vis.methods.explainer import Explainer
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
    """
    ray = _ray()
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
        folder: Where the files go; on a cluster, a place that all machines see. What is there is replaced.
        target: `None`, an int, a name or a function, see `vis.methods.explainer.Explainer.__call__`.
        workers: How many worker processes. Default 2.
        batch_size: How many images go to a worker at once, and how many evaluations run at once. Default 64.
        retries: How often a worker is started again, and how often a batch that its worker did not survive is given
            out again. Default 3. Where Ray no longer takes this (it plans so for 2.64), it tries for ever.
        **options: For `ray.data.Dataset.map_batches`, such as `num_gpus=1` for a GPU of its own for each worker.

    Raises:
        ImportError: Ray Data is not installed.
        ValueError: There is no image, or Ray's rows have no index or image.
        RuntimeError: A batch could not be explained, or its workers died too often.
    """
    ray = _ray()
    workers, batch_size = check_count("workers", workers, 1), check_count("batch_size", batch_size, 1)
    retries = check_count("retries", retries)
    given = _dataset(ray, images, batch_size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`ray_remote_args` is deprecated")  # and there is no other way yet
        explained = given.map_batches(
            _Worker,
            fn_constructor_args=(explainer, target, batch_size),
            compute=ray.data.ActorPoolStrategy(size=workers),
            batch_size=batch_size,
            **{**_retrying(given.map_batches, retries), **options},
        )
    try:
        explained.write_parquet(str(folder), mode="overwrite")
    except Exception as error:  # of Ray, which wraps what the workers raise
        raise RuntimeError(_words_failed(error, retries)) from error


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

    if not isinstance(folder, str | os.PathLike):
        raise TypeError(f"`folder` must be a path, that which `explain` wrote to. Received: {shown(folder)}.")
    if "://" not in str(folder) and not _is_folder(folder):
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


def _is_folder(path):
    try:
        return os.path.isdir(path)
    except (OSError, ValueError):  # too long a name, or a null byte
        return False


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


def _words_failed(error, retries):
    cause = getattr(error, "cause", None) or error.__cause__ or error
    return cut(
        f"The data set could not be explained: {type(cause).__name__}: {words_error(cause)}. Where a worker died, it "
        f"was tried {retries} times more (`retries`): give it more memory, or a smaller `batch_size`.",
        399,
    )


def _ray() -> Any:
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pandas") is None:
        raise ImportError('`vis.scale` needs Ray Data, which is not installed: `pip install "keras-vis[scale]"`.')
    import ray.data

    return ray
