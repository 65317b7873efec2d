"""The example of the network that writes: its text, its causality, and what is told of its letters."""

import importlib
import pathlib
import sys

import keras
import numpy as np
import pytest
from conftest import value_of

import vis

EXAMPLE = pathlib.Path(__file__).resolve().parents[1] / "examples" / "characters"
SCRIPTS = ("network", "what_it_reads")


@pytest.fixture(scope="module")
def scripts():
    """The scripts; other examples have a `network.py` too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        for name in SCRIPTS:
            patch.delitem(sys.modules, name, raising=False)
        yield [importlib.import_module(name) for name in SCRIPTS]
        for name in SCRIPTS:
            sys.modules.pop(name)


@pytest.fixture(scope="module")
def example(scripts):
    return scripts[0]


@pytest.fixture(scope="module")
def model(example):
    keras.utils.set_random_seed(0)
    return example.character_model()


def test_letters_are_numbers_and_others_are_left_out(example):
    assert len(example.LETTERS) == len(set(example.LETTERS)) == 96
    assert example.decode(example.encode("A line.\nAnother\t, café")) == "A line.\nAnother, caf"
    assert example.encode("\n0").tolist() == [0, 1]


def test_pages_become_prose(example):
    page = (
        "# A heading\n\nWords **that**\ngo [on](https://x.y) here.\n\n* an entry\n  of a list\n* another\n\n"
        "| a | table |\n\n```python\ncode\n```\n\n![A picture](a.png)\n"
    )
    assert example.prose_of(page) == "Words that go on here.\nan entry of a list\nanother\nA picture"


def test_the_text_is_the_documentation_and_a_tenth_is_kept(example):
    training, validation = example.load_text()
    assert len(training) > 100_000 and 0.08 < len(validation) / len(training) < 0.12
    assert "KERAS_BACKEND" in example.decode(training)
    assert example.decode(validation[:200]) not in example.decode(training)


def test_pieces_are_followed_by_themselves_one_letter_later(example):
    letters, later = example.pieces_of(np.arange(1_000), 5, np.random.default_rng(0))
    assert letters.shape == later.shape == (5, 128)
    assert (later == letters + 1).all() and len(set(letters[:, 0])) == 5


def test_nothing_is_seen_of_what_comes_after(example, model):
    one = np.random.default_rng(0).integers(0, 96, (1, 128))
    other = one.copy()
    other[:, 60:] = 7
    before, after = value_of(model(one)), value_of(model(other))
    np.testing.assert_allclose(before[:, :60], after[:, :60], atol=1e-5)
    assert np.abs(before[:, 60] - after[:, 60]).max() > 1e-4


class Alphabet:
    """Expects the letter that follows in the alphabet; remembers how much it saw."""

    def predict_on_batch(self, letters):
        self.seen = letters
        return np.eye(96)[(letters + 1) % 96] * 50


def test_texts_go_on_by_the_likeliest_letter_or_by_chance(example):
    network = Alphabet()
    assert example.generate(network, "ab", 5) == "abcdefg"
    assert network.seen.shape == (1, 128) and example.decode(network.seen[0, :6]) == "abcdef"
    long = example.generate(network, "x" * 200, 2)
    assert long == "x" * 200 + "yz"
    by_chance = {example.generate(network, "a", 20, temperature=30, seed=seed) for seed in (0, 0, 1)}
    assert len(by_chance) == 2


def test_the_matrix_has_the_new_letters_down_and_all_across(scripts):
    figure = scripts[1].draw(np.array([[1.0, -2.0, 0, 0], [0.5, 0, 4.0, 0]]), "LRP", ["a", " ", "\n", "b"])
    axis = figure.axes[0]
    assert [label.get_text() for label in axis.get_xticklabels()] == ["a", "␣", "¶", "b"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["¶", "b"]
    assert axis.images[0].get_array().mask.tolist() == [[False, False, True, True], [False, False, False, True]]
    assert figure.get_suptitle() == "LRP"


def test_letters_are_explained_by_those_before_them(scripts, model):
    example, script = scripts
    ids = example.encode("the same word")
    for explainer in script.explainers(model).values():
        matrix = vis.attribute_tokens(explainer, ids, prompt_length=10)
        assert matrix.shape == (3, 13)
        assert [np.flatnonzero(row).tolist() for row in matrix] == [list(range(place)) for place in (10, 11, 12)]


def test_a_prompt_that_is_too_long_is_said(scripts):
    with pytest.raises(SystemExit, match="from 1 to 116 letters"):
        scripts[1].letters("x" * 120, quick=True)


@pytest.mark.slow
def test_it_learns(example, capsys):
    _, losses = example.train(steps=40)
    assert max(losses) < 3.3 < np.log(96)
    assert "loss" in capsys.readouterr().out


@pytest.mark.slow
def test_the_script_writes_its_picture(scripts, tmp_path):
    scripts[1].main(["--quick", "--output", str(tmp_path)])
    assert [path.name for path in tmp_path.iterdir()] == ["reads.png"]


@pytest.mark.slow
def test_a_model_of_keras_hub_is_explained(scripts, tmp_path, monkeypatch, capsys):
    hub = pytest.importorskip("keras_hub").models
    letters = ["<|endoftext|>", *map(chr, range(33, 127)), "Ġ", "Ċ", "th", "Ġth"]
    tokenizer = hub.GPT2Tokenizer({letter: i for i, letter in enumerate(letters)}, ["t h", "Ġ th"])
    backbone = hub.GPT2Backbone(len(letters), 2, 2, 16, 32, max_sequence_length=32)
    writer = hub.GPT2CausalLM(backbone, hub.GPT2CausalLMPreprocessor(tokenizer, sequence_length=32))
    monkeypatch.setattr(writer, "generate", lambda prompt, max_length: prompt + " the")
    monkeypatch.setattr(hub.CausalLM, "from_preset", lambda name: writer)
    scripts[1].main(["--quick", "--preset", "gpt2", "--prompt", "words", "--output", str(tmp_path)])
    assert "it wrote: 'words the'" in capsys.readouterr().out
    assert (tmp_path / "reads.png").exists()
