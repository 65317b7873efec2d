"""Figures that notebooks draw by themselves. Imports Matplotlib, so it is imported only where something is drawn."""

import io

from matplotlib.figure import Figure


class ShownFigure(Figure):
    """A Matplotlib figure that a notebook draws when it is the last value of a cell.

    Notebooks draw other figures only once `matplotlib.pyplot` was imported.
    """

    def _repr_png_(self):
        """Returns the figure as a PNG file, as IPython asks for it."""
        file = io.BytesIO()
        self.savefig(file, format="png", bbox_inches="tight")
        return file.getvalue()
