"""A notebook as a task: its executed copy is the output."""

from __future__ import annotations

import hashlib
import json
import pickle
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superluigi.errors import ExecutionError, FormatError, MissingDependencyError, TargetMissingError
from superluigi.parameters.checked import parameter_for
from superluigi.parameters.references import replaced
from superluigi.tasks import extra_identity
from superluigi.tasks.atomic import AtomicTaskWithMetadata
from superluigi.tasks.base import TaskMeta

_INPUTS = """\
# inputs of the task, put here by superluigi
import pickle as _pickle
with open({path!r}, "rb") as _file:
    globals().update(_pickle.load(_file))
"""


class _NotebookMeta(TaskMeta):
    if TYPE_CHECKING:

        def __call__(cls, path: Any, inputs: object = None, **values: object) -> NotebookTask: ...  # noqa: N805
    else:

        def __call__(cls, *args: object, **kwargs: object) -> Any:  # noqa: N805  a metaclass
            """Keywords that are no parameters are inputs; what the cells say is part of the identity."""
            names = {name for name, _ in cls.get_params()} | set(extra_identity.NAMES)
            extra = {name: kwargs.pop(name) for name in list(kwargs) if name not in names}
            if extra:
                kwargs["inputs"] = {**kwargs.get("inputs", {}), **extra}
            path = args[0] if args else kwargs.get("path")
            if isinstance(path, (str, Path)) and "cells" not in kwargs:
                kwargs["cells"] = _digest(Path(path))
            return super().__call__(*args, **kwargs)


class NotebookTask(AtomicTaskWithMetadata, metaclass=_NotebookMeta):
    """Run a notebook: `NotebookTask("report.ipynb", features=Features(day), title="May")`.

    The inputs, values or tasks (whose values they then are), are variables of the notebook: they are set in a cell
    after the one tagged `parameters`, or before the first. The cells run in the notebook's folder, in the kernel
    that the notebook names. The executed copy is the output; a cell that fails fails the task, and nothing is
    published. Editing a cell makes another task, running the notebook by hand does not. Needs
    `superluigi[notebook]`.
    """

    path: Any = parameter_for(Path)
    inputs: Any = parameter_for(dict[str, Any], default={})
    cells: Any = parameter_for(str, positional=False)
    #: Seconds that one cell may take; None is no limit.
    cell_timeout_s: int | None = None
    suffix = ".ipynb"

    def run(self, output_path: Path) -> None:
        nbformat, nbclient = _packages()
        notebook = nbformat.read(self.path, as_version=4)
        held = self.param_kwargs["inputs"].value
        values = replaced(held, self.current_attempt().reader.value)
        with tempfile.TemporaryDirectory(prefix="superluigi-notebook-") as folder:
            if values:
                file = Path(folder) / "inputs.pickle"
                file.write_bytes(_pickled(values))
                notebook.cells.insert(_cell_index(notebook), nbformat.v4.new_code_cell(_INPUTS.format(path=str(file))))
            where = {"metadata": {"path": str(Path(self.path).absolute().parent)}}
            client = nbclient.NotebookClient(notebook, timeout=self.cell_timeout_s, resources=where)
            try:
                client.execute()
            except nbclient.exceptions.CellExecutionError as error:
                raise ExecutionError(f"{self.path} failed in a cell: {error.ename}: {error.evalue}\n{error}") from error
        nbformat.write(notebook, output_path)

    def load_output(self, path: Path) -> Any:
        """The executed notebook, as an `nbformat` object."""
        return _packages()[0].read(path, as_version=4)


def _digest(path: Path) -> str:
    """A digest of what the cells say, blind to outputs and counters."""
    try:
        content = json.loads(path.read_bytes())
        cells = [[cell["cell_type"], "".join(cell["source"])] for cell in content["cells"]]
    except FileNotFoundError as error:
        raise TargetMissingError(f"There is no notebook {path} (current folder: {Path.cwd()}).") from error
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{path} is no notebook in the format of version 4: {error!r}.") from error
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()[:16]


def _cell_index(notebook: Any) -> int:
    for at, cell in enumerate(notebook.cells):
        if "parameters" in cell.get("metadata", {}).get("tags", ()):
            return at + 1
    return 0


def _pickled(values: Any) -> bytes:
    try:
        return pickle.dumps(dict(values))
    except Exception as error:  # pickling runs the values' own code, which may raise anything
        raise FormatError(f"The inputs of a notebook must be picklable: {error}") from error


def _packages() -> tuple[Any, Any]:
    try:
        import nbclient
        import nbformat
    except ImportError as error:
        raise MissingDependencyError(f"NotebookTask needs {error.name}: pip install 'superluigi[notebook]'.") from error
    return nbformat, nbclient
