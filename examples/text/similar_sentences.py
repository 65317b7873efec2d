"""Which words make two sentences similar? Five methods, side by side.

A sentence encoder gives each sentence a vector; the cosine of two vectors says how similar it takes the sentences to
be. Each sentence is explained by the vector of the other one: red words raise the cosine, blue words lower it. Writes
`similar.html`, a page with all pairs, and `similar.png`, the first two of them, into `output/`; that takes a minute.

Every method has its own scale, so compare words within a line, not between lines. Attention relevance has no sign.
"""

import argparse
import html
import pathlib

import numpy as np
from matplotlib.figure import Figure
from network import MASK, PAD, WordPieces, sentence_encoder

import vis
from vis.utils.tokens import join_pieces

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
PAIRS = (
    ("A small dog chased the ball across the park.", "The puppy ran after a toy on the grass."),
    ("The bank raised its interest rates again this month.", "We sat on the bank of the river and watched boats."),
    ("How do I get my money back for a broken phone?", "The shop refunds customers whose devices do not work."),
    ("She plays the violin in an orchestra.", "He has never learned to play any instrument."),
)
STYLE = """
body {max-width: 62rem; margin: 2rem auto; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif; color: #222}
h2 {margin: 2.5rem 0 .5rem; font-size: 1.1rem}
.row {display: grid; grid-template-columns: 12rem 1fr; gap: .2rem 1rem; padding: .5rem 0; border-top: 1px solid #ddd}
.row p {margin: 0; line-height: 1.9}
@media (max-width: 40rem) {.row {grid-template-columns: 1fr}}
"""


def explainers(model):
    """Returns a dict from names to the explainers; all tell of the pieces of a sentence."""
    return {
        "gradient × input": vis.GradientTimesInput(model, input_layer="tokens"),
        "integrated gradients": vis.IntegratedGradients(model, baseline=PAD, steps=50, input_layer="tokens"),
        "occlusion": vis.Occlusion(model, patch=1, baseline=MASK),
        "attention relevance": vis.AttentionRelevance(model),
        "LRP": vis.LRP(model, "attention", input_layer="tokens"),
    }


def explain(model, encoded, vectors):
    """Returns a dict from names of methods to values `(N, T)` of the pieces.

    Args:
        model: The network.
        encoded: What it takes, of N sentences.
        vectors: Of the sentences that they are compared with, `(N, 384)`.
    """
    target = vis.targets.Similarity(vectors)
    found = {name: explainer(encoded, target) for name, explainer in explainers(model).items()}
    return {name: values if values.ndim == 2 else values.sum(axis=-1) for name, values in found.items()}


def in_words(pieces, values):
    """Returns words and the sums of their pieces' values, `(W,)` or `(rows, W)`, without special tokens."""
    words, values = join_pieces(pieces, values)
    kept = [i for i, word in enumerate(words) if word not in ("[CLS]", "[SEP]", "[PAD]")]
    return [words[i] for i in kept], values[..., kept]


def lines_of(model, tokenizer, sentences):
    """Yields for each sentence its words, a dict from methods to their values, and the cosine with its partner.

    Args:
        model: The network.
        tokenizer: Its `WordPieces`.
        sentences: Each two in turn are a pair.
    """
    encoded = tokenizer.encode(sentences)
    vectors = model.predict(encoded, verbose=0)
    partners = vectors.reshape(-1, 2, vectors.shape[1])[:, ::-1].reshape(vectors.shape)
    found = explain(model, encoded, partners)
    for i, ids in enumerate(encoded["token_ids"]):
        pieces = tokenizer.pieces(ids)
        words, values = in_words(pieces, np.stack([one[i] for one in found.values()]))
        yield words, dict(zip(found, values)), float(vectors[i] @ partners[i])


def page(lines):
    """Returns a page of HTML that needs no other file.

    Args:
        lines: List of what `lines_of` yields.
    """
    parts = []
    for one, other in zip(lines[::2], lines[1::2]):
        parts.append(f"<h2>Cosine {one[2]:.2f}</h2>")
        for name in one[1]:
            shown = "".join(
                f"<p>{vis.plotting.show_text(words, values[name])}</p>" for words, values, _ in (one, other)
            )
            parts.append(f'<div class="row"><b>{html.escape(name)}</b><div>{shown}</div></div>')
    words = "Red words make the two sentences more similar for the network, blue words less."
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>Similar sentences</title><style>{STYLE}</style><h1>Similar sentences</h1><p>{words}</p>"
        f"{''.join(parts)}</html>\n"
    )


def draw(lines):
    """Returns a figure with a panel for each sentence: methods down, words across.

    Args:
        lines: List of what `lines_of` yields.
    """
    figure = Figure(figsize=(9, 2.1 * len(lines)), layout="constrained")
    for axis, (words, values, cosine) in zip(figure.subplots(len(lines), 1, squeeze=False)[:, 0], lines):
        table = np.stack([own / (np.abs(own).max() or 1) for own in values.values()])
        axis.imshow(table, cmap="RdBu_r", vmin=-1, vmax=1, aspect="auto")
        axis.set_xticks(range(len(words)), words, fontsize=10)
        axis.set_yticks(range(len(values)), list(values), fontsize=9)
        axis.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
        axis.set_xticks(np.arange(len(words) + 1) - 0.5, minor=True)
        axis.set_yticks(np.arange(len(values) + 1) - 0.5, minor=True)
        axis.grid(which="minor", color="white", linewidth=2)
        axis.tick_params(which="minor", length=0)
        axis.spines[:].set_visible(False)
        axis.set_ylabel(f"cosine {cosine:.2f}", fontsize=9)
    return figure


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one pair")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for the page and the picture")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    sentences = [sentence for pair in (PAIRS[:1] if options.quick else PAIRS) for sentence in pair]
    lines = list(lines_of(sentence_encoder(), WordPieces(), sentences))
    for words, values, cosine in lines:
        print(f"{cosine:.2f}  {' '.join(words)}")
        for name, own in values.items():
            best = ", ".join(f"{words[i]} {own[i]:+.2g}" for i in np.argsort(-own)[:3])
            print(f"      {name:21s} {best}")
    (options.output / "similar.html").write_text(page(lines), encoding="utf-8")
    draw(lines[:4]).savefig(options.output / "similar.png", dpi=110)
    print(f"wrote {options.output / 'similar.html'} and {options.output / 'similar.png'}")


if __name__ == "__main__":
    main()
