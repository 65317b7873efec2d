r"""Pieces of words, as tokenizers give them, joined to words."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

import numpy as np

from vis.utils.validation import check_numeric, pick, shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

_SPECIAL = re.compile(r"\[[A-Z][A-Z_]*\d*\]|<\|?[^<>\s|]+\|?>")  # [CLS], <s>, <|endoftext|>
_BYTE = re.compile(r"<0x([0-9A-Fa-f]{2})>")  # SentencePiece writes letters that it does not know like this
_WORDPIECE, _SENTENCEPIECE, _BPE, _BPE_END = "##", "\u2581", "\u0120", "</w>"
_REDUCE = {"sum": np.sum, "max": lambda values, axis: _strongest(values, axis)}


def join_pieces(pieces: Sequence[str], attributions: ArrayLike, reduce: str = "sum") -> tuple[list[str], np.ndarray]:
    r"""Returns words and their attributions, out of the pieces that a tokenizer cuts words into.

    What joins the pieces is seen from them: WordPiece marks what goes on, `"##ing"` (BERT); SentencePiece what begins,
    `"\u2581the"` (Llama, Gemma, T5), and so does byte-level BPE, `"\u0120the"` (GPT-2, RoBERTa), whose bytes are made
    letters again; the older BPE marks ends, `"the</w>"` (CLIP). Pieces of no such kind are words. Special tokens such
    as `"[CLS]"`, `"<s>"` or `"<|endoftext|>"` stay apart. Punctuation goes where the tokenizer has it: with the word
    before it in all but WordPiece.

    Args:
        pieces: T pieces, such as `[tokenizer.id_to_token(i) for i in ids]` of keras-hub.
        attributions: `(T,)`, or `(rows, T)` as `vis.attribute_tokens` gives them. Attributions with channels are
            summed over these before.
        reduce: `"sum"` (default) of the pieces' attributions, or the `"max"`: that of the largest strength, with its
            sign.

    Returns:
        The W words, without marks and spaces, and their attributions, float32 `(W,)` or `(rows, W)`.

    Raises:
        ValueError: They are not as many, values are not finite, or there is no such `reduce`.
        TypeError: A piece is no text.

    Examples:
        >>> words, values = join_pieces(["[CLS]", "play", "##ing", "chess"], [0.0, 1.0, 2.0, -1.0])
        >>> words, values.tolist()
        (['[CLS]', 'playing', 'chess'], [0.0, 3.0, -1.0])
        >>> join_pieces(["\u2581the", "\u2581ca", "t"], [1.0, 2.0, 3.0])[0]
        ['the', 'cat']
    """
    together = pick("reduce", reduce, _REDUCE)
    if isinstance(pieces, (str, bytes)) or not hasattr(pieces, "__iter__"):
        raise ValueError(f"`pieces` must be a list of a tokenizer's pieces. Received: {shown(pieces)}.")
    pieces = list(pieces)
    others = [i for i, one in enumerate(pieces) if not isinstance(one, (str, bytes))]
    if others:
        raise TypeError(
            f"`pieces` must be text, one for each token. Received: {shown(pieces[others[0]], 60)} at {others[0]}. Take "
            "`[tokenizer.id_to_token(i) for i in ids]`; `None` among them is an id that the tokenizer does not have."
        )
    pieces = [one.decode("utf-8", "backslashreplace") if isinstance(one, bytes) else str(one) for one in pieces]
    values = check_numeric("attributions", attributions)
    if values.ndim not in (1, 2) or values.shape[-1] != len(pieces) or not pieces:
        raise ValueError(
            f"`attributions` must hold one number for each of {len(pieces)} pieces, (T,) or (rows, T). Received: shape "
            f"{values.shape}. Sum them over channels first: `maps[0].sum(axis=-1)`."
        )
    kind = _kind(pieces)
    starts = [i for i in range(len(pieces)) if i == 0 or _begins(pieces[i - 1], pieces[i], kind)]
    parts = list(zip(starts, [*starts[1:], len(pieces)]))
    words = [_word(pieces[low:high], kind) for low, high in parts]
    return words, np.stack([together(values[..., low:high], axis=-1) for low, high in parts], axis=-1)


def _strongest(values, axis):
    """Returns the values of the largest strength along an axis."""
    return np.take_along_axis(values, np.expand_dims(np.abs(values).argmax(axis), axis), axis).squeeze(axis)


def _kind(pieces):
    """Returns the mark that a tokenizer puts on its pieces, or nothing."""
    marks = {
        _WORDPIECE: any(one.startswith(_WORDPIECE) and len(one) > 2 for one in pieces),
        _SENTENCEPIECE: any(one.startswith(_SENTENCEPIECE) for one in pieces),
        _BPE: any(one.startswith(_BPE) for one in pieces),
        _BPE_END: any(one.endswith(_BPE_END) for one in pieces),
    }
    return next((mark for mark, is_there in marks.items() if is_there), "")


def _is_special(piece):
    return bool(_SPECIAL.fullmatch(piece)) and not _BYTE.fullmatch(piece) and piece != _BPE_END


def _begins(before, piece, kind):
    """Tells whether a piece begins a word."""
    if _is_special(before) or _is_special(piece):
        return True
    if kind == _WORDPIECE:
        return not piece.startswith(_WORDPIECE)
    if kind == _BPE_END:
        return before.endswith(_BPE_END)
    if kind == _BPE:
        return piece[:1] in _SPACES or before[-1:] in _LINES
    return piece.startswith(_SENTENCEPIECE) if kind else True


_SPACES, _LINES = "\u0120\u010a\u0109", "\u010a"  # how byte-level BPE writes space, line feed and tab


def _word(pieces, kind):
    """Returns the word that pieces make."""
    if len(pieces) == 1 and _is_special(pieces[0]):
        return pieces[0]
    if kind == _WORDPIECE:
        return "".join(one.removeprefix(_WORDPIECE) for one in pieces)
    if kind == _BPE_END:
        return "".join(one.removesuffix(_BPE_END) for one in pieces)
    if kind == _BPE:
        return _from_letters("".join(pieces)).strip(" ") or " "
    return _with_bytes("".join(pieces)).replace(_SENTENCEPIECE, " ").strip(" ") or " " if kind else pieces[0]


def _with_bytes(text):
    """Returns text with runs of `<0xE2>` as the letters that these bytes are."""

    def letters(match):
        return bytes(int(one, 16) for one in _BYTE.findall(match.group())).decode("utf-8", "backslashreplace")

    return re.sub(f"(?:{_BYTE.pattern})+", letters, text)


def _from_letters(text):
    """Returns the text behind the letters that byte-level BPE writes bytes as."""
    table = _bytes_of_letters()
    if any(letter not in table for letter in text):
        return text.replace(_BPE, " ")
    return bytes(table[letter] for letter in text).decode("utf-8", "backslashreplace")


@functools.cache
def _bytes_of_letters():
    """Returns which byte each letter of byte-level BPE stands for: those that print, themselves, others from 256 on."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printing]
    return {**{chr(byte): byte for byte in printing}, **{chr(256 + i): byte for i, byte in enumerate(others)}}
