"""What a million and a billion images cost, computed from what is measured on this machine.

Measures how long EfficientNet-Lite0 takes to explain an image, how long a JPEG file takes to be decoded, and how many
bytes a map has in a compressed Zarr array. From these it computes hours, bytes, and what holds everything up, for 1 to
10,000 workers, and simulates workers that die. `--check` explains images with one and two workers of Ray, and compares.
Writes `plan.md` into `output/`. Needs the extra `zarr`; `--check` needs `scale`. `--quick` measures little.
"""

import argparse
import dataclasses
import heapq
import io
import itertools
import os
import pathlib
import sys
import tempfile
import time

import numpy as np
from PIL import Image

HERE = pathlib.Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "imagenet"))

from network import efficientnet_lite0, load_photos, preprocess

import vis

BATCH = 32
WORKERS = (1, 10, 100, 1_000, 10_000)
IMAGES = (10**6, 10**9)


@dataclasses.dataclass(frozen=True)
class Figures:
    """What an image costs, in seconds and bytes, and what there is.

    Args:
        explain: Seconds in which one worker explains an image.
        decode: Seconds in which one worker reads and decodes an image.
        file: Bytes of an image's file.
        map: Bytes of its map in the store.
        read: Bytes that the store gives in a second to all workers together. Default 1e9.
        write: Bytes that it takes in a second. Default 1e9.
        ahead: Whether a worker has a core to spare, which decodes while the network works. Default `True`.
        life: Seconds that a worker lives on the average. Default: a week.
        restart: Seconds until a new one works. Default 60.
    """

    explain: float
    decode: float
    file: float
    map: float
    read: float = 1e9
    write: float = 1e9
    ahead: bool = True
    life: float = 7 * 86400.0
    restart: float = 60.0

    @property
    def image(self):
        """Seconds between two images of one worker that does not die."""
        return max(self.explain, self.decode) if self.ahead else self.explain + self.decode


def rates(figures, workers, batch=BATCH):
    """Returns how many images a second each part could do at most, if it were alone.

    A death costs the restart, and half of a batch, which is made again.
    """
    lost = (figures.restart + batch * figures.image / 2) / figures.life
    alive = workers / (1 + lost)
    who = "the network" if not figures.ahead or figures.explain >= figures.decode else "decoding"
    return {
        who: alive / figures.image,
        "reading files": figures.read / figures.file,
        "writing maps": figures.write / figures.map,
    }


def plan(figures, images, workers, batch=BATCH):
    """Returns the seconds that images take, and what holds them up."""
    each = rates(figures, workers, batch)
    slowest = min(each, key=each.get)
    if images < workers * batch:
        slowest = "too few batches"  # each worker has one at most
        return batch * figures.image, slowest
    return images / each[slowest], slowest


def simulate(figures, images, workers, seed=0, batch=BATCH):
    """Returns the seconds that a simulation of workers takes: each takes the next batch; a dead one's is given anew.

    The store is left out: it is for `rates`.
    """
    draw, todo, finish = np.random.default_rng(seed), -(-images // batch), 0.0
    events = [(0.0, worker) for worker in range(workers)]
    dies = {worker: draw.exponential(figures.life) for worker in range(workers)}
    while todo:
        now, worker = heapq.heappop(events)
        end = now + batch * figures.image
        if end > dies[worker]:
            now = dies[worker] + figures.restart
            dies[worker] = now + draw.exponential(figures.life)
            heapq.heappush(events, (now, worker))
            continue
        todo, finish = todo - 1, max(finish, end)
        heapq.heappush(events, (end, worker))
    return finish


def measure(explainer, images, files):
    """Returns the figures of this machine."""
    explainer(images), explainer(images)
    explain = min(timed(lambda: explainer(images)) for _ in range(3)) / len(images)
    decode = min(timed(lambda: [decoded(one) for one in files]) for _ in range(3)) / len(files)
    size = float(np.mean([len(one) for one in files]))
    return Figures(explain, decode, size, zarr_bytes(explainer(images[: len(files)]).astype("float16")))


def timed(run):
    """Returns the seconds that a function takes."""
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def encoded(photo):
    """Returns a photograph as a JPEG file."""
    file = io.BytesIO()
    Image.fromarray(photo.astype("uint8")).save(file, "jpeg", quality=90)
    return file.getvalue()


def decoded(file):
    """Returns the pixels of a JPEG file."""
    with Image.open(io.BytesIO(file)) as image:
        return np.asarray(image)


def zarr_bytes(maps):
    """Returns the bytes of a map in a Zarr array: the mean of these, each in a chunk of its own."""
    import zarr

    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(folder, shape=maps.shape, chunks=(1, *maps.shape[1:]), dtype=maps.dtype)
        array[:] = maps
        return sum(path.stat().st_size for path in pathlib.Path(folder).rglob("*") if path.is_file()) / len(maps)


def worded(seconds):
    """Words a time."""
    for unit, length in (("years", 365 * 86400), ("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:,.0f} seconds"


def table(figures):
    """Yields the lines of a table."""
    yield "| images | maps | workers | time | held up by | simulated |"
    yield "|---|---|---|---|---|---|"
    for images, workers in itertools.product(IMAGES, WORKERS):
        seconds, why = plan(figures, images, workers)
        batches = images / BATCH
        simulated = worded(simulate(figures, images, workers)) if batches <= 1e5 else "-"
        size = f"{images * figures.map / 1e12:.3g} TB"
        yield f"| {images:,} | {size} | {workers:,} | {worded(seconds)} | {why} | {simulated} |"


def paragraph(explainer, figures):
    """Returns the lines about one method."""
    explain, decode, read, write = 1e3 * np.array(
        [figures.explain, figures.decode, figures.file / 1e6, figures.map / 1e6]
    )
    costs = f"{explain:.1f} ms to explain an image, {decode:.1f} ms to decode it, {read:.0f} kB to read, {write:.0f} kB"
    costs = f"{type(explainer).__name__}: {costs} to write (float16)."
    return [costs, "", *table(figures), ""]


def check(explainer, images):
    """Yields what Ray's workers do in fact: one, and two."""
    for workers in (1, 2):
        few, many = run_ray(explainer, images, workers)
        rate = (len(images) - BATCH) / (many - few)
        yield f"Ray, {workers} workers on {os.cpu_count()} cores: {rate:.1f} images a second, {few:.0f} s to start"


def run_ray(explainer, images, workers):
    """Returns the seconds that a batch takes, with the start of the workers, and those of all images."""
    import ray

    from vis import scale

    options = {"workers": workers, "batch_size": BATCH}
    scale.start(workers)
    try:
        with tempfile.TemporaryDirectory() as folder:
            few = timed(lambda: scale.explain(explainer, images[:BATCH], folder, **options))
            many = timed(lambda: scale.explain(explainer, images, folder, **options))
            scale.read(folder, len(images))
    finally:
        ray.shutdown()
    return few, many


def main(arguments=None):
    """Runs the example."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few images")
    parser.add_argument("--check", action="store_true", help="explain images by Ray, with one and two workers")
    parser.add_argument("--output", type=pathlib.Path, default=HERE / "output", help="folder for what is written")
    options = parser.parse_args(arguments)
    options.output.mkdir(parents=True, exist_ok=True)

    photos, lines = load_photos(), []
    batch = preprocess(np.resize(photos, (4 if options.quick else BATCH, *photos.shape[1:])))
    model = efficientnet_lite0()
    for explainer in (vis.GradCAM(model), vis.Saliency(model)):
        lines += paragraph(explainer, measure(explainer, batch, [encoded(one) for one in photos]))
    if options.check:
        many = np.resize(batch, (BATCH + (BATCH if options.quick else 20 * BATCH), *batch.shape[1:]))
        lines += check(vis.Saliency(model), many)
    print("\n".join(lines))
    (options.output / "plan.md").write_text("\n".join(lines) + "\n", "utf-8")
    print(f"wrote {options.output / 'plan.md'}")


if __name__ == "__main__":
    main()
