"""Rows of numbers in a folder of Zarr."""

import importlib.util
import pathlib
import shutil

import numpy as np


class ZarrFolder:
    """A Zarr array that grows by rows of float32, as `vis.utils.recordings.ArrayFile` does.

    Args:
        path: The folder; it is made with the first rows.
    """

    def __init__(self, path):
        self._path, self._array, self._row = path, None, None

    @staticmethod
    def check():
        """Raises `ImportError` unless Zarr is installed."""
        if importlib.util.find_spec("zarr") is None:
            raise ImportError(
                'A `.zarr` folder needs Zarr, which is not installed: `pip install "zarr>=3"`. Or let `into` end in '
                "`.npy`, which needs nothing."
            )

    def begin(self, row):
        """Says what shape a row has."""
        self._row = tuple(row)
        self._array = _array(self._path, "r+") if (self._path / "zarr.json").exists() else None

    def write(self, first, rows):
        """Writes rows, beginning at the number of the first; the first ones ever say how many make a chunk."""
        import zarr

        if self._array is None or first == 0:
            options = {"shape": (0, *self._row), "chunks": (len(rows), *self._row), "dtype": "float32"}
            self._array = zarr.create_array(str(self._path), overwrite=True, fill_value=0.0, **options)
        self._array.resize((first + len(rows), *self._row))
        self._array[first:] = rows

    def read(self, first, last):
        """Returns rows as an array; fewer, if there are fewer, and none if a file of them is torn."""
        try:
            return self._array[first:last]
        except Exception:  # of whatever packed the numbers
            return np.empty((0, *self._row), "float32")

    def keep(self, count):
        """Says that so many rows are whole."""

    def sync(self):
        """Does nothing: what did not reach the disk is noticed by its checksum."""

    def cut(self, count):
        """Leaves nothing behind so many rows."""
        if self._array is not None:
            self._array.resize((count, *self._row))

    def close(self):
        """Lets go of the folder."""
        self._array = None

    @staticmethod
    def remove(path):
        """Takes the folder away."""
        shutil.rmtree(path)

    @staticmethod
    def open(path):
        """Returns the rows, read-only."""
        return _array(pathlib.Path(path), "r")


def _array(path, mode):
    import zarr

    return zarr.open_array(str(path), mode=mode)
