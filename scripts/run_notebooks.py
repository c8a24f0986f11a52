"""Execute every notebook of a folder in place, from top to bottom; an error in a cell is an error here."""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

# A command of a terminal that fails is said and forgotten by IPython; here it is an error like any other.
LOUD = """
def _loud(command, _system=get_ipython().system, _names=get_ipython().user_ns):
    _system(command)
    if _names["_exit_code"]:
        raise RuntimeError(f"exit {_names['_exit_code']}: {command}")

get_ipython().system = _loud
"""


def main(folder: Path) -> None:
    """Run them in an empty working directory, so that they show what a newcomer sees; `!arsenal` is this environment's."""
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for path in sorted(folder.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        with tempfile.TemporaryDirectory() as directory:
            NotebookClient(
                notebook,
                timeout=300,
                resources={"metadata": {"path": directory}},
                extra_arguments=[f"--IPKernelApp.exec_lines={LOUD}"],
            ).execute()
        for cell in notebook.cells:
            cell.metadata.pop("execution", None)  # times of one machine
        nbformat.write(notebook, path)
        print(f"{path}: {sum(cell.cell_type == 'code' for cell in notebook.cells)} cells ran")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
