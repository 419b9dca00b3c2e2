"""Map and reduce: a task for each item, wherever tasks run, and their values reduced in the order of the items."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import inspect
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import luigi

from superluigi import formats
from superluigi.errors import DefinitionError, StorageAccessError
from superluigi.parameters.annotations import annotation_of
from superluigi.parameters.checked import task_reference
from superluigi.parameters.const import ConstantValue
from superluigi.parameters.references import replaced, tasks_in
from superluigi.storage.local_names import local_name
from superluigi.tasks import values
from superluigi.tasks.atomic import AtomicTaskWithMetadata
from superluigi.tasks.runtime import attempt_context, checkpoint

#: So often `items` may give others in one run: files come in while their folder is listed. Else the run has no end.
_MOST_CHANGES = 10


class MapReduceTask(AtomicTaskWithMetadata):
    """A task that maps each of its items in a task of its own and reduces the values.

        class SumOfSquares(MapReduceTask):
            numbers: Param[list[int]]
            accumulator = 0
            def items(self): return self.numbers
            def map(self, item): return item * item
            def reduce(self, accumulator, value): return accumulator + value

    `items`, a method or an attribute, gives values or tasks (whose values are then mapped); it must give the same
    ones whenever it is asked. `reduce` is called in the order of the items on every executor, starting from
    `accumulator` (a method or an attribute), which is the result when there is nothing to map. `items` and `map`
    may also take `inputs`, the values of `requires()`. The mapped values are kept: adding an item maps only that.
    """

    _superluigi_keeps_none = True
    read_mode = "shared"
    #: Where reducing begins; also the result of nothing.
    accumulator: ClassVar[Any]
    if TYPE_CHECKING:

        def items(self, *args: Any, **kwargs: Any) -> Any: ...
        def map(self, *args: Any, **kwargs: Any) -> Any: ...
    else:
        items = ()

        def map(self, item):
            """The value of one item."""
            raise DefinitionError(f"{type(self).__name__} needs a method map(self, item).")

    def reduce(self, accumulator: Any, value: Any) -> Any:
        """The next accumulator."""
        raise DefinitionError(f"{type(self).__name__} needs a method reduce(self, accumulator, value).")

    def run(self) -> Any:
        steps = [MapItem(owner=self, item=item) for item in self._superluigi_items()]
        if steps:
            self._superluigi_refuse_endless(steps)
            yield steps
        reader = self.current_attempt().reader
        result = copy.deepcopy(self._superluigi_start())
        for step in steps:
            result = self.reduce(result, reader.value(step))
        return result

    def _superluigi_items(self) -> Iterable[Any]:
        items: Any = self.items
        given = items(**_named(items, self, self.current_attempt().reader)) if callable(items) else items
        used = inspect.isgenerator(given) and inspect.getgeneratorstate(given) == inspect.GEN_CLOSED
        if used or isinstance(inspect.getattr_static(self, "items"), Iterator):  # the next attempt would find none
            raise DefinitionError(
                f"items of {self} is an iterator, which gives what it has once, and a task begins anew after it has "
                "asked for tasks. Make it a list, or a method that makes one."
            )
        return list(given)

    def _superluigi_refuse_endless(self, steps: list[MapItem]) -> None:
        here = attempt_context.get(self)
        said = hashlib.sha256("\n".join(sorted(step.task_id for step in steps)).encode()).hexdigest()
        with contextlib.suppress(OSError, StorageAccessError):  # nothing can be kept there
            if here is not None and checkpoint.count(here, said) > _MOST_CHANGES:
                raise DefinitionError(
                    f"items() of {self} has given other items {_MOST_CHANGES} times in this run, the last time "
                    f"{[step.item.value for step in steps]!r:.200}. It must give the same ones whenever it is asked: "
                    "make what is drawn, or read from a clock, a parameter of the task."
                )

    def _superluigi_start(self) -> object:
        if not hasattr(self, "accumulator"):
            raise DefinitionError(f"{type(self).__name__} needs an accumulator: where reducing begins.")
        return self.accumulator() if inspect.ismethod(self.accumulator) else self.accumulator


class MapItem(AtomicTaskWithMetadata):
    """One item of a `MapReduceTask`."""

    task_namespace = "superluigi"
    _superluigi_keeps_none = True
    owner: Any = task_reference(MapReduceTask)
    item: Any = ConstantValue()

    @property
    def resources(self) -> Any:
        """Those of the whole."""
        return self.owner.resources

    @property
    def priority(self) -> Any:
        """That of the whole."""
        return self.owner.priority

    def requires(self) -> list[luigi.Task]:
        return [*self.owner.deps(), *tasks_in(self.item.value)]

    def output(self) -> Any:
        suffix = formats.suffix_for(annotation_of(type(self.owner).map, "return"))
        return values.in_store(f"{local_name(self.owner.get_task_family())}/items/{self.task_hash}{suffix}")

    def run(self) -> Any:
        reader = self.current_attempt().reader
        item = replaced(self.item.value, reader.value)
        return self.owner.map(item, **_named(self.owner.map, self.owner, reader))


def _named(method: Any, owner: MapReduceTask, reader: values.Reader) -> dict[str, object]:
    wants = "inputs" in inspect.signature(method).parameters
    return {"inputs": values.lazy(values.input_structure(owner), reader.value)} if wants else {}
