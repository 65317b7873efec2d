"""A small network that writes, letter by letter: a transformer in the manner of GPT, of Keras layers only.

`python examples/characters/network.py` trains it on the documentation of this project, which takes about two minutes
on two cores, and lets it write.
"""

import pathlib
import re
import string
import time

import keras
import numpy as np
from keras import layers, ops

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
LETTERS = "\n" + string.printable[:95]  # all that it reads and writes
CONTEXT, WIDTH, HEADS, BLOCKS = 128, 128, 4, 3
BATCH, STEPS, RATE, SEED = 8, 1_500, 2e-3, 1337
PART = 2_000  # letters; of each ten parts of the text one is kept for validation


def character_model():
    """Returns the untrained network, a Functional model of letters' numbers `(N, T)`, T up to 128.

    Its output `(N, T, 96)` holds at each place logits of the letter that comes next. It sees only what came before.
    """
    letters = keras.Input((None,), dtype="int32", name="letters")
    places = ops.cumsum(ops.ones_like(letters), axis=1) - 1
    embedded = layers.Embedding(len(LETTERS), WIDTH, name="token_embedding")(letters)
    x = layers.Add(name="embeddings")([embedded, layers.Embedding(CONTEXT, WIDTH, name="position_embedding")(places)])
    for i in range(BLOCKS):
        x = _block(x, f"block{i}")
    x = layers.LayerNormalization(epsilon=1e-5, name="norm")(x)
    return keras.Model(letters, layers.Dense(len(LETTERS), name="logits")(x), name="characters")


def _block(x, name):
    """Adds attention to what came before, then a network of two dense layers, each to what it takes."""
    normal = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm1")(x)
    attention = layers.MultiHeadAttention(HEADS, WIDTH // HEADS, name=f"{name}_attention")
    x = layers.Add(name=f"{name}_attention_add")([x, attention(normal, normal, use_causal_mask=True)])
    normal = layers.LayerNormalization(epsilon=1e-5, name=f"{name}_norm2")(x)
    wide = layers.Dense(4 * WIDTH, activation="gelu", name=f"{name}_mlp_fc1")(normal)
    return layers.Add(name=f"{name}_mlp_add")([x, layers.Dense(WIDTH, name=f"{name}_mlp_fc2")(wide)])


def encode(text):
    """Returns the numbers of the letters of a text, int32 `(T,)`; other letters are left out."""
    return np.array([LETTERS.index(letter) for letter in text if letter in LETTERS], "int32")


def decode(numbers):
    """Returns the text of letters' numbers."""
    return "".join(LETTERS[number] for number in numbers)


def prose_of(page):
    """Returns the paragraphs and entries of a page in Markdown, each in one line: no code, tables or addresses."""
    page = re.sub(r"^ *```.*?^ *```", "", page, flags=re.DOTALL | re.MULTILINE)
    page = re.sub(r"!?\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])", r"\1", page)
    page = re.sub(r"^ *(\*|\d\.) ", "\n", page.replace("**", ""), flags=re.MULTILINE)
    paragraphs = (" ".join(paragraph.split()) for paragraph in page.split("\n\n"))
    return "\n".join(one for one in paragraphs if one[:1].isalpha() or one[:1] == "`")


def load_text():
    """Returns what the documentation of this project says, `(training, validation)`: numbers of letters `(T,)` each."""
    files = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
    text = encode("\n".join(prose_of(path.read_text(encoding="utf-8")) for path in files))
    parts = [text[start : start + PART] for start in range(0, len(text), PART)]
    kept = [part for i, part in enumerate(parts) if i % 10 == 9]
    return np.concatenate([part for i, part in enumerate(parts) if i % 10 != 9]), np.concatenate(kept)


def pieces_of(text, count, chance):
    """Returns `count` pieces of a text from anywhere, and the same one letter later: both `(count, 128)`."""
    places = chance.integers(0, len(text) - CONTEXT, count)[:, None] + np.arange(CONTEXT)
    return text[places], text[places + 1]


def train(steps=STEPS, seed=SEED):
    """Returns the network, trained, and its losses: nats a letter, of training and of validation."""
    keras.utils.set_random_seed(seed)
    chance = np.random.default_rng(seed)
    training, validation = load_text()
    model = character_model()
    warmup = {"warmup_target": RATE, "warmup_steps": steps // 10}
    rate = keras.optimizers.schedules.CosineDecay(RATE / 10, steps - steps // 10, 0.01, **warmup)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.AdamW(rate, weight_decay=0.01, beta_2=0.98), loss)
    start = time.perf_counter()
    model.fit(*pieces_of(training, steps * BATCH, chance), batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
    losses = [
        float(model.evaluate(*pieces_of(text, 100, chance), batch_size=50, verbose=0))
        for text in (training, validation)
    ]
    print(f"trained in {time.perf_counter() - start:.0f} s; loss {losses[0]:.2f}, of validation {losses[1]:.2f}")
    return model, losses


def load(path=OUTPUT / "characters.keras", quick=False, retrain=False):
    """Returns the trained network.

    Args:
        path: File that keeps it; it is loaded from there next time. Default: in `output/`.
        quick: Whether to train for 20 steps only, to see that everything runs. Such a network is neither kept nor
            loaded. Default `False`.
        retrain: Whether to train even if there is a trained network. Default `False`.
    """
    path = pathlib.Path(path)
    if path.exists() and not (quick or retrain):
        print(f"loading the trained network {path}")
        return keras.models.load_model(path)
    model, _ = train(20 if quick else STEPS)
    if not quick:
        path.parent.mkdir(parents=True, exist_ok=True)
        model.save(path)
    return model


def generate(model, prompt, length, temperature=0.0, seed=0):
    """Returns a text that begins with a prompt and goes on as the network does.

    Args:
        model: The network.
        prompt: How the text begins: a letter at least.
        length: How many letters are added.
        temperature: How much chance there is. 0 (default): the likeliest letter is taken each time.
        seed: Of this chance.
    """
    text, chance = list(encode(prompt)), np.random.default_rng(seed)
    for _ in range(length):
        seen = np.array(text[-CONTEXT:], "int32")
        filled = np.pad(seen, (0, CONTEXT - len(seen)))[None]  # what comes after is not seen
        logits = model.predict_on_batch(filled)[0, len(seen) - 1]
        noise = chance.gumbel(size=logits.shape) * temperature
        text.append(int(np.argmax(logits + noise)))
    return decode(text)


def main():
    """Trains the network, if it is not trained, and prints what it writes."""
    model = load()
    for temperature in (0.0, 0.5, 1.0):
        print(f"\n--- temperature {temperature}\n{generate(model, 'The explainer ', 300, temperature)}")


if __name__ == "__main__":
    main()
