"""Executes notebooks in their own folders, without changing them.

Fails if a cell fails, or if a notebook was committed with outputs.
"""

import pathlib
import sys

import nbclient
import nbformat


def main(paths):
    """Runs each notebook."""
    for path in map(pathlib.Path, paths):
        notebook = nbformat.read(path, as_version=4)
        if any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells):
            raise SystemExit(f"{path} was committed with outputs: clear them.")
        nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}}).execute()
        print(f"{path}: {sum(cell.cell_type == 'code' for cell in notebook.cells)} cells ran")


if __name__ == "__main__":
    main(sys.argv[1:])
