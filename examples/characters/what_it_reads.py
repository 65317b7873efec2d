"""What does a network that writes read? For each letter that it adds, which letters before it spoke for it.

A small network in the manner of GPT is trained on this project's documentation (two minutes on two cores; it is kept
for the next time), and goes on with a prompt, always by the likeliest letter. Then the logit of each new letter is
explained by integrated gradients and by LRP. Writes `reads.png` into `output/`: a row for each new letter, a column for
each letter of the text; red speaks for the new letter, blue against it; grey had not been written yet.

`--preset gpt2_base_en` takes GPT-2 instead: keras-hub must be installed, and it downloads the weights.
"""

import argparse
import pathlib

import keras
import numpy as np
from matplotlib.figure import Figure
from network import CONTEXT, encode, generate, load

import vis

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
PROMPT, LENGTH = "TensorFlow, JAX and PyTorch. Tens", 12
TOKENS = "token_embedding"
MARKS = {"\n": "¶", " ": "␣"}


def explainers(model, layer=TOKENS):
    """Returns a dict from titles to explainers of the letters."""
    return {
        "integrated gradients": vis.IntegratedGradients(model, steps=32, input_layer=layer),
        "LRP": vis.LRP(model, "attention", input_layer=layer),
    }


def what_it_took(explainer, ids, start):
    """Returns what each token from a place on took from those before it, `(tokens, T)`.

    Each is a row of one batch, at the text's full length: as nothing is seen of what comes after, that changes nothing.

    Args:
        explainer: An explainer of the tokens of a network of this file, or of one of keras-hub.
        ids: The text, `(T,)`.
        start: Place of the first token that is explained, at least 1.
    """
    places = np.arange(start, len(ids))
    rows = np.repeat(ids[None], len(places), axis=0)
    names = explainer.model.input if isinstance(explainer.model.input, dict) else ()
    inputs = {"token_ids": rows, "padding_mask": np.ones_like(rows)} if names else rows
    return explainer(inputs, vis.targets.NextToken(ids[places], places - 1)).sum(axis=-1)


def draw(found, tokens):
    """Returns a figure with a panel for each method: new tokens down, all tokens across.

    Args:
        found: Dict from titles to matrices `(new, T)`.
        tokens: The T tokens as text.
    """
    new = len(next(iter(found.values())))
    tokens = ["".join(MARKS.get(letter, letter) for letter in token) for token in tokens]
    size = 0.2 * len(tokens) + 1.5, (0.2 * new + 1) * len(found)
    figure = Figure(figsize=size, layout="constrained")
    for axis, (title, values) in zip(figure.subplots(len(found), 1, squeeze=False)[:, 0], found.items()):
        unseen = np.arange(len(tokens)) >= np.arange(len(tokens) - new, len(tokens))[:, None]
        top = np.abs(values).max()
        axis.set_facecolor("0.9")
        axis.imshow(np.ma.array(values, mask=unseen), cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto")
        axis.set_xticks(range(len(tokens)), tokens, fontsize=9, family="monospace")
        axis.set_yticks(range(new), tokens[-new:], fontsize=9, family="monospace")
        axis.tick_params(length=0, labeltop=True, top=False, labelbottom=False, bottom=False)
        axis.set_title(title, fontsize=11, loc="left")
        axis.axvline(len(tokens) - new - 0.5, color="0.4", linewidth=0.8)
    return figure


def letters(prompt, quick):
    """Returns the network of letters, its embedding, a text as numbers, its letters, and where the new ones begin."""
    start = len(encode(prompt))
    if not 0 < start <= CONTEXT - LENGTH:
        raise SystemExit(f"The prompt must have from 1 to {CONTEXT - LENGTH} letters. Received: {start}.")
    model = load(quick=quick)
    text = generate(model, prompt, 4 if quick else LENGTH)
    return model, TOKENS, encode(text), list(text), start


def preset(name, prompt, quick):
    """Returns the same of a model of keras-hub, whose tokens are pieces of words."""
    import keras_hub

    model = keras_hub.models.CausalLM.from_preset(name)
    tokenizer = model.preprocessor.tokenizer
    start = len(tokenizer(prompt))
    text = model.generate(prompt, max_length=start + 1 + (4 if quick else LENGTH))  # one more: what begins each text
    ids = np.asarray(keras.ops.convert_to_numpy(tokenizer(text)), "int32")
    if len(ids) <= start:
        raise SystemExit("The model wrote nothing. Give another prompt.")
    # Most such models use the embedding once more, for their output: the first use is meant.
    return model, (TOKENS, 0), ids, [tokenizer.detokenize([number]) for number in ids.tolist()], start


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompt", default=PROMPT, help="how the text begins")
    parser.add_argument("--preset", metavar="NAME", help="a causal language model of keras-hub, which is downloaded")
    parser.add_argument("--quick", action="store_true", help="a network that is hardly trained, and few letters")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for the picture")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    written = preset(options.preset, options.prompt, options.quick) if options.preset else None
    model, layer, ids, tokens, start = written or letters(options.prompt, options.quick)
    print(f"it wrote: {''.join(tokens)!r}")
    found = {name: what_it_took(one, ids, start) for name, one in explainers(model, layer).items()}
    draw(found, tokens).savefig(options.output / "reads.png", dpi=110)
    print(f"wrote {options.output / 'reads.png'}")


if __name__ == "__main__":
    main()
