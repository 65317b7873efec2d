"""The seam on PyTorch."""

import torch
from keras import ops, tree


def value_and_grad(function, inputs):
    """Differentiates a per-sample score with respect to its inputs.

    Args:
        function: `function(inputs) -> (score (N,), aux)`.
        inputs: A tensor or a structure of tensors.

    Returns:
        `(score, aux, gradients)`; a gradient is `None` where the score does not depend on
        that input. The parameters' `.grad` stay as they are.
    """
    with torch.enable_grad():
        inputs = tree.map_structure(_leaf, inputs)
        score, aux = function(inputs)
        flat = torch_gradients(score, tree.flatten(inputs))
    detached = tree.map_structure(_detach, (score, aux))
    return *detached, tree.pack_sequence_as(inputs, flat)


def value_and_grad_at(function, call=-1):
    """Differentiates a per-sample score with respect to a tensor inside its computation.

    Args:
        function: `function(mark) -> (score (N,), aux)`. It must pass the tensor through
            `mark` and go on with what that returns.
        call: Which passage counts, if there are several. Default: the last.

    Returns:
        `(score, aux, value, gradient)`; the gradient is `None` where the score does not
        depend on the value.
    """
    marked = []

    def mark(tensor):
        torch.set_grad_enabled(True)  # nothing is kept for what lies before
        marked.append(tensor if marked and tensor.requires_grad else _leaf(tensor))
        return marked[-1]

    with torch.set_grad_enabled(False):
        score, aux = function(mark)
        value = marked[call]
        (gradient,) = torch_gradients(score, [value])
    score, aux, value = tree.map_structure(_detach, (score, aux, value))
    return score, aux, value, gradient


def torch_gradients(score, sources):
    """Returns the gradients of the summed score, `None` where there is no path."""
    if not score.requires_grad:
        return [None] * len(sources)
    return list(torch.autograd.grad(score.sum(), sources, allow_unused=True))


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
    """Returns `y`, whose gradient with respect to `source` is `rule(x, y, upstream)`.

    Args:
        rule: Pure function of three tensors of one shape.
        source: The tensor that receives the gradient. Nothing else receives any.
        x: First argument of the rule.
        y: The value, and the second argument of the rule.
    """
    return _Replaced.apply(rule, source, x.detach(), y.detach())


def compile(function, variables, eager_first=True):
    """Returns `function(*tensors)` as it is: PyTorch runs eagerly.

    Args:
        function: Pure function of structures of tensors.
        variables: The Keras variables it reads.
        eager_first: Has no effect here.
    """

    def call(*args):
        args = tree.map_structure(ops.convert_to_tensor, args)
        with torch.no_grad():  # gradients are taken inside, where they are wanted
            return function(*args)

    call.graph = None
    return call
