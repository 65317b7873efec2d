"""Files that are written whole or not at all."""

import contextlib
import os
import pathlib
import secrets
import shutil
import struct


@contextlib.contextmanager
def whole_file(path):
    """Gives a temporary path, whose file takes the place of `path` at the end.

    A full disk, an exception or Ctrl-C leave what was at `path` before, and nothing beside it. A link stays a
    link: the file that it points to is replaced.

    Args:
        path: Where the file goes, in a folder that exists.

    Returns:
        A context with a `pathlib.Path` in the same folder, of the same suffix.

    Raises:
        OSError: The file cannot be written.

    Examples:
        >>> import tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "words.txt"
        >>> with whole_file(path) as temporary:
        ...     _ = temporary.write_text("all of them")
        >>> path.read_text(), len(list(path.parent.iterdir()))
        ('all of them', 1)
    """
    target = pathlib.Path(os.path.realpath(path))
    if target.exists() and not (target.is_file() or target.is_dir()):
        yield target  # a device or a pipe holds no file that could be torn
        return
    temporary = _made_beside(target, path)
    try:
        yield temporary
        if target.exists():
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path):
    """Raises `OSError` unless a file can be written; asked before the work, not after it."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`path` must be that of a file. Received: {path!r} ({type(path).__name__}).")
    target = pathlib.Path(os.path.realpath(path))
    if not target.exists() or target.is_dir() or target.is_file():
        _made_beside(target, path).unlink()


def _made_beside(target, path):
    """Makes an empty file in the folder of `target`, and returns its path."""
    temporary = target.with_name(f".vis-{secrets.token_hex(8)}{target.suffix}")
    try:
        if target.exists():
            target.open("ab").close()  # a file that may not be written is not replaced either
        temporary.open("xb").close()
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error  # of the subclass that the number means
    return temporary


def gif_frame(array):
    """Returns a uint8 picture `(H, W)` or `(H, W, 3)` as a Pillow image of one byte a pixel."""
    from PIL import Image  # only where pictures are made

    image = Image.fromarray(array)
    return image if image.mode == "L" else image.convert("P", palette=Image.Palette.ADAPTIVE)


def write_gif(path, frames, milliseconds):
    """Writes pictures into a GIF that repeats for ever, whole or not at all.

    Pictures that are the same as the one before become one that is shown longer.

    Args:
        path: The file.
        frames: Iterable of Pillow images, at least one. They are taken one at a time; a byte a pixel is kept of each.
        milliseconds: How long each is shown, a multiple of 10.

    Raises:
        OSError: The file cannot be written.
        ValueError: The same picture is shown longer than a GIF can hold.
    """
    images = iter(frames)
    first = next(images)
    with whole_file(path) as temporary:
        try:
            first.save(temporary, "GIF", save_all=True, append_images=images, duration=milliseconds, loop=0)
        except (struct.error, OverflowError) as error:  # a time that does not fit into 16 bits
            raise ValueError(
                "A GIF can show one picture for 655 seconds. Received: pictures that are the same for longer. Give "
                "fewer of them, or more a second."
            ) from error
