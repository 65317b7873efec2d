"""The seam on PyTorch."""

import keras
import torch
from keras import ops, tree


def value_and_grad(function, inputs):
    """Differentiates with respect to inputs, see `vis.backend.value_and_grad`."""
    with torch.enable_grad():
        inputs = tree.map_structure(_leaf, inputs)
        score, aux = function(inputs)
        flat = torch_gradients(score, tree.flatten(inputs))
    detached = tree.map_structure(_detach, (score, aux))
    return *detached, tree.pack_sequence_as(inputs, flat)


def value_and_grad_at(function, marks, inputs=(), count=None):
    """Differentiates with respect to inner tensors, see `vis.backend.value_and_grad_at`."""
    marked, flat = {}, tree.flatten(inputs)

    def mark(key, tensor):
        torch.set_grad_enabled(True)  # nothing is kept for what lies before
        is_reached = tensor.requires_grad and (marked or flat)
        plain = tensor if not tensor.is_floating_point() else _leaf(tensor)
        marked.setdefault(key, []).append(tensor.view_as(tensor) if is_reached else plain)
        return marked[key][-1]

    with torch.set_grad_enabled(bool(flat)):
        inputs = tree.map_structure(_leaf, inputs)
        score, aux = function(mark, inputs)
        values = [marked[key][call] for key, call in marks]
        sources = [*values, *tree.flatten(inputs)]
        gradients = torch_gradients(score, sources) if count is None else _gradients_of_several(score, sources)
    score, aux, values = tree.map_structure(_detach, (score, aux, values))
    at_inputs = tree.pack_sequence_as(inputs, gradients[len(values) :])
    return score, aux, values, gradients[: len(values)], at_inputs


def _gradients_of_several(scores, sources):
    """Returns the gradients of each column of scores, side by side on the second axis."""
    found = [torch_gradients(column, sources, keeps=True) for column in scores.unbind(1)]
    return [None if parts[0] is None else torch.stack(parts, 1) for parts in zip(*found)]


def torch_gradients(score, sources, keeps=False):
    """Returns the gradients of the summed score, `None` where there is no path.

    Args:
        score: The score.
        sources: Tensors.
        keeps: Whether another gradient will be asked for.
    """
    if not score.requires_grad:
        return [None] * len(sources)
    try:
        known = [tensor for tensor in sources if tensor.requires_grad]  # whole numbers do not
        found = iter(torch.autograd.grad(score.sum(), known, allow_unused=True, retain_graph=keeps) if known else ())
        return [next(found) if tensor.requires_grad else None for tensor in sources]
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise RuntimeError(
            "What the gradient is computed from must not change while the model is explained. Received: a tensor "
            "changed in place, by another thread that trains the model or by a layer's own code. Explain between the "
            "training steps (a callback) or explain a copy, `copy.deepcopy(model)`; let layers make new tensors."
        ) from error


def _leaf(tensor):
    return tensor.detach().clone().requires_grad_(True)


def _detach(value):
    return value.detach() if isinstance(value, torch.Tensor) else value


class _Replaced(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rule, source, x, y):
        ctx.rule = rule
        ctx.save_for_backward(x, y)
        return y.clone()

    @staticmethod
    def backward(ctx, upstream):
        return None, ctx.rule(*ctx.saved_tensors, upstream), None, None


def with_gradient(rule, source, x, y):
    """Gives a value a gradient of its own, see `vis.backend.with_gradient`."""
    return _Replaced.apply(rule, source, x.detach(), y.detach())


def update(optimizer, gradients, variables):
    """Lets an optimizer move variables, see `vis.backend.update`."""
    optimizer.apply(gradients, variables)


def compile(function, variables, eager_first=True):
    """Returns the function as it is, without gradients of its own: PyTorch runs eagerly.

    See `vis.backend.compile`.
    """

    def call(*args, coming=1):
        # Gradients are taken inside, where they are wanted, whatever mode the caller is in.
        with torch.inference_mode(False), torch.no_grad():
            return function(*tree.map_structure(ops.convert_to_tensor, args))

    call.graph = None
    return call


few_times = compile


def compile_loop(step, variables, written):
    """Returns the loop as it is, see `vis.backend.compile_loop`."""

    def call(count, *args):
        with torch.inference_mode(False), torch.no_grad():
            args = tree.map_structure(ops.convert_to_tensor, args)
            for i in range(count):
                step(i, *args)

    call.graph = None
    return call


def compile_rows(function, variables):
    """See `vis.backend.compile_rows`."""
    compiled = compile(function, variables)

    def call(*args, coming=1):
        return compiled(*args)

    call.graph = None
    return call


def weighted_rows(lines, indices, weights):
    """Returns weighted sums of rows, see `vis.backend.weighted_rows`."""
    return sum(lines[:, index] * weight[None, :, None] for index, weight in zip(indices, weights))


def inverse_fourier(real, imaginary, sizes):
    """Returns the real inverse of the Fourier transform, see `vis.backend.inverse_fourier`."""
    return torch.fft.irfftn(torch.complex(real, imaginary), sizes, tuple(range(-len(sizes), 0)))


def device_count(variables):
    """Returns 1: rows go to the device that Keras uses."""
    return 1


def concrete(tensor):
    """Returns a tensor's value, see `vis.backend.concrete`."""
    return tensor.detach().cpu().numpy()


def outside(layer, call, inputs):
    """Calls a layer, see `vis.backend.outside`."""
    return call(inputs)


def trace():
    """Returns what is being traced, see `vis.backend.trace`: nothing is."""
    return None


def untouched(model):
    """Keeps a model's variables as they are, see `vis.backend.untouched`."""
    return keras.StatelessScope()


def picture_writer(directory):
    """Writes pictures for TensorBoard, see `vis.backend.picture_writer`."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(directory)
