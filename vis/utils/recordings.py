"""Rows of numbers that are written as they come, and what says which of them are whole."""

import contextlib
import itertools
import json
import os
import pathlib
import struct
import zlib

import numpy as np

_HEADER = 256  # bytes: room for any number of rows, so that it is written over in place


class ArrayFile:
    """A `.npy` file that grows by rows of float32; at any time it can be opened with those that are whole.

    Args:
        path: The file; it is made if it is not there.
    """

    def __init__(self, path):
        self._path, self._row = path, None
        self._file = open(path, "r+b" if path.exists() else "x+b", buffering=0)

    def begin(self, row):
        """Says what shape a row has."""
        self._row, self._size = tuple(row), 4 * int(np.prod(row, dtype="int64"))

    def write(self, first, rows):
        """Writes rows, beginning at the number of the first."""
        _write_all(self._file, _HEADER + first * self._size, np.ascontiguousarray(rows, "<f4"))

    def read(self, first, last):
        """Returns rows as an array; fewer, if there are fewer."""
        self._file.seek(_HEADER + first * self._size)
        data = _read_all(self._file, (last - first) * self._size)
        count = len(data) // max(self._size, 1)
        return np.frombuffer(data[: count * self._size], "<f4").reshape(count, *self._row)

    def keep(self, count):
        """Says that so many rows are whole; what comes after them is written over."""
        text = repr({"descr": "<f4", "fortran_order": False, "shape": (count, *self._row)})
        length = _HEADER - 10
        _write_all(self._file, 0, b"\x93NUMPY\x01\x00" + struct.pack("<H", length) + f"{text:<{length - 1}}\n".encode())

    def sync(self):
        """Waits until the disk holds what was written."""
        os.fsync(self._file.fileno())

    def cut(self, count):
        """Leaves nothing behind so many rows."""
        self._file.truncate(_HEADER + count * self._size)

    def close(self):
        """Closes the file."""
        self._file.close()

    @staticmethod
    def check():
        """Nothing is needed for it."""

    @staticmethod
    def remove(path):
        """Takes the file away."""
        path.unlink()

    @staticmethod
    def open(path):
        """Returns the rows, read-only."""
        return np.load(path, mmap_mode="r")


class Journal:
    """Lines that say what was done, beside the file in which it was done; a line that is torn was never there.

    While it is open, no other process can open it.

    Args:
        path: The journal's file; it is made if it is not there.

    Attributes:
        entries: The values of the lines, in order.

    Raises:
        BlockingIOError: It is open elsewhere.
    """

    def __init__(self, path):
        self.path = path
        self._file = open(path, "r+b" if path.exists() else "x+b", buffering=0)
        try:
            _lock(self._file)
        except BlockingIOError:
            self._file.close()
            raise
        self.entries, self._ends = [], [0]
        for line in _read_all(self._file, path.stat().st_size).splitlines(keepends=True):
            entry = _entry(line)
            if entry is None:
                break
            self._note(entry, len(line))

    def _note(self, entry, length):
        self.entries.append(entry)
        self._ends.append(self._ends[-1] + length)

    def keep(self, count):
        """Takes away all lines but the first ones."""
        del self.entries[count:], self._ends[count + 1 :]
        self._file.truncate(self._ends[-1])

    def append(self, entry):
        """Adds a line, whose value JSON can hold."""
        text = json.dumps(entry).encode()
        line = b"%08x %s\n" % (zlib.crc32(text), text)
        _write_all(self._file, self._ends[-1], line)
        self._note(entry, len(line))

    def sync(self):
        """Waits until the disk holds what was written."""
        os.fsync(self._file.fileno())

    def close(self):
        """Closes the file."""
        self._file.close()


class Recording:
    """Batches of rows in a file that a journal stands beside, so that a process that is killed loses one at most.

    Args:
        path: Where the rows go.
        kind: What writes them: `ArrayFile` or the like.

    Attributes:
        head: What the first line of the journal says of the run, or `None`: nothing was written yet.
        batches: What the other lines say of each batch: `rows`, first and one beyond the last, and what else was noted.

    Raises:
        FileExistsError: There is a file without a journal.
        BlockingIOError: It is being written elsewhere.
        OSError: The folder cannot be written.
    """

    def __init__(self, path, kind=ArrayFile):
        self._path, self._kind, self._rows = path, kind, None
        beside = pathlib.Path(f"{path}.journal")
        if path.exists() and not beside.exists():
            raise FileExistsError
        self._journal = Journal(beside)

    @property
    def head(self):
        """What the first line says."""
        return self._journal.entries[0] if self._journal.entries else None

    @property
    def batches(self):
        """What the other lines say."""
        return self._journal.entries[1:]

    @property
    def count(self):
        """The number of rows that are whole."""
        return self.batches[-1]["rows"][1] if self.batches else 0

    def check(self, checksum):
        """Keeps the batches up to the first whose rows are not what was written; without any, nothing.

        Args:
            checksum: Function of a list of arrays, whose result was noted of each batch as `checksum`.
        """
        whole = 0
        if self.head is not None and self._path.exists():
            self._open(self.head["row"])
            good = (batch["checksum"] == checksum([self._read(batch)]) for batch in self.batches)
            whole = sum(itertools.takewhile(bool, good))
        self._journal.keep(whole and whole + 1)
        if whole:
            self._rows.keep(self.count)

    def _read(self, batch):
        return self._rows.read(*batch["rows"])

    def _open(self, row):
        self._rows = self._rows or self._kind(self._path)
        self._rows.begin(row)

    def append(self, head, rows, noted):
        """Writes a batch: first its rows, then the line in the journal.

        Args:
            head: What the first line says, if this is the first batch.
            rows: Array `(n, ...)`.
            noted: What the line says besides.

        Raises:
            OSError: There is no room, say. What was written before is whole.
        """
        first, last = self.count, self.count + len(rows)
        if self.head is None:
            self._journal.append({**head, "row": rows.shape[1:]})
            self._open(rows.shape[1:])
        self._rows.write(first, rows)
        self._rows.keep(last)
        self._journal.append({"rows": [first, last], **noted})

    def close(self):
        """Closes the files; where no batch was written, they are taken away."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._journal.close)
            if not self.batches:
                stack.callback(self._journal.path.unlink)
            if self._rows is not None:
                stack.callback(self._close_rows)

    def _close_rows(self):
        with contextlib.ExitStack() as stack:
            stack.callback(self._rows.close)
            self._rows.keep(self.count)
            self._rows.cut(self.count)
            self._rows.sync()
            self._journal.sync()
        if not self.batches:
            self._kind.remove(self._path)


def _write_all(file, position, data):
    """Writes bytes at a position; an unbuffered file may take them in pieces."""
    file.seek(position)
    view = memoryview(data).cast("B")
    while view:
        view = view[file.write(view) :]


def _read_all(file, count):
    """Returns the next bytes, fewer at the end of the file."""
    parts = []
    while count:
        part = file.read(count)
        if not part:
            break
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _entry(line):
    """Returns what a line of a journal says, or `None` if it is torn."""
    mark, _, text = line.partition(b" ")
    if not line.endswith(b"\n") or mark != b"%08x" % zlib.crc32(text[:-1]):
        return None
    return json.loads(text)


def _lock(file):
    """Raises `BlockingIOError` if another process, or another part of this one, holds the file."""
    try:
        import fcntl
    except ImportError:  # on Windows a file cannot be locked like that
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:  # a file system without locks
        pass
