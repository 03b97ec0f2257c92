"""Named parts: a registry from names to classes, and the base of their validated settings."""

from __future__ import annotations

import difflib
import hashlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

T = TypeVar("T")


class Settings(BaseModel):
    """Base of every table of a recipe: unknown keys, nan and infinity are refused; values are frozen; a path is taken
    as its string."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="forbid", allow_inf_nan=False, frozen=True, validate_default=True
    )

    @field_validator("*", mode="before")
    @classmethod
    def _plain(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation is not bool:
            raise ValueError(f"{str(value).lower()} is no value for it")  # pydantic would take it for 1 or 0
        return value


def network(default: Any, description: str, **constraints: Any) -> Any:
    """A field that prepared tensors do not depend on, such as a network's size: changing it prepares nothing again."""
    return Field(default, description=description, json_schema_extra={"network": True}, **constraints)


def bound(default: Any, description: str, **constraints: Any) -> Any:
    """A field that limits what is read, which of a trained model may be changed, unlike others behind its tensors."""
    return Field(default, description=description, json_schema_extra={"bound": True}, **constraints)


def some(names: Sequence[str], most: int = 12) -> str:
    """Names for a message: the first of them where they are many, and how many more there are."""
    return ", ".join([*names[:most], *([f"{len(names) - most:,} more"] if len(names) > most else [])])


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of an error message: the closest known name, or all of them where they are not very many."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {some(known, 40) or 'none'}"


class Registry(Generic[T]):
    """Names to classes. Built-in parts and entry points are imported when they are first asked for.

    what: the noun of error messages ("modality"). builtin: name to "module:Class".
    group: the entry point group in which installed packages declare theirs, if any.
    """

    def __init__(self, what: str, builtin: dict[str, str], group: str | None = None) -> None:
        self.what = what
        self.group = group
        self._builtin = {
            name: EntryPoint(name=name, value=value, group=group or what) for name, value in builtin.items()
        }
        self._registered: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[type[T]], type[T]]:
        """Decorator: make a class known under `name` in this process. Raises ValueError if it is taken."""

        def decorate(part: type[T]) -> type[T]:
            taken = self._registered.get(name)
            if name in self._builtin or (taken and taken.__qualname__ != part.__qualname__):
                raise ValueError(f"the {self.what} '{name}' exists already ({self.origin(name)}): choose another name")
            self._registered[name] = part
            return part

        return decorate

    def _installed(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=self.group)} if self.group else {}

    def names(self) -> list[str]:
        """All known names, sorted; nothing is imported."""
        return sorted({*self._builtin, *self._installed(), *self._registered})

    def origin(self, name: str) -> str:
        """Where a name comes from: 'built in', 'this process' or the package that declares it."""
        if name in self._builtin:
            return "built in"
        if name in self._registered:
            return f"this process ({self._registered[name].__module__})"
        point = self._installed()[name]
        return f"{point.dist.name} {point.dist.version}" if point.dist else point.value

    def source(self, name: str) -> str:
        """A name's origin and a hash of the file that defines it, of a built-in one with all files beside it: changes
        when the code does."""
        try:
            path = Path(inspect.getfile(self.get(name)))
            files = sorted(path.parent.glob("*.py")) if name in self._builtin else [path]
            code = b"".join(file.read_bytes() for file in files)
        except (TypeError, OSError):  # made in a notebook or at a prompt
            code = b""
        return f"{self.origin(name)} {hashlib.blake2b(code, digest_size=8).hexdigest()}"

    def get(self, name: str) -> type[T]:
        """The class behind a name. Raises ValueError when it is unknown or its package is broken."""
        if name in self._registered:
            return self._registered[name]
        point = self._builtin.get(name) or self._installed().get(name)
        if point is None:
            raise ValueError(f"unknown {self.what} '{name}': {nearest(name, self.names())}")
        try:
            return point.load()
        except Exception as error:  # a plugin may fail in any way; only its own users should notice
            raise ValueError(
                f"the {self.what} '{name}' of {self.origin(name)} could not be loaded: {type(error).__name__}: {error}"
            ) from error
