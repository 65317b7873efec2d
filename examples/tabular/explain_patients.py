"""What drives the predictions of a network for a table, over all patients and for one of them.

Five methods that answer the same question stand in one table: how much each column moves the prediction. Shapley values
put a patient's columns into each of 100 other patients and are exact, as there are ten columns. Permutation importance
is another question, how much worse the predictions get without a column, and is not about single patients. Writes the
table, `agreement.md`, and three pictures into `output/`; that takes about a minute on two cores.
"""

import argparse
import pathlib

import numpy as np
from network import NAMES, determination, load_patients, trained_network
from scipy.stats import spearmanr

import vis
from vis import plotting

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
BATCH = 4096  # rows are short: large batches are quick
PERMUTED = "permutation importance"
SHAPLEY = "Shapley values (exact)"


def explain(model, rows, background):
    """Returns a dict from names of methods to contributions `(N, 10)`, in units of the prediction.

    Args:
        model: The network.
        rows: Patients.
        background: Other patients, whom they are compared with.
    """
    methods = {
        SHAPLEY: vis.ShapleyValues(model, baseline=background),
        "KernelSHAP, 256 coalitions": vis.KernelSHAP(model, baseline=background, num_samples=256, seed=0),
        "expected gradients": vis.ExpectedGradients(model, background, num_samples=200, seed=0),
        "DeepLIFT from the mean patient": vis.DeepLIFT(model, baseline=background.mean(axis=0)),
    }
    return {name: method(rows, 1, batch_size=BATCH) for name, method in methods.items()}


def permutation_importance(model, rows, answers, repeats=20, seed=0):
    """Returns by how much R2 falls when a column is shuffled among patients, `(10,)`."""
    draw, whole = np.random.default_rng(seed), determination(answers, model.predict(rows, verbose=0)[:, 0])
    found = np.zeros(rows.shape[1])
    for column in range(rows.shape[1]):
        changed = np.tile(rows, (repeats, 1))
        changed[:, column] = np.concatenate([draw.permutation(rows[:, column]) for _ in range(repeats)])
        predicted = model.predict(changed, batch_size=BATCH, verbose=0)[:, 0].reshape(repeats, -1)
        found[column] = whole - np.mean([determination(answers, one) for one in predicted])
    return found


def table(importances):
    """Returns a Markdown table: each method's share of every column, and how alike its order is to the first's."""
    names = list(importances)
    first = importances[names[0]]
    order = np.argsort(-first)
    rows = ["| column | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for column in order:
        shares = [f"{importances[name][column] / np.abs(importances[name]).sum():.0%}" for name in names]
        rows.append(f"| {NAMES[column]} | " + " | ".join(shares) + " |")
    alike = [f"{spearmanr(first, importances[name]).statistic:.2f}" for name in names]
    rows.append("| rank correlation with the first | " + " | ".join(alike) + " |")
    return "\n".join(rows) + "\n"


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="ten patients, compared with ten others")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for the table and the pictures")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    rows, answers, others, truth = load_patients()
    model = trained_network(rows, answers)
    print(f"R2 of {len(others)} patients not seen: {determination(truth, model.predict(others, verbose=0)[:, 0]):.2f}")
    patients, background = (others[:10], rows[:10]) if options.quick else (others, rows[:100])

    found = explain(model, patients, background)
    importances = {name: np.abs(values).mean(axis=0) for name, values in found.items()}
    importances[PERMUTED] = permutation_importance(model, patients, truth[: len(patients)])
    (options.output / "agreement.md").write_text(table(importances), encoding="utf-8")
    print(table(importances), end="")

    explained = vis.ShapleyValues(model, baseline=background).by_feature(patients, 1, batch_size=BATCH)
    one = int(np.argmax(explained.scores))
    figures = {
        "all_patients": plotting.beeswarm(explained.values, patients, feature_names=NAMES),
        "one_patient": plotting.waterfall(
            explained.values[one], explained.base[one], patients[one], feature_names=NAMES
        ),
        "body_mass": plotting.dependence(
            explained.values, patients, "body mass index", colour="blood pressure", feature_names=NAMES
        ),
    }
    for name, figure in figures.items():
        figure.savefig(options.output / f"{name}.png", dpi=110)
    print(f"wrote agreement.md and {', '.join(f'{name}.png' for name in figures)} into {options.output}")


if __name__ == "__main__":
    main()
