"""`layers`: the layers of a model, by the paths that `--layer` takes."""

from vis.commands.shared import load, say
from vis.engine.graph import layers
from vis.utils.validation import printable


def run(options):
    """Prints a table of the layers."""
    rows = [("layer", "kind", "output")]
    for path, found in layers(load(options.model)):
        path = printable(path)
        try:
            shape = str(tuple(found.output.shape))
        except (AttributeError, ValueError):
            shape = "?"
        rows.append((path, type(found).__name__, shape))
    widths = [max(len(row[i]) for row in rows) for i in range(2)]
    for path, kind, shape in rows:
        say(f"{path:{widths[0]}}  {kind:{widths[1]}}  {shape}")
