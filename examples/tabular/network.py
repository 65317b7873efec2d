"""A small network for a table: how far diabetes went on within a year, from ten measurements of a patient.

The data are those of Efron et al. 2004, "Least Angle Regression": 442 patients, which scikit-learn brings along.
`python examples/tabular/network.py` trains the network and prints how well it predicts.
"""

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_diabetes

TRAINED_ON = 342
NAMES = (
    *("age", "sex", "body mass index", "blood pressure", "total cholesterol", "LDL", "HDL"),
    *("cholesterol / HDL", "log triglycerides", "blood sugar"),
)


def load_patients(seed=0):
    """Returns `(trained on, their answers, held back, their answers)`: rows of ten columns in their own units.

    Args:
        seed: Of the shuffle before they are parted, 342 and 100.
    """
    rows, answers = load_diabetes(return_X_y=True, scaled=False)
    order = np.random.default_rng(seed).permutation(len(rows))
    rows, answers = rows[order].astype("float32"), answers[order].astype("float32")
    return rows[:TRAINED_ON], answers[:TRAINED_ON], rows[TRAINED_ON:], answers[TRAINED_ON:]


def trained_network(rows, answers, epochs=40, seed=0):
    """Returns a network that takes the columns as they are: its first layer scales them.

    Args:
        rows: What it is trained on, `(N, 10)`.
        answers: How far the disease went, `(N,)`.
        epochs: How often it sees all of them.
        seed: Of its weights and of the order of the rows.
    """
    keras.utils.set_random_seed(seed)
    scaling = layers.Normalization()
    scaling.adapt(rows)
    model = keras.Sequential(
        [
            keras.Input((rows.shape[1],)),
            scaling,
            layers.Dense(24, activation="relu", kernel_regularizer="l2"),
            layers.Dense(12, activation="relu", kernel_regularizer="l2"),
            layers.Dense(1, bias_initializer=keras.initializers.Constant(float(answers.mean()))),
        ]
    )
    model.compile(keras.optimizers.Adam(3e-3), "mse")
    model.fit(rows, answers, 32, epochs, verbose=0)
    return model


def determination(answers, predicted):
    """Returns R2: 1 for predictions that are right, 0 for the mean of the answers."""
    return 1 - float(((answers - predicted) ** 2).mean() / answers.var())


def main():
    """Trains the network and prints how well it predicts."""
    rows, answers, others, truth = load_patients()
    model = trained_network(rows, answers)
    print(f"R2 of {len(rows)} patients seen: {determination(answers, model.predict(rows, verbose=0)[:, 0]):.2f}")
    print(f"R2 of {len(others)} patients not seen: {determination(truth, model.predict(others, verbose=0)[:, 0]):.2f}")


if __name__ == "__main__":
    main()
