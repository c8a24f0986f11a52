"""Execute every notebook of a folder in place, from top to bottom; an error in a cell is an error here."""

import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient


def main(folder: Path) -> None:
    """Run them in an empty working directory, so that they show what a newcomer sees."""
    for path in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as directory:
            NotebookClient(notebook, timeout=300, resources={"metadata": {"path": directory}}).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times of one machine
        nbformat.write(notebook, path)
        print(f"{path}: {sum(cell.cell_type == 'code' for cell in notebook.cells)} cells ran")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
