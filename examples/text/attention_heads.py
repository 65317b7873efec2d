"""All heads of a sentence encoder on one sentence: who attends to whom.

Writes two pictures into `output/`, in seconds: `heads.png`, the attention of all 12 heads in all 6 blocks, and
`telling_heads.png`, those that do one thing most clearly, larger. In each picture a row is a token that looks, and a
column a token that it looks at; dark is much. Each row sums to 1.

What a head attends to says where information can come from, not what it does for the sentence vector:
`similar_sentences.py` asks that.
"""

import argparse
import pathlib

import numpy as np
from matplotlib.figure import Figure
from network import WordPieces, sentence_encoder

import vis

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
SENTENCE = "The trophy did not fit into the suitcase because it was too big."


def heads_of(model, tokenizer, sentence):
    """Returns the pieces of a sentence, and the weights of all heads, `(blocks, heads, T, T)`."""
    encoded = tokenizer.encode([sentence])
    maps = vis.attention_maps(model, encoded)
    return tokenizer.pieces(encoded["token_ids"][0]), np.stack([one[0] for one in maps.values()])


def habits(pieces):
    """Returns a dict from what a head can do to the places `(T, T)` where it then looks."""
    count = len(pieces)
    same = np.array([[one == other for other in pieces] for one in pieces])
    columns = np.broadcast_to(np.arange(count), (count, count))
    return {
        "the token before": np.eye(count, k=-1),
        "the token after": np.eye(count, k=1),
        "the same word elsewhere": same & ~np.eye(count, dtype=bool),
        "[CLS], the first token": columns == 0,
    }


def most_telling(pieces, weights):
    """Yields a habit, the block and the head that has it most, and how much of its attention that is.

    Only rows count in which there is something to look at.
    """
    for name, places in habits(pieces).items():
        rows = places.any(axis=1)
        if not rows.any():
            continue
        shares = (weights * places).sum(axis=-1)[..., rows].mean(axis=-1)
        block, head = np.unravel_index(shares.argmax(), shares.shape)
        yield name, int(block), int(head), float(shares[block, head])


def matrix(axis, weights, pieces=None, size=6, left=True, bottom=True):
    """Draws the weights of one head; with pieces at the left and the bottom where they are asked for."""
    axis.imshow(weights, cmap="Blues", vmin=0, vmax=weights.max())
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set(color="0.8", linewidth=0.5)
    if pieces and left:
        axis.set_yticks(range(len(pieces)), pieces, fontsize=size)
    if pieces and bottom:
        axis.set_xticks(range(len(pieces)), pieces, fontsize=size, rotation=90)
    axis.tick_params(length=0, pad=1)


def draw_all(pieces, weights):
    """Returns a figure of all heads: blocks down, heads across.

    Args:
        pieces: T pieces.
        weights: `(blocks, heads, T, T)`.
    """
    blocks, heads = weights.shape[:2]
    figure = Figure(figsize=(1.4 * heads + 1, 1.45 * blocks + 1), layout="compressed")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.01, hspace=0.01)
    axes = figure.subplots(blocks, heads)
    for (block, head), axis in np.ndenumerate(axes):
        matrix(axis, weights[block, head], pieces, left=head == 0, bottom=block == blocks - 1)
        if block == 0:
            axis.set_title(f"head {head}", fontsize=9)
        if head == 0:
            axis.set_ylabel(f"block {block}", fontsize=9)
    return figure


def draw_telling(pieces, weights, telling):
    """Returns a figure of some heads, larger.

    Args:
        pieces: T pieces.
        weights: `(blocks, heads, T, T)`.
        telling: List of what `most_telling` yields.
    """
    figure = Figure(figsize=(3.5 * len(telling), 3.8), layout="constrained")
    axes = figure.subplots(1, len(telling), squeeze=False)[0]
    for axis, (name, block, head, share) in zip(axes, telling):
        matrix(axis, weights[block, head], pieces, size=8)
        axis.set_title(f"{name}: {share:.0%}\nblock {block}, head {head}", fontsize=10)
    return figure


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sentence", default=SENTENCE, help="another sentence")
    parser.add_argument("--quick", action="store_true", help="small pictures")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for the pictures")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    pieces, weights = heads_of(sentence_encoder(), WordPieces(), options.sentence)
    telling = list(most_telling(pieces, weights))
    for name, block, head, share in telling:
        print(f"{name:24s} block {block}, head {head:2d}: {share:.0%} of its attention")
    dpi = 40 if options.quick else 110
    draw_all(pieces, weights).savefig(options.output / "heads.png", dpi=dpi)
    draw_telling(pieces, weights, telling).savefig(options.output / "telling_heads.png", dpi=dpi)
    print(f"wrote {options.output / 'heads.png'} and {options.output / 'telling_heads.png'}")


if __name__ == "__main__":
    main()
