"""Do the words that a method names matter? They are hidden one after the other, the most relevant first.

For 30 pairs of sentences, every word of the first one is replaced by "[MASK]", in the order that a method gives, and
the cosine with the second one is read after each. The area under this curve is small where a method finds the words
that make the two similar. Beside it stands the mean of 20 orders by chance. Writes a table, `deletion.md`, and the mean
curves, `deletion.png`, into `output/`; that takes about a minute on two cores.

Occlusion has an advantage here: it asks the same question, for each word alone. And the network was not trained with
"[MASK]" in sentences, so a part of each fall is that it has not seen such text.
"""

import argparse
import pathlib

import numpy as np
from matplotlib.figure import Figure
from network import MASK, WordPieces, sentence_encoder
from similar_sentences import explain, in_words

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
CHANCE = "by chance"
POINTS = np.linspace(0, 1, 21)  # shares of the words
PARAPHRASES = (
    ("The train to the airport leaves every twenty minutes from platform four.",
     "Every twenty minutes a train departs from platform four for the airport."),
    ("Our neighbours are painting their garden fence bright green this weekend.",
     "The people next door will spend the weekend giving their fence a green coat."),
    ("My grandmother bakes fresh bread every Sunday morning before breakfast.",
     "Each Sunday, early in the morning, Grandma makes a new loaf of bread."),
    ("The meeting was put off until Thursday because the manager is ill.",
     "Since the boss is sick, we will hold the meeting on Thursday instead."),
    ("He forgot his umbrella at home and got completely wet in the rain.",
     "Because he had left the umbrella at his house, the rain soaked him."),
    ("The new bridge across the river will open to traffic next spring.",
     "Cars will be able to use the river's new bridge from next spring."),
    ("She borrowed three books about ancient Rome from the public library.",
     "From the town library she took home three volumes on the old Romans."),
    ("The children built a large castle out of wet sand on the beach.",
     "On the shore, the kids made a big sandcastle."),
    ("Please switch off your phones before the concert begins.",
     "Kindly turn your mobile phones off before the start of the concert."),
    ("The price of coffee has nearly doubled since the beginning of last year.",
     "Coffee costs almost twice as much as it did at the start of last year."),
    ("A heavy storm knocked down several old trees in the city park last night.",
     "Last night, strong winds brought down a number of old trees in the town's park."),
    ("The doctor told me to drink more water and sleep at least eight hours.",
     "My physician says that I need eight hours of sleep and more water."),
    ("Our flight was cancelled, so we had to spend the night at a hotel.",
     "We stayed in a hotel overnight because the airline called off our flight."),
    ("The little shop on the corner sells fruit and vegetables from local farms.",
     "You can buy local fruit and vegetables at the small corner store."),
    ("He learned to play the guitar by watching videos on the internet.",
     "Online videos taught him how to play guitar."),
)  # fmt: skip
RELATED = (
    ("The train to the airport leaves every twenty minutes from platform four.",
     "Passengers can buy their tickets at the machine in the station hall."),
    ("The cat slept on the warm windowsill for most of the afternoon.",
     "Our dog likes to lie in front of the fire in winter."),
    ("The museum shows paintings by young artists from all over the country.",
     "Many visitors come to the gallery to see the famous statues."),
    ("She is training for a marathon and runs ten miles every morning.",
     "The swimmer won two gold medals at the national championship."),
    ("The soup needs a little more salt and some fresh pepper.",
     "He burned the potatoes because he had forgotten the oven."),
    ("The company plans to hire two hundred engineers over the next year.",
     "Many workers lost their jobs when the factory closed in June."),
    ("The bus was late again this morning, and I missed my first class.",
     "Students must hand in their homework before the lesson starts."),
    ("Farmers in the south hope for rain after three dry months.",
     "Snow fell in the mountains, and several roads were closed."),
    ("My laptop is slow, and the battery lasts for only an hour.",
     "The new phone has a bright screen and a very good camera."),
    ("The actor forgot his words in the middle of the second scene.",
     "The audience clapped for ten minutes at the end of the play."),
    ("We planted tomatoes and beans behind the house last spring.",
     "The roses in the front garden need water twice a week."),
    ("The police stopped a car that was driving far too fast on the highway.",
     "Two people were hurt when a truck hit a wall near the village."),
    ("The baby woke up three times last night and cried for an hour.",
     "Parents often read a story to their children before bedtime."),
    ("The bank raised its interest rates for the second time this year.",
     "More and more people pay for their shopping with a card."),
    ("The scientists found a new kind of frog deep in the rain forest.",
     "Tigers live alone and hunt mostly at night."),
)  # fmt: skip


def masked(encoded, parts, order):
    """Returns copies of a sentence of which ever more words are hidden: none first, all last.

    Args:
        encoded: What the network takes, of one sentence.
        parts: Which pieces belong to which word, `(T, W)` of 0 and 1.
        order: Numbers of the words.
    """
    ids = np.repeat(encoded["token_ids"], len(order) + 1, axis=0)
    for count, word in enumerate(order):
        ids[count + 1 :, parts[:, word] > 0] = MASK
    return {"token_ids": ids, "padding_mask": np.repeat(encoded["padding_mask"], len(ids), axis=0)}


def curves(model, encoded, vector, parts, orders):
    """Returns the cosines `(orders, words + 1)` while words are hidden, in each of the orders."""
    copies = [masked(encoded, parts, order) for order in orders]
    together = {name: np.concatenate([one[name] for one in copies]) for name in encoded}
    return (model.predict(together, batch_size=64, verbose=0) @ vector).reshape(len(orders), -1)


def measure(model, tokenizer, pairs, chances=20, seed=0):
    """Returns a dict from names of methods to curves `(pairs, 21)`: the cosine at equal shares of hidden words.

    Args:
        model: The network.
        tokenizer: Its `WordPieces`.
        pairs: Pairs of sentences.
        chances: How many orders by chance; their mean curve has the name "by chance".
        seed: Of these orders.
    """
    firsts, seconds = (tokenizer.encode(list(side)) for side in zip(*pairs))
    vectors, chance = model.predict(seconds, verbose=0), np.random.default_rng(seed)
    found = explain(model, firsts, vectors)
    result = {name: [] for name in [*found, CHANCE]}
    for i, vector in enumerate(vectors):
        encoded = {name: values[i : i + 1] for name, values in firsts.items()}
        pieces = tokenizer.pieces(firsts["token_ids"][i])
        words, parts = in_words(pieces, np.eye(len(pieces)))
        orders = [np.argsort(-values[i] @ parts, kind="stable") for values in found.values()]
        orders += [chance.permutation(len(words)) for _ in range(chances)]
        read = curves(model, encoded, vector, parts, orders)
        rows = [*read[: len(found)], read[len(found) :].mean(axis=0)]
        for name, row in zip(result, rows):
            result[name].append(np.interp(POINTS, np.linspace(0, 1, len(row)), row))
    return {name: np.stack(rows) for name, rows in result.items()}


def areas(curves):
    """Returns the areas under curves `(pairs, 21)`, `(pairs,)`."""
    return (curves[:, 1:] + curves[:, :-1]).mean(axis=1) / 2


def interval(values, count=10_000, seed=0):
    """Returns the mean of values, and the ends of its 95 % interval by the bootstrap over pairs."""
    chosen = np.random.default_rng(seed).integers(0, len(values), (count, len(values)))
    return (float(values.mean()), *map(float, np.percentile(values[chosen].mean(axis=1), [2.5, 97.5])))


def table(found):
    """Returns the areas as a Markdown table: means over pairs with 95 % intervals, the best method first."""
    rows = ["| order of the words | area under the curve | less than by chance |", "|---|---|---|"]
    for name in sorted(found, key=lambda name: areas(found[name]).mean()):
        own = "{:.3f} ({:.3f} to {:.3f})".format(*interval(areas(found[name])))
        less = "{:.3f} ({:.3f} to {:.3f})".format(*interval(areas(found[CHANCE]) - areas(found[name])))
        rows.append(f"| {name} | {own} | {'' if name == CHANCE else less} |")
    return "\n".join(rows) + "\n"


def draw(found):
    """Returns a figure of the mean curves."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axis = figure.subplots()
    for name, values in found.items():
        style = {"color": "0.5", "linestyle": "--"} if name == CHANCE else {}
        axis.plot(100 * POINTS, values.mean(axis=0), label=name, **style)
    axis.set(xlabel="words hidden, the most relevant first (%)", ylabel="cosine with the other sentence", xlim=(0, 100))
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False)
    return figure


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="four pairs, and two orders by chance")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for the table and the picture")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    pairs = (*PARAPHRASES[:2], *RELATED[:2]) if options.quick else (*PARAPHRASES, *RELATED)
    found = measure(sentence_encoder(), WordPieces(), pairs, 2 if options.quick else 20)
    print(table(found), end="")
    (options.output / "deletion.md").write_text(table(found), encoding="utf-8")
    draw(found).savefig(options.output / "deletion.png", dpi=110)
    print(f"wrote {options.output / 'deletion.md'} and {options.output / 'deletion.png'}")


if __name__ == "__main__":
    main()
