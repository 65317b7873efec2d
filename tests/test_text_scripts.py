"""The scripts around the sentence encoder: words, orders, areas and heads are what they are called."""

import importlib
import pathlib
import sys

import numpy as np
import pytest

EXAMPLE = pathlib.Path(__file__).resolve().parents[1] / "examples" / "text"
SCRIPTS = ("network", "similar_sentences", "attention_heads", "deletion")


@pytest.fixture(scope="module")
def scripts():
    """The scripts by their names; other examples have a `network.py` too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        for name in SCRIPTS:
            patch.delitem(sys.modules, name, raising=False)
        yield {name: importlib.import_module(name) for name in SCRIPTS}
        for name in SCRIPTS:
            sys.modules.pop(name)


@pytest.fixture(scope="module")
def tokenizer(scripts):
    return scripts["network"].WordPieces()


@pytest.fixture(scope="module")
def model(scripts):
    return scripts["network"].sentence_encoder()


def test_pieces_become_words_whose_values_are_sums(scripts):
    pieces = ["[CLS]", "un", "##believ", "##ably", "good", "[SEP]", "[PAD]"]
    words, values = scripts["similar_sentences"].in_words(pieces, np.array([9.0, 1, 2, -4, 5, 9, 9]))
    assert words == ["unbelievably", "good"] and values.tolist() == [-1, 5]


def lines():
    values = {"one": np.array([1.0, -2.0]), "other": np.array([0.0, 0.5])}
    return [(["a", "<b>"], values, 0.25), (["c", "d"], values, 0.25)]


def test_the_page_needs_no_other_file_and_writes_words_as_they_are(scripts):
    page = scripts["similar_sentences"].page(lines())
    assert page.count('<div class="row">') == 2 and "Cosine 0.25" in page
    assert "&lt;b&gt;" in page and "<b>b" not in page
    assert "src=" not in page and "href=" not in page


def test_the_figure_has_a_panel_for_each_sentence_scaled_line_by_line(scripts):
    figure = scripts["similar_sentences"].draw(lines())
    first, second = figure.axes
    assert [label.get_text() for label in second.get_xticklabels()] == ["c", "d"]
    assert first.images[0].get_array().tolist() == [[0.5, -1], [0, 1]]


def test_words_are_hidden_in_their_order(scripts, tokenizer):
    encoded = tokenizer.encode(["the embeddings grow"])
    pieces = tokenizer.pieces(encoded["token_ids"][0])
    words, parts = scripts["similar_sentences"].in_words(pieces, np.eye(len(pieces)))
    assert words == ["the", "embeddings", "grow"]
    copies = scripts["deletion"].masked(encoded, parts, [1, 2, 0])
    hidden = copies["token_ids"] == scripts["network"].MASK
    assert [np.flatnonzero(row).tolist() for row in hidden] == [[], [2, 3, 4, 5], [2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6]]
    assert copies["padding_mask"].shape == copies["token_ids"].shape and copies["padding_mask"].all()
    assert not (encoded["token_ids"] == scripts["network"].MASK).any()


def test_areas_intervals_and_the_table(scripts):
    deletion = scripts["deletion"]
    falling = np.stack([1 - deletion.POINTS, 0.5 * (1 - deletion.POINTS)])
    np.testing.assert_allclose(deletion.areas(falling), [0.5, 0.25])
    mean, low, high = deletion.interval(np.array([0.0, 1.0] * 50))
    assert mean == 0.5 and abs(low - 0.4) < 0.02 and abs(high - 0.6) < 0.02
    rows = deletion.table({"worse": falling, "better": falling / 2, deletion.CHANCE: falling}).splitlines()
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| better", "| worse", "| by chance"]
    assert rows[2].startswith("| better | 0.188 (") and "| 0.188 (" in rows[2][10:]


def test_the_pairs_are_sentences_of_everyday_length_and_all_different(scripts):
    deletion = scripts["deletion"]
    assert len(deletion.PARAPHRASES) == len(deletion.RELATED) == 15
    pairs = deletion.PARAPHRASES + deletion.RELATED
    assert len(set(pairs)) == 30 and all(8 <= len(one.split()) <= 20 for pair in pairs for one in pair)


def test_heads_are_told_by_what_they_look_at(scripts):
    heads = scripts["attention_heads"]
    pieces = ["[CLS]", "the", "cat", "the", "[SEP]"]
    uniform = np.full((5, 5), 0.2)
    before = np.eye(5, k=-1)
    same = np.where(uniform > 0, 0.1, 0)
    same[1, 3] = same[3, 1] = 0.6
    weights = np.stack([[uniform, before], [same, uniform]])
    told = {name: (block, head, share) for name, block, head, share in heads.most_telling(pieces, weights)}
    assert told["the token before"] == (0, 1, 1.0)
    assert told["the same word elsewhere"][:2] == (1, 0) and abs(told["the same word elsewhere"][2] - 0.6) < 1e-9
    names = [row[0] for row in heads.most_telling(["a", "b"], weights[..., :2, :2])]
    assert "the same word elsewhere" not in names and len(names) == 3


def test_real_heads_look_at_the_token_before(scripts, model, tokenizer):
    heads = scripts["attention_heads"]
    pieces, weights = heads.heads_of(model, tokenizer, heads.SENTENCE)
    assert weights.shape == (6, 12, len(pieces), len(pieces))
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
    assert next(heads.most_telling(pieces, weights))[:3] == ("the token before", 0, 2)
    figure = heads.draw_all(pieces, weights)
    assert len(figure.axes) == 72
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == pieces


@pytest.mark.slow
def test_methods_find_the_words_that_make_sentences_similar(scripts, model, tokenizer):
    deletion = scripts["deletion"]
    found = deletion.measure(model, tokenizer, deletion.PARAPHRASES[:4], chances=3)
    areas = {name: deletion.areas(curves).mean() for name, curves in found.items()}
    for name in ("integrated gradients", "occlusion", "attention relevance", "LRP"):
        assert areas[name] < areas[deletion.CHANCE] - 0.02, areas
    starts = [curves[:, 0] for curves in found.values()]
    np.testing.assert_allclose(starts, np.broadcast_to(starts[0], np.shape(starts)), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "files"),
    [
        ("similar_sentences", ["similar.html", "similar.png"]),
        ("attention_heads", ["heads.png", "telling_heads.png"]),
        ("deletion", ["deletion.md", "deletion.png"]),
    ],
)
def test_the_scripts_write_their_files(scripts, tmp_path, script, files):
    scripts[script].main(["--quick", "--output", str(tmp_path)])
    assert sorted(path.name for path in tmp_path.iterdir()) == files
