"""Attributes that are computed when they are first asked for, and then stay."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or sys.version_info >= (3, 12):
    from functools import cached_property as lazy
else:

    class lazy(functools.cached_property):  # noqa: N801 - it stands for that one
        """`functools.cached_property` as it is from Python 3.12 on; before, each first look takes a lock."""

        def __get__(self, instance: object, owner: object = None) -> object:
            if instance is None:
                return self
            value = instance.__dict__[self.attrname] = self.func(instance)
            return value


__all__ = ["lazy"]
