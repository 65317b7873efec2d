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
from network import CONTEXT, encode, generate, load
from PIL import Image

import vis

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
PROMPT, LENGTH = "TensorFlow, JAX and PyTorch. Tens", 12
MARKS = {"\n": "¶", " ": "␣"}


def explainers(model):
    """Returns a dict from titles to explainers of the tokens."""
    return {
        "integrated gradients": vis.IntegratedGradients(model, steps=32, input_layer="tokens"),
        "LRP": vis.LRP(model, "attention", input_layer="tokens"),
    }


def draw(matrix, title, tokens):
    """Returns a figure of what each new token took from those before it.

    Args:
        matrix: `(new, T)`.
        title: What stands above it.
        tokens: The T tokens as text.
    """
    tokens = ["".join(MARKS.get(letter, letter) for letter in token) for token in tokens]
    figure = vis.plotting.show_token_matrix(matrix, tokens)
    figure.suptitle(title, fontsize=11)
    if max(map(len, tokens)) == 1:
        figure.axes[0].tick_params(axis="x", labelrotation=0)
    return figure


def letters(prompt, quick):
    """Returns the network of letters, a text as numbers, its letters, and where the new ones begin."""
    start = len(encode(prompt))
    if not 0 < start <= CONTEXT - LENGTH:
        raise SystemExit(f"The prompt must have from 1 to {CONTEXT - LENGTH} letters. Received: {start}.")
    model = load(quick=quick)
    text = generate(model, prompt, 4 if quick else LENGTH)
    return model, encode(text), list(text), start


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
    return model, ids, [tokenizer.detokenize([number]) for number in ids.tolist()], start


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
    model, ids, tokens, start = written or letters(options.prompt, options.quick)
    print(f"it wrote: {''.join(tokens)!r}")
    pictures = []
    for title, explainer in explainers(model).items():
        matrix = vis.attribute_tokens(explainer, ids, prompt_length=start)
        pictures.append(vis.plotting.rendered(draw(matrix, title, tokens)))
    Image.fromarray(np.concatenate(pictures)).save(options.output / "reads.png")
    print(f"wrote {options.output / 'reads.png'}")


if __name__ == "__main__":
    main()
