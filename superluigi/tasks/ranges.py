"""Luigi's range tools over our tasks: which of many points in time are complete."""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterable
from typing import Any

from luigi.local_target import LocalFileSystem
from luigi.target import FileSystemTarget
from luigi.task import MixinNaiveBulkComplete

from superluigi import graph
from superluigi.errors import DefinitionError
from superluigi.luigi_compat.parameters import DateParameterBase, DatetimeParameterBase
from superluigi.targets.base import AtomicTarget


def complete_ones(make: object, values: Iterable[object], says_itself: bool) -> object:
    """Those of `values` whose task is complete; each task is asked.

    `make` is a task class, or what Luigi's range tools hand over: a partial of one, without the name of the
    parameter that the range is about. `says_itself`: the class has a `complete()` of its own.

    Raises:
        NotImplementedError: Luigi knows better: by one listing of a file system of its own, or by the name.
        DefinitionError: which of several parameters is meant cannot be told.
    """
    values = list(values)
    if not isinstance(make, functools.partial) or not values:
        return vars(MixinNaiveBulkComplete)["bulk_complete"].__func__(make, values)
    names = _candidates(make, values[0])
    targets = [] if says_itself else graph.flatten(make(**{names[0]: values[0]}).output())
    if targets and all(map(_is_listed, targets)):
        raise NotImplementedError(f"the outputs of {make.func.__name__} can be listed")
    if len(names) > 1 and names[0] != _free(make)[0][0]:
        raise DefinitionError(
            f"{make.func.__name__} has several parameters that a range may be about ({', '.join(names)}), and Luigi's "
            "range tools do not say which. Give the one that is meant no default, or write a bulk_complete()."
        )
    return [value for value in values if make(**{names[0]: value}).complete()]


def _free(make: Any) -> list[tuple[str, Any]]:
    return [(n, p) for n, p in make.func.get_params() if p.positional and n not in make.keywords]


def _candidates(make: Any, value: Any) -> list[str]:
    """The parameters that `value`, a point in time, may be meant for; only one where that is certain.

    By default Luigi means the first one; it may be told another one (`param_name`).
    """
    family, free = make.func.task_family, _free(make)
    needed = [name for name, parameter in free if not parameter.has_task_value(family, name)]
    kind = DatetimeParameterBase if isinstance(value, datetime.datetime) else DateParameterBase
    fitting = [name for name, parameter in free if isinstance(parameter, kind)]
    return needed if len(needed) == 1 else fitting or [name for name, _ in free[:1]]


def _is_listed(target: object) -> bool:
    """Whether Luigi lists such outputs; on local disks it would look for its patterns as if they were names."""
    if isinstance(target, AtomicTarget) or not isinstance(target, FileSystemTarget):
        return False
    return not isinstance(target.fs, LocalFileSystem)
