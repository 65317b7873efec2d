"""Pieces of words: which marks each kind of tokenizer has, and what becomes of their attributions."""

import numpy as np
import pytest

from vis.utils.tokens import join_pieces

KINDS = {
    "WordPiece": (
        ["[CLS]", "un", "##believ", "##able", ",", "don", "'", "t", "[SEP]", "[PAD]"],
        ["[CLS]", "unbelievable", ",", "don", "'", "t", "[SEP]", "[PAD]"],
    ),
    "SentencePiece": (
        ["<s>", "\u2581un", "believ", "able", ",", "\u2581he", "\u2581said", "</s>", "<pad>"],
        ["<s>", "unbelievable,", "he", "said", "</s>", "<pad>"],
    ),
    "a first piece without a mark": (["un", "able", "\u2581to", "\u2581", "go"], ["unable", "to", "go"]),
    "Gemma's turns": (
        ["<start_of_turn>", "user", "\u2581hi", "<end_of_turn>"],
        ["<start_of_turn>", "user", "hi", "<end_of_turn>"],
    ),
    "bytes": (
        ["\u2581a", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "\u2581b", "<0xC3>"],
        ["a\U0001f600", "b\\xc3"],
    ),
    "byte-level BPE": (
        ["un", "believ", "able", "\u0120caf", "\u00c3\u00a9", "!", "\u010a", "So", "<|endoftext|>"],
        ["unbelievable", "caf\u00e9!", "\n", "So", "<|endoftext|>"],
    ),
    "letters in halves": (["\u0120\u00f0", "\u0141", "\u013a\u0122", "\u0120a"], ["\U0001f600", "a"]),
    "the older BPE": (
        ["<|startoftext|>", "un", "able</w>", "to</w>", "go", "!</w>"],
        ["<|startoftext|>", "unable", "to", "go!"],
    ),
    "words": (["not", "##", "good", "<3"], ["not", "##", "good", "<3"]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_become_words(kind):
    pieces, expected = KINDS[kind]
    values = np.arange(len(pieces), dtype="float32")
    words, sums = join_pieces(pieces, values)
    assert words == expected
    assert sums.shape == (len(words),) and sums.dtype == np.float32
    assert sums.sum() == values.sum()  # nothing is lost


def test_attributions_of_pieces_are_summed_or_the_strongest_is_taken():
    pieces = ["\u2581a", "\u2581b", "c", "d", "\u2581e"]
    matrix = np.array([[1.0, 2.0, -5.0, 1.0, 0.5], [0.0, 1.0, 2.0, 3.0, -1.0]])
    words, sums = join_pieces(pieces, matrix)
    assert words == ["a", "bcd", "e"]
    np.testing.assert_array_equal(sums, [[1, -2, 0.5], [0, 6, -1]])
    np.testing.assert_array_equal(join_pieces(pieces, matrix, "max")[1], [[1, -5, 0.5], [0, 3, -1]])
    np.testing.assert_array_equal(join_pieces(pieces, matrix[0], reduce="max")[1], [1, -5, 0.5])
    assert join_pieces([b"\xe2\x96\x81a", b"b"], [1.0, 2.0])[0] == ["ab"]


@pytest.mark.parametrize(
    "arguments, error, words",
    [
        ((["a", "b"], [1.0]), ValueError, r"each of 2 pieces, \(T,\) or \(rows, T\). Received: shape \(1,\)"),
        ((["a"], np.zeros((1, 1, 1))), ValueError, "Sum them over channels first"),
        (([], []), ValueError, "each of 0 pieces"),
        (("ab", [1.0, 2.0]), ValueError, "`pieces` must be a list"),
        ((3, [1.0]), ValueError, "`pieces` must be a list"),
        ((["a"], [np.nan]), ValueError, "finite"),
        ((["a"], [1.0], "mean"), ValueError, "Unknown reduce: 'mean'"),
        ((["a"], [1.0], 3), TypeError, "`reduce` must be a name"),
    ],
)
def test_pieces_and_attributions_that_do_not_fit(arguments, error, words):
    with pytest.raises(error, match=words) as caught:
        join_pieces(*arguments)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("pieces", [["a", None], ["a", 7], ("a", ["b"])])
def test_pieces_that_are_no_text_are_refused(pieces):
    with pytest.raises(TypeError, match="`pieces` must be text.*Received: .* at 1. Take .*id_to_token") as caught:
        join_pieces(pieces, [1.0, 2.0])
    assert len(str(caught.value)) < 400
    assert join_pieces(np.array(["a", "##b"]), [1.0, 2.0])[0] == join_pieces([b"a", b"##b"], [1.0, 2.0])[0] == ["ab"]
