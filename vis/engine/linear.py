"""Linear layers with other weights: what a layer does before its activation, its batch normalisation included.

Relevance is shared by what single weights do to an output: the positive ones only, say. So a rule gets the layer as a
`LinearMap`: called, it gives the layer's own output; `changed` gives that of other weights, made by the layer's own
code.
"""

import keras
from keras import ops

from vis.engine.graph import ancestors, has_graph, walk
from vis.engine.taps import shadowed
from vis.utils.internals import children

# Layers whose activation comes last.
LINEAR = (keras.layers.Dense, keras.layers.EinsumDense)
SEPARABLE = (keras.layers.SeparableConv1D, keras.layers.SeparableConv2D)
DEPTHWISE = (keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D)
TRANSPOSED = (keras.layers.Conv1DTranspose, keras.layers.Conv2DTranspose, keras.layers.Conv3DTranspose)
CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    *TRANSPOSED,
    *DEPTHWISE,
    *SEPARABLE,
)


class LinearMap:
    """A linear layer on one input: y = kernel x + bias.

    Args:
        call: Function `x -> y`, the layer itself.
        x: The input.
        kernel: The kernel, a tensor; `None` where it cannot be changed.
        bias: What is added, a tensor that fits y; `None` for nothing.
        run: Function `(x, kernel) -> y` without the bias.
        layer: The layer.
        form: Function `(vector, "inputs" or "outputs") -> tensor`, which gives a number for each channel the form of
            the kernel.
    """

    is_nonnegative = False  # whether the input is known to hold nothing negative
    has_own_bias = True  # whether the bias is the layer's, not what another output of the layer makes of a shift

    def __init__(self, call, x, kernel, bias, run, layer, form):
        self._call, self.x, self._own = call, x, []
        self._kernel, self._bias, self._run = kernel, bias, run
        self.layer, self._form = layer, form

    def __call__(self, x, *args, **kwargs):
        """Returns the layer's own output."""
        if x is not self.x:
            return self._call(x)
        if not self._own:
            self._own.append(self._call(x))
        return self._own[0]

    def changed(self, x, kernel, bias=None):
        """Returns the output of other weights.

        Args:
            x: The input.
            kernel: Function of the kernel: what is used in its place.
            bias: Function of the bias; `None` for no bias.

        Raises:
            ValueError: The layer has no kernel that can be changed, see `has_own_kernel`.
        """
        if self._kernel is None:
            raise ValueError(f"Layer {self.layer.name!r} has no kernel that can be changed.")
        z = self._run(x, kernel(self._kernel))
        return z if bias is None or self._bias is None else z + ops.cast(bias(self._bias), z.dtype)

    def followed_by(self, scale, shift, call, channels, at_once=False):
        """Returns the map with a scale and a shift of its output channels behind it.

        Args:
            scale: A number for each channel.
            shift: What is added afterwards.
            call: Function `y -> output`: the two, as the normalisation itself does them.
            channels: Function of a vector: the vector in a form that fits y.
            at_once: Whether the output may be that of one kernel and bias, which differs from `call` by rounding. It
                takes a pass less forth and back, but another run of the layer where the first is not left out.
        """
        bias = channels(shift) if self._bias is None else self._bias * channels(scale) + channels(shift)
        kernel = None if self._kernel is None else _times(self._kernel, self._form(scale, "outputs"))
        is_one = at_once and kernel is not None and self.has_own_bias
        own = (lambda x: self._run(x, kernel) + bias) if is_one else (lambda x: call(self(x)))
        found = LinearMap(own, self.x, kernel, bias, self._run, self.layer, self._form)
        found.is_nonnegative, found.has_own_bias = self.is_nonnegative, self.has_own_bias
        return found

    def preceded_by(self, scale, x):
        """Returns the map of what was scaled and shifted, channel by channel, into this one's input.

        Args:
            scale: A number for each channel.
            x: What was scaled.
        """
        if self._kernel is None:
            return self
        kernel = _times(self._kernel, self._form(scale, "inputs"))
        bias = self(self.x) - self._run(x, kernel)  # a tensor: at borders the shift meets fewer weights
        found = LinearMap(lambda _: self(self.x), x, kernel, bias, self._run, self.layer, self._form)
        found.has_own_bias = False
        return found


def _times(kernel, factors):
    return kernel * ops.cast(factors, kernel.dtype)


def linear_maps(layer, call, x, args, kwargs):
    """Returns the linear maps that a layer is made of, as functions of the input of each: one, or two if separable.

    Args:
        layer: A layer of `LINEAR` or `CONVOLUTIONS`.
        call: Its call, without its activation.
        x: Its input.
        args: What its call takes besides.
        kwargs: The same, by name.
    """
    if isinstance(layer, SEPARABLE):
        return [lambda x: _depthwise(layer, x), lambda x: _pointwise(layer, x)]
    return [lambda x: _whole(layer, lambda x: call(x, *args, **kwargs), x)]


def has_own_kernel(layer) -> bool:
    """Tells whether a linear layer's weights are a kernel and at most a bias, so that the kernel can be changed."""
    return isinstance(layer, SEPARABLE) or _kernel_variable(layer) is not None


def input_channels(layer) -> int:
    """Returns how many channels a linear layer takes."""
    if isinstance(layer, SEPARABLE):
        return layer.depthwise_kernel.shape[-2]
    if isinstance(layer, keras.layers.EinsumDense):
        inputs, kernel, _ = _einsum_letters(layer)
        return layer.kernel.shape[kernel.index(inputs[-1])]
    return layer.kernel.shape[-1 if isinstance(layer, TRANSPOSED) else -2] * getattr(layer, "groups", 1)


def _whole(layer, call, x):
    variable = _kernel_variable(layer)
    kernel = None if variable is None else ops.convert_to_tensor(variable.value)
    has_bias = getattr(layer, "bias", None) is not None
    bias = _bias_in_place(layer, x) if has_bias else None

    def run(x, kernel):
        values = [(one, one.value) for one in layer.variables if one is not variable]
        values = [(one, ops.zeros_like(v) if has_bias and one is layer.bias else v) for one, v in values]
        with keras.StatelessScope([*values, (variable, ops.cast(kernel, variable.dtype))]):
            return call(x)

    return LinearMap(call, x, kernel, bias, run, layer, lambda vector, end: _in_form_of(layer, kernel, vector, end))


def _kernel_variable(layer):
    """Returns the variable that is the kernel, or `None` where the kernel is computed, or not the only weight."""
    kernel = getattr(layer, "kernel", None)
    own = [one for one in layer.variables if one is not getattr(layer, "bias", None)]
    return kernel if len(own) == 1 and own[0] is kernel else None


def _bias_in_place(layer, x):
    bias = ops.convert_to_tensor(layer.bias.value)
    if getattr(layer, "data_format", None) == "channels_first":
        return ops.reshape(bias, (1, -1, *[1] * (len(x.shape) - 2)))
    return bias


def _in_form_of(layer, kernel, vector, end):
    """Gives a number for each input or output channel the form of a kernel."""
    shape = kernel.shape
    if isinstance(layer, DEPTHWISE):
        return ops.reshape(vector, shape[-2:] if end == "outputs" else (shape[-2], 1))
    if isinstance(layer, keras.layers.EinsumDense):
        return ops.reshape(vector, _einsum_form(layer, end, shape))
    groups = getattr(layer, "groups", 1)
    if end == "inputs" and groups > 1:  # each filter sees the channels of its group
        apart = ops.transpose(ops.reshape(vector, (groups, -1)))
        return ops.repeat(apart, shape[-1] // groups, axis=1)
    is_last = isinstance(layer, TRANSPOSED) == (end == "inputs")
    return vector if is_last else ops.reshape(vector, (-1, 1))


def _einsum_form(layer, end, shape):
    inputs, kernel, outputs = _einsum_letters(layer)
    letter = (outputs if end == "outputs" else inputs)[-1]
    return [size if one == letter else 1 for one, size in zip(kernel, shape)]


def _einsum_letters(layer):
    left, outputs = layer.equation.split("->")
    return [*left.split(","), outputs]


def _depthwise(layer, x):
    kernel, form = ops.convert_to_tensor(layer.depthwise_kernel.value), layer.data_format

    def run(x, kernel):
        own = ops.cast(kernel, x.dtype)
        return ops.depthwise_conv(x, own, layer.strides, layer.padding, form, dilation_rate=layer.dilation_rate)

    def in_form(vector, end):
        return ops.reshape(vector, (-1, 1)) if end == "inputs" else ops.reshape(vector, kernel.shape[-2:])

    return LinearMap(lambda x: run(x, kernel), x, kernel, None, run, layer, in_form)


def _pointwise(layer, x):
    kernel, form = ops.convert_to_tensor(layer.pointwise_kernel.value), layer.data_format
    bias = None if layer.bias is None else _bias_in_place(layer, x)

    def run(x, kernel):
        return ops.conv(x, ops.cast(kernel, x.dtype), 1, "valid", form)

    def call(x):
        z = run(x, kernel)
        return z if bias is None else z + ops.cast(bias, z.dtype)

    def in_form(vector, end):
        return vector if end == "outputs" else ops.reshape(vector, (-1, 1))

    return LinearMap(call, x, kernel, bias, run, layer, in_form)


def affine(normalization):
    """Returns the scale and the shift, for each channel, of a batch normalisation at inference."""
    mean, variance = (ops.convert_to_tensor(one) for one in _statistics(normalization))
    scale = ops.rsqrt(variance + normalization.epsilon)
    if normalization.scale:
        scale = scale * ops.convert_to_tensor(normalization.gamma)
    shift = -mean * scale
    return scale, shift + ops.convert_to_tensor(normalization.beta) if normalization.center else shift


def _statistics(normalization):
    return normalization.moving_mean, normalization.moving_variance


def channels_of(normalization, x):
    """Returns a function that gives a number for each channel the form of what a batch normalisation takes."""
    axis, rank = normalization.axis % len(x.shape), len(x.shape)
    return lambda vector: ops.reshape(vector, [-1 if i == axis else 1 for i in range(rank)])


def fits_outputs(normalization, layer, y) -> bool:
    """Tells whether a batch normalisation scales the output channels of a linear layer."""
    return _is_channel(normalization, layer, y, "outputs")


def fits_inputs(normalization, layer, x) -> bool:
    """Tells whether a batch normalisation scales the input channels of a linear layer."""
    return not isinstance(layer, SEPARABLE) and _is_channel(normalization, layer, x, "inputs")


def _is_channel(normalization, layer, tensor, end):
    rank = len(tensor.shape)
    is_first = getattr(layer, "data_format", None) == "channels_first"
    if normalization.axis % rank != (1 if is_first else rank - 1):
        return False
    if not isinstance(layer, keras.layers.EinsumDense):
        return True
    inputs, kernel, outputs = _einsum_letters(layer)
    return (outputs if end == "outputs" else inputs)[-1] in kernel.replace(".", "")


def without_activation(layer, call):
    """Returns a layer's call without the activation that ends it."""

    def linear(*args, **kwargs):
        with shadowed(), shadowed([(layer, "activation", keras.activations.linear)]):
            return call(*args, **kwargs)

    return linear


def first_linear_layers(root) -> list:
    """Returns the linear layers that take the inputs of a model, in nested models too: those with none before them.

    Of a subclassed model, whose order is not known, the first on the walk. An embedding is a linear layer in this.
    """
    if not has_graph(root):
        found = [operation for _, operation in walk(root) if _is_linear(operation)]
        return [one for one in found[:1] if not isinstance(one, keras.layers.Embedding)]
    return [
        first
        for operation in children(root)
        if _holds_linear(operation) and not any(_holds_linear(before) for before in ancestors(operation))
        for first in _firsts_within(operation)
    ]


def _firsts_within(operation):
    if isinstance(operation, LINEAR + CONVOLUTIONS):
        return [operation]
    return [] if isinstance(operation, keras.layers.Embedding) else first_linear_layers(operation)


def _is_linear(operation):
    return isinstance(operation, (*LINEAR, *CONVOLUTIONS, keras.layers.Embedding))


def _holds_linear(operation):
    return _is_linear(operation) or any(_is_linear(inner) for _, inner in walk(operation))
