"""The optimisation of one class as an animation, GIF and MP4. Takes a minute."""

import importlib.util

import numpy as np
from classes import visualizer
from recipes import QUICK_STEPS, RANGE, load_network, parse_options, to_pixels

from vis.callbacks import GifGenerator, OptimizerCallback

CLASS = 292  # tiger


class Mp4(OptimizerCallback):
    """Writes the images as a film; needs `pip install imageio-ffmpeg`.

    Args:
        path: The file.
        every: Takes every so many-th step only.
        fps: Images a second. Default 12.
    """

    def __init__(self, path, every, fps=12):
        import imageio.v2 as imageio

        self.every, self._writer = every, imageio.get_writer(path, fps=fps, codec="libx264", quality=8)

    def callback(self, i, named_losses, overall_loss, grads, wrt_value):
        """Appends one image."""
        self._writer.append_data(to_pixels(np.asarray(wrt_value)[0]))

    def on_end(self):
        """Closes the file."""
        self._writer.close()


def main(arguments=None):
    """Runs the example."""
    options = parse_options(__doc__, arguments)
    steps, every = (QUICK_STEPS, 1) if options.quick else (160, 10)
    files = [options.output / "animation.gif"]
    callbacks = [GifGenerator(files[0], RANGE, every=every, deprocess=False)]
    if importlib.util.find_spec("imageio_ffmpeg"):
        files.append(options.output / "animation.mp4")
        callbacks.append(Mp4(files[1], every=max(every // 5, 1)))
    else:
        print("no MP4: it needs `pip install imageio-ffmpeg`")
    visualizer(load_network()).many([CLASS], steps=steps, seed=0, callbacks=callbacks)
    for file in files:
        print(f"wrote {file}")


if __name__ == "__main__":
    main()
