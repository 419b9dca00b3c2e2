"""Methods whose result is a file: computed once, under a lock, for all processes."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import luigi

from superluigi import config, formats, graph
from superluigi.arguments import guarded
from superluigi.errors import DefinitionError, FormatError, OutputNotWrittenError, repeated
from superluigi.formats.registry import COMPRESSIONS, candidates
from superluigi.parameters.adapters.basic import canonical
from superluigi.parameters.adapters.factory import Anything
from superluigi.storage.local_names import local_name, safe_component
from superluigi.targets.base import AtomicTarget
from superluigi.tasks import values
from superluigi.tasks.base import hash_of

Value = TypeVar("Value")


@guarded
def cached(name: str) -> Callable[[Callable[..., Value]], CachedMethod[Value]]:
    """Make a method's result a file: `@cached("terms.npy") def terms(self, path): np.save(path, …)`.

    `self.terms()` returns the loaded value; `self.terms.path()` the path of the file; `self.terms.clear()` removes
    it. The method runs at most once for a task, whichever process asks first; the others wait for it. It writes
    to `path`, or takes no `path` and returns the value. The file lies in the store, beside the default home of the
    task: `<store>/<task_family>/<task_hash>.parts/<name>`.

    Raises:
        DefinitionError: the name is no file name, or the method takes more.
    """
    if not name or "/" in name or name in (".", ".."):
        raise DefinitionError(f"@cached({name!r}): give the name of a file, such as 'terms.npy'.")
    plain = Path(name).with_suffix("") if Path(name).suffix in COMPRESSIONS else Path(name)
    try:
        candidates(plain.suffix, path=name)
    except FormatError as error:
        raise DefinitionError(f"@cached({name!r}): {error}") from repeated(error)

    def decorate(method: Callable[..., Value]) -> CachedMethod[Value]:
        asked = [*inspect.signature(method).parameters.values()][1:] if inspect.isfunction(method) else []
        needed = {argument.name for argument in asked if argument.default is argument.empty}
        if not inspect.isfunction(method) or inspect.iscoroutinefunction(method) or needed - {"path"}:
            raise DefinitionError(
                f"@cached({name!r}) keeps one value: that of a method that takes self, or self and path, and not of "
                f"{getattr(method, '__name__', method)!r}. What a value depends on is a parameter of its task."
            )
        return CachedMethod(method, name)

    return decorate


class CachedMethod(Generic[Value]):
    """The method on the class; on a task it is a `CachedPart`."""

    def __init__(self, method: Callable[..., Value], name: str) -> None:
        self.method, self.name = method, name
        self.__doc__ = method.__doc__

    @overload
    def __get__(self, task: None, owner: object) -> CachedMethod[Value]: ...
    @overload
    def __get__(self, task: object, owner: object) -> CachedPart[Value]: ...
    def __get__(self, task: object, owner: object) -> object:
        return self if task is None else CachedPart(task, self.method, self.name)


class CachedPart(Generic[Value]):
    """The file of one cached method of one task."""

    def __init__(self, task: object, method: Callable[..., Value], name: str) -> None:
        self._task, self._method, self.name = task, method, name

    @property
    def target(self) -> AtomicTarget:
        """Where the file lies."""
        family, identity = self._owner
        return values.in_store(f"{local_name(family)}/{identity}.parts/{self.name}")

    @property
    def _owner(self) -> tuple[str, str]:
        """The family and hash of the task; of another object (one that is a parameter, say) class and content."""
        if isinstance(self._task, luigi.Task):
            return self._task.get_task_family(), hash_of(self._task)
        kind = type(self._task)
        try:
            text = canonical(Anything().encode(Anything().check(self._task)))
        except (TypeError, ValueError) as error:
            raise DefinitionError(
                f"@cached {self._method.__name__} needs to know what its object is, but {self._task!r:.100} is no "
                f"task, and cannot be written as a parameter: expected is {error}."
            ) from error
        return kind.__qualname__, graph.digest(text)[:32]

    def __call__(self) -> Value:
        """The value: computed if no process has done so, else loaded."""
        target = self._made()
        with contextlib.ExitStack() as stack:
            value: Value = values.Reader(stack).content(target)
        return value

    def path(self) -> Any:
        """The path of the file (`s3://…` text in an S3 store), computed if need be."""
        return self._made().path

    def exists(self) -> bool:
        """Whether it was computed already."""
        return self.target.exists()

    def clear(self) -> None:
        """Remove the file; the next call computes it again."""
        self.target.remove()

    def _made(self) -> AtomicTarget:
        target = self.target
        if target.exists():
            return target
        folder = Path(config.get("workspace")) / "locks"
        family, identity = self._owner
        from filelock import FileLock  # of what importing this package takes, a tenth

        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # a workspace that takes no files: two may compute it
                folder.mkdir(parents=True, exist_ok=True)
                lock = f"{family}-{identity}-{self.name}".replace("/", "%")
                stack.enter_context(FileLock(folder / f"{safe_component(lock)}.lock"))
            if not target.exists():  # another process may have been faster
                self._compute(target)
        return target

    def _compute(self, target: AtomicTarget) -> None:
        with target.stage() as staged:
            if "path" in inspect.signature(self._method).parameters:
                self._method(self._task, path=staged.path)
                if not staged.path.exists():
                    raise OutputNotWrittenError(f"{self._task}.{self._method.__name__} did not write to path.")
            else:
                formats.save(self._method(self._task), staged.path, shown=target.path)
            staged.commit(None)
