"""The loop of feature visualisation: parameters make images, images make losses, losses move parameters.

It knows nothing of what the losses, the parameterization, the transforms and the optimizer are made of.
"""

import keras
import numpy as np
from keras import ops, tree

from vis import backend
from vis.input_modifiers import Compose, Resize

CHUNK = 50  # steps of one compiled call, at most
_DRAWN_VALUES = 2**22  # random numbers that one chunk takes, at most


class Loop:
    """A compiled loop over optimisation steps, with variables of its own.

    Args:
        energy: The losses of the network, a `vis.engine.energy.Energy`.
        regularizers: Losses of the image itself.
        parameterization: What images are made of.
        transform: What they are put through, a `vis.input_modifiers.Transform`.
        optimizer: A Keras optimizer, of which a copy is used.
        shape: Shape of the images, `(N, *spatial, channels)`.
        input_range: `(low, high)`.
    """

    def __init__(self, energy, regularizers, parameterization, transform, optimizer, shape, input_range):
        self._energy, self._regularizers = energy, regularizers
        self._parameterization, self._transform = parameterization, _of_own_size(transform, list(shape[1:-1]))
        self.shape, self._range = tuple(shape), input_range
        example = parameterization.initial(self.shape, np.random.default_rng(0))
        self._parameters = [keras.Variable(array) for array in example]
        self._optimizer = type(optimizer).from_config(optimizer.get_config())
        self._optimizer.build(self._parameters)
        self._fresh = [ops.convert_to_numpy(v.value) for v in self._optimizer.variables]
        drawn = sum(np.size(array) for array in tree.flatten(transform.draw(np.random.default_rng(0), self.shape)))
        self.length = int(np.clip(_DRAWN_VALUES // max(drawn, 1), 1, CHUNK))
        terms = energy.size + len(regularizers)
        self._history = _zeros((self.length, terms + 1, self.shape[0]))  # the losses, and how strong the gradient is
        self._importance = _zeros(self.shape[:-1])
        self._compiled = {}

    def start(self, parameters):
        """Begins anew with parameters."""
        self._begun_with = parameters
        state = [*self._parameters, *self._optimizer.variables, self._importance]
        for variable, array in zip(state, [*parameters, *self._fresh, np.zeros(self.shape[:-1], "float32")]):
            variable.assign(array)

    def restart(self):
        """Begins anew with the same parameters."""
        self.start(self._begun_with)

    def advance(self, count, generator, weights, arguments, rule=None):
        """Runs some steps.

        Args:
            count: How many, at most `length`.
            generator: NumPy's random generator for the transforms.
            weights: One number for each loss and regularizer.
            arguments: Pair of the arguments of the losses and of the regularizers.
            rule: Backward rule, or `None`.

        Returns:
            `(terms, strength)`: the weighted losses `(count, terms, N)`, and the root mean square of the
            losses' gradients `(count, N)` with respect to what the network gets.
        """
        drawn = [self._transform.draw(generator, self.shape) for _ in range(count)]
        drawn += drawn[-1:] * (self.length - count)  # one shape, one compilation
        numbers = tree.map_structure(lambda *parts: _single_precision(np.stack(parts)), *drawn)
        self._run(rule)(count, numbers, weights, arguments)
        found = np.array(ops.convert_to_numpy(self._history.value))[:count]
        return found[:, :-1], found[:, -1]

    def images(self) -> np.ndarray:
        """Returns the images of the parameters as they are now."""
        if "images" not in self._compiled:
            # Compiled from the first call on: run step by step, the last bits would be others.
            self._compiled["images"] = backend.compile(self._decode, [], eager_first=False)
        return np.array(
            ops.convert_to_numpy(self._compiled["images"]([ops.convert_to_numpy(p.value) for p in self._parameters]))
        )

    def importance(self) -> np.ndarray:
        """Returns the sum over the steps of the gradient's size at each place, `(N, *spatial)`."""
        return np.array(ops.convert_to_numpy(self._importance.value))

    def _decode(self, parameters):
        return ops.cast(self._parameterization.decode(parameters, self.shape, self._range), "float32")

    def _run(self, rule):
        if rule not in self._compiled:

            def step(i, numbers, weights, arguments):
                self._step(
                    i, tree.map_structure(lambda array: ops.take(array, i, axis=0), numbers), weights, arguments, rule
                )

            own = [*self._parameters, *self._optimizer.variables, self._history, self._importance]
            self._compiled[rule] = backend.compile_loop(step, [*self._energy.variables, *own], own)
        return self._compiled[rule]

    def _step(self, i, numbers, weights, arguments, rule):
        def score(values):
            *parameters, at_image, at_network = values
            image = self._decode(parameters) + at_image
            changed = self._changed(image, numbers, seen) + at_network
            terms = self._terms(image, changed, arguments, rule) * weights[:, None]
            return ops.sum(terms, axis=0), terms

        # Zeros are added to the images and to what the network gets, to see the gradients there as well.
        seen = (*self.shape[:1], *self._transform.spatial(self.shape[1:-1]), *self.shape[-1:])
        values = [*(p.value for p in self._parameters), ops.zeros(self.shape), ops.zeros(seen)]
        _, terms, (*gradients, at_image, at_network) = backend.value_and_grad(score, values)
        if at_network is None:
            raise ValueError(
                "The loss does not depend on the input by anything that has a gradient. Choose a layer that the input "
                "reaches, and no rounding, argmax or embedding on the way to it."
            )
        backend.update(self._optimizer, gradients, self._parameters)
        sizes = ops.absolute(at_image)
        strength = ops.sqrt(ops.mean(ops.square(at_network), axis=tuple(range(1, len(self.shape)))))
        row = ops.concatenate([terms, strength[None]])[None]
        self._history.assign(ops.slice_update(self._history.value, (i, 0, 0), row))
        self._importance.assign(self._importance.value + ops.sum(sizes, axis=-1))

    def _changed(self, image, numbers, shape):
        changed = self._transform.apply(image, numbers)
        if tuple(changed.shape) != shape:
            raise ValueError(
                f"The transforms must make images of shape {shape}, as their `spatial` says. Received: "
                f"{tuple(changed.shape)} from `apply`."
            )
        return changed

    def _terms(self, image, changed, arguments, rule):
        for_losses, for_regularizers = arguments
        regularizers = [loss.value([image], own)[None] for loss, own in zip(self._regularizers, for_regularizers)]
        losses = self._energy.terms(for_losses, self._to_input(changed), rule)
        return ops.concatenate([losses, *regularizers])

    def _to_input(self, images):
        """Puts images in the layout that the model takes."""
        first = self._energy.input_format == "channels_first" and len(images.shape) > 2
        return ops.moveaxis(images, -1, 1) if first else images


def _of_own_size(transform, sizes):
    """Returns a transform after which images have the size that they had before."""
    return transform if transform.spatial(sizes) == sizes else Compose([transform, Resize(sizes)])


def _single_precision(array):
    return array.astype({"f": "float32", "i": "int32"}.get(array.dtype.kind, array.dtype))


def _zeros(shape):
    return keras.Variable(np.zeros(shape, "float32"), trainable=False)
