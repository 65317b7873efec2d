"""What pairs of masks and sampling that stops early save, on EfficientNet-Lite0 and the photographs.

`python benchmarks/sampling.py` counts evaluations and errors, so it needs no quiet machine: the variance of RISE's
masks in mirrored pairs beside masks drawn one by one, and the masks that are taken until a standard error. `--quick`
takes less of everything.
"""

import argparse

import numpy as np
from explainers import BATCH, efficientnet_lite0, load_photos, preprocess

import vis


def rise_rows(images, quick):
    """Prints how much less the values of mirrored pairs vary, and the masks until a standard error."""
    model = efficientnet_lite0(classifier_activation="softmax")
    target = model.predict(images, verbose=0).argmax(axis=1)
    explainer, number = vis.RISE(model, seed=0), 200 if quick else 1000
    masks = np.stack([explainer._mask(images.shape[1:3], 0, i) for i in range(2 * number)])
    for i, image in enumerate(images):
        scores = np.concatenate(
            [
                model.predict(image * part[..., None], batch_size=BATCH, verbose=0)[:, target[i]]
                for part in np.array_split(masks, max(1, len(masks) // 100))
            ]
        )
        terms = 2 * scores[:, None, None] * masks
        alone = terms[::2].var(axis=0, ddof=1).mean() / 2  # of the mean of two masks
        paired = ((terms[::2] + terms[1::2]) / 2).var(axis=0, ddof=1).mean()
        print(f"RISE, photo {i}: variance of pairs / of masks one by one: {paired / alone:.3f}", flush=True)
    for goal in (0.01, 0.005)[: 1 if quick else 2]:
        explainer = vis.RISE(model, seed=0).until(goal)
        _, errors = explainer.with_error(images, target, batch_size=BATCH)
        taken = ", ".join(map(str, explainer.evaluations))
        print(f"RISE until {goal}: {taken} of 4000 masks; errors {errors.max(axis=(1, 2)).round(4)}", flush=True)


def main():
    """Prints one row for each photograph, and for each standard error."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    rise_rows(preprocess(load_photos()), parser.parse_args().quick)


if __name__ == "__main__":
    main()
