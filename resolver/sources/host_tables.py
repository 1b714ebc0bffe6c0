"""Reading the tables of TOML files that say how hosts are reached; every fault names its place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from resolver.errors import InvalidConfiguration
from resolver.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: What `tomllib` says of the place of a fault.
_PLACE = re.compile(r"\(at (line [0-9]+, column [0-9]+|end of document)\)")


def parse_toml(body: bytes, path: str) -> Table:
    """Read TOML; values are never repeated in an error, they may be secrets.

    Raises:
        InvalidConfiguration: it is none; with line and column where they are known.

    """
    import tomllib  # noqa: PLC0415 - where there is a file

    try:
        content = tomllib.loads(body.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InvalidConfiguration(path, "", "it is not UTF-8") from error
    except RecursionError as error:
        raise InvalidConfiguration(path, "", "it is nested too deeply") from error
    except ValueError as error:
        place = _PLACE.search(str(error))
        raise InvalidConfiguration(path, place[1] if place else "", "it is no TOML") from error
    return Table(path, "", content)


@dataclass(frozen=True, slots=True)
class Table:
    """A table of a file, and where it stands."""

    path: str
    place: str
    content: Mapping[str, object]

    def fault(self, name: str, reason: str) -> InvalidConfiguration:
        """Make the error for what stands under a name."""
        return InvalidConfiguration(self.path, self.at(name), reason)

    def at(self, name: str) -> str:
        """Say where a name stands."""
        return f"{self.place}.{name}" if self.place else name

    def text(self, name: str, default: str = "") -> str:
        """Read a text."""
        value = self.content.get(name, default)
        if not isinstance(value, str):
            raise self.fault(name, "it must be a text")
        return value

    def flag(self, name: str) -> bool | None:
        """Read true or false; None when it is absent."""
        value = self.content.get(name)
        if value is not None and not isinstance(value, bool):
            raise self.fault(name, "it must be true or false")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """Read a text, or a list of them."""
        value = self.content.get(name, [])
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in values):
            raise self.fault(name, "it must be a text, or a list of texts")
        return tuple(values)

    def tables(self, name: str) -> Iterator[Table]:
        """Read a list of tables (`[[name]]`)."""
        value = self.content.get(name, [])
        if not isinstance(value, list):
            raise self.fault(name, "it must be a list of tables")
        for number, each in enumerate(value):
            if not isinstance(each, dict):
                raise self.fault(name, "it must be a list of tables")
            yield Table(self.path, f"{self.at(name)}[{number}]", each)

    def children(self, name: str) -> Iterator[tuple[str, Table]]:
        """Read the tables of a table (`[name."key"]`), in the order of the file."""
        value = self.content.get(name, {})
        if not isinstance(value, dict):
            raise self.fault(name, "it must be a table")
        for key, each in value.items():
            # Somebody may have written a password into a URL.
            shown = f"{name}.{'***' if '@' in key else key}"
            if not isinstance(each, dict):
                raise self.fault(shown, "it must be a table")
            yield key, Table(self.path, self.at(shown), each)
