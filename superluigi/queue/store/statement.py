"""SQL that every task needs, handed to the driver as it is.

SQLAlchemy's way to the driver costs five times what such a statement does; it stays in charge of the
connection, the transaction and everything that is not done once a task.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection

_NAME = re.compile(r"(?<!:):([a-z_]+)")


class Statement:
    """One statement with `:names` for its parameters, on either database; errors are the driver's own."""

    def __init__(self, sql: str) -> None:
        self._sql = {"qmark": sql, "pyformat": _NAME.sub(r"%(\1)s", sql)}

    def inside_function(self, **instead: str) -> str:
        """Its text for a function whose arguments are called `_name`; `instead` of some stand other words."""
        return _NAME.sub(lambda match: instead.get(match[1], f"_{match[1]}"), self._sql["qmark"]).strip()

    def __call__(self, connection: Connection, parameters: Mapping[str, object]) -> tuple[Any, ...] | None:
        """Execute it; the first row, if it returns rows."""
        cursor: Any = connection.connection.cursor()
        try:
            cursor.execute(self._sql[connection.dialect.paramstyle], parameters)
            # All of them: SQLite does not commit while a statement that writes has rows to give.
            rows = cursor.fetchall() if cursor.description else ()
        finally:
            cursor.close()
        return rows[0] if rows else None
