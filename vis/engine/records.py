"""Streams into files: what is there is kept, compared with what comes, and gone on with."""

import contextlib
import os
import pathlib
from concurrent import futures

import numpy as np

from vis.engine.runs import checksum, difference
from vis.engine.streams import batches, is_indexed
from vis.utils.folders import ZarrFolder
from vis.utils.recordings import ArrayFile, Recording
from vis.utils.validation import cut, printable, shown

_KINDS = {".npy": ArrayFile, ".zarr": ZarrFolder}


class Record:
    """The maps of a data set in a file, written batch by batch.

    Args:
        path: Where the maps go, as the user gave it.
        run: What decides the maps, see `vis.engine.runs.run_of`.

    Raises:
        TypeError, ValueError: The path is none, or holds something else.
        ImportError: It needs a package that is not installed.
    """

    def __init__(self, path, run):
        self._path, self._kind = _checked(path)
        self._run, self._seen, self._row = run, 0, None
        self._recording = _opened(self._path, self._kind)
        try:
            self._recording.check(checksum)
            self._check_run(run)
        except BaseException:
            self._recording.close()
            raise
        self._finished = len(self._recording.batches)
        if self._finished:
            self._row = tuple(self._recording.head["row"])

    def _check_run(self, run):
        found = difference(self._recording.head["run"], run) if self._recording.head else None
        if found is not None:
            raise ValueError(f"`into` holds the maps of another run. Received: {found}. {_anew(self._path)}")

    def write(self, dataset, read, explain, verbose=0, prefetch=2):
        """Explains a data set into the file, but for what is there.

        Args:
            dataset: See `vis.engine.streams.batches`.
            read: Function of a batch: `(arguments of explain, [array, ...])`; the arrays are what the maps are of.
            explain: Function that returns the maps of a batch; its `usual` is set to the size of the largest that is
                there, so that it goes on as if it had made that itself.
            verbose: Whether a progress bar is shown.
            prefetch: How many batches are read ahead.

        Returns:
            The maps `(N, ...)`, read-only, on the disk.

        Raises:
            ValueError: A batch is wrong, or not what it was.
            OSError: There is no room, say.
        """
        explain.usual = max((last - first for first, last in self._rows()), default=0)
        try:
            self._write(dataset, self._function(read, explain), verbose, prefetch)
        except Exception as error:
            if not isinstance(error, OSError):  # which says so itself
                error.add_note(self._words_kept())
            raise
        finally:
            self._recording.close()
        return self._kind.open(self._path)

    def _rows(self):
        return [batch["rows"] for batch in self._recording.batches]

    def _write(self, dataset, function, verbose, prefetch):
        passed = range(1, self._finished - 1) if is_indexed(dataset) else range(0)
        results, pending = batches(dataset, function, verbose, prefetch, passed), None
        with contextlib.closing(results), futures.ThreadPoolExecutor(1, "vis-write") as pool:
            for noted, maps in results:  # the network works on the next ones while the disk does on these
                if pending is not None:
                    pending.result()
                pending = pool.submit(self._append, maps, noted) if maps is not None else None
            if pending is not None:
                pending.result()
        if self._seen < self._finished:
            raise ValueError(
                f"`into` holds the maps of {self._finished} batches. Received: a data set of {self._seen}. Give that "
                f"whose maps it holds. {_anew(self._path)}"
            )
        if not self._seen:
            raise ValueError("`dataset` must hold at least one batch. Received: none.")

    def _function(self, read, explain):
        def function(number, item):
            arguments, arrays = read(item)
            self._seen, noted = number + 1, {"samples": checksum(arrays)}
            if number < self._finished:
                return self._check_batch(number, noted), None
            maps = explain(*arguments)
            self._check_maps(maps)
            return noted, maps

        return function

    def _check_batch(self, number, noted):
        if self._recording.batches[number]["samples"] != noted["samples"]:
            raise ValueError(
                f"it is not the batch whose maps `into` holds. A data set that is shuffled, changed at random, or cut "
                f"into other batches cannot be gone on with. {_anew(self._path)}"
            )

    def _check_maps(self, maps):
        if not isinstance(maps, np.ndarray):
            raise ValueError(
                f"`into` takes one array of maps. Received: {type(maps).__name__} of {len(maps)}, one for each input "
                "of the model. Write the batches of `explainer.stream(dataset)` yourself."
            )
        if self._row is not None and maps.shape[1:] != self._row:
            raise ValueError(
                f"`into` takes maps of one shape. Received: {maps.shape[1:]} after {self._row}. Make the inputs of one "
                "size, or write the batches of `explainer.stream(dataset)` yourself."
            )
        self._row = maps.shape[1:]

    def _append(self, maps, noted):
        try:
            self._recording.append({"run": self._run}, maps, {**noted, "checksum": checksum([maps])})
        except OSError as error:
            words = (
                f"Batch {len(self._recording.batches)} could not be written: {cut(error.strerror or str(error), 100)}"
            )
            raise OSError(error.errno, f"{words}. {self._words_kept()}", str(self._path)) from error

    def _words_kept(self):
        if not self._recording.count:
            return "Nothing was written."
        return (
            f"The maps of {self._recording.count} samples are kept in {_short(self._path)}: make room or mend what is "
            "wrong, and call again with the same arguments to go on."
        )


def _checked(path):
    """Returns `(path, kind)` of what the user gave as `into`."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"`into` must be a path. Received: {shown(path)} ({type(path).__name__}).")
    path = pathlib.Path(path)
    kind = _KINDS.get(path.suffix)
    if kind is None:
        raise ValueError(
            f"`into` must be the path of a `.npy` file or of a `.zarr` folder. Received: {_short(path)}. Call it "
            f"{_short(path.with_suffix('.npy')) if path.name else 'maps.npy'}, say."
        )
    if not path.parent.is_dir():
        raise ValueError(f"`into` must be in a folder that is there. Received: {_short(path)}. Make its folder first.")
    kind.check()
    return path, kind


def _opened(path, kind):
    try:
        return Recording(path, kind)
    except FileExistsError as error:
        raise ValueError(
            f"`into` must be a new path, or one that `stream` has written, with its journal beside it. Received: "
            f"{_short(path)}, without a journal. Choose another path, or delete it."
        ) from error
    except BlockingIOError as error:
        raise ValueError(
            f"`into` is being written by another stream. Received: {_short(path)}. Wait for it, or choose another path."
        ) from error


def _anew(path):
    return f"Choose another path, or delete {_short(path)} and its `.journal` to begin anew."


def _short(path):
    text = printable(path)
    return repr(text if len(text) <= 60 else f"...{text[-57:]}")
