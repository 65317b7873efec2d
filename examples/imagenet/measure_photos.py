"""The gallery, measured: which maps of EfficientNet-Lite0 say more of it than chance, and more than an edge filter?

Every method of `gallery.py` on four photographs, by symmetric relevance gain, insertion and deletion. Hidden pixels
become the mean colour of their photograph. Writes into `output/`: `measured.png` (a row for each method), `measured.md`
(the table) and `measured.html` (maps, table and curves, for a browser). It takes a quarter of an hour on two cores;
`--quick` takes less than a minute, with few random maps, and means nothing.
"""

import argparse
import pathlib

from gallery import BATCH_SIZE, choose_methods, choose_relevance
from network import PHOTOS, efficientnet_lite0, load_photos, preprocess

import vis

OUTPUT = pathlib.Path(__file__).resolve().parent / "output"
SIGNED = ("Integrated gradients", "LRP", "DeepLIFT")  # contributions, which are summed over the colours with their sign
QUICK = ("Grad-CAM", "Integrated gradients")


def named(methods):
    """Returns methods under names of one line."""
    return {" ".join(name.replace("-\n", "-").split()): method for name, method in methods.items()}


def maps_of(model, images, quick):
    """Yields the names of methods and their maps of the top classes, `(N, H, W)` or with colours."""
    methods = named({**choose_methods(images.shape[1:3], quick), **choose_relevance(quick=quick)})
    for name, method in methods.items():
        if quick and name not in QUICK:
            continue
        maps = method(model)(images, batch_size=BATCH_SIZE)
        print(f"explained by {name}", flush=True)
        yield name, maps.sum(axis=-1) if name.startswith(SIGNED) and maps.ndim > 3 else maps


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two methods, few random maps, coarse steps")
    parser.add_argument("--output", type=pathlib.Path, default=OUTPUT, help="folder for what is written")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    model = efficientnet_lite0()
    photos = load_photos(names=PHOTOS[:2] if options.quick else PHOTOS)
    images = preprocess(photos)
    metrics = ("srg", "insertion", "deletion")
    if options.quick:
        metrics = [vis.metrics.SRG(model, steps=2)]
    maps = dict(maps_of(model, images, options.quick))
    evaluation = vis.evaluate(
        maps, images, metrics=metrics, fills=["mean"], baselines=6 if options.quick else 20, verbose=1, model=model
    )
    print(evaluation)
    evaluation.figure().savefig(options.output / "measured.png", dpi=110)
    (options.output / "measured.md").write_text(evaluation.to_markdown(), "utf-8")
    evaluation.to_html(options.output / "measured.html")
    print(f"wrote {options.output / 'measured.html'}")


if __name__ == "__main__":
    main()
