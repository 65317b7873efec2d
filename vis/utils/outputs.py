"""What a model's graph says of a layer's output, without its being run."""

from vis.utils.validation import shown


def layer_output(layer):
    """Returns the symbolic output of a layer's first call, or of a `Sequential`.

    Raises:
        ValueError: The layer was never called on a symbolic input.
    """
    try:
        output = layer.output
    except (AttributeError, ValueError) as error:
        outputs = getattr(layer, "outputs", None) or []
        if len(outputs) != 1:
            raise ValueError(
                f"{_words(layer)} has no symbolic output. Received: {shown(layer)}, expected: a layer of a built "
                "Functional "
                "or Sequential model. Build the model first (give it an `Input`), or pass the model itself instead of "
                "its input tensor."
            ) from error
        output = outputs[0]
    if isinstance(output, (list, tuple, dict)):
        raise ValueError(f"{_words(layer)} puts out {len(output)} tensors. Choose a layer with a single output.")
    return output


def known_shape(layer):
    """Returns the shape of a layer's output as far as its graph tells, or `None`."""
    try:
        return tuple(layer_output(layer).shape)
    except ValueError:
        return None


def _words(layer):
    return f"layer {shown(getattr(layer, 'name', layer))}"
