"""What a config value may be, and how checked values become objects: the one place where config nodes become objects."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import math
import types
import typing
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

from hybrid_retrieval.errors import InputError, nearest

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Range:
    """The numbers that a key may have, beside its type: from `low` to `high`, which `above` and `below` leave out."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def fault(self, value: float) -> str | None:
        """What is wrong with a number; None where nothing is."""
        if self.above and not value > self.low:
            return f"must be above {self.low}"
        if self.below and value == self.high:
            return f"must be below {self.high}"
        if self.low <= value <= self.high:
            return None
        if self.high < LARGEST:
            return f"is outside {self.low}..{self.high}"
        return f"must be at most {self.high}" if value > self.high else f"must be {self.low} or more"


@dataclasses.dataclass(frozen=True)
class Text:
    """The texts that a key may have: none with a character that a file or a terminal cannot take."""

    file_name: bool = False
    """Nor one that cannot be the name of a file."""

    def fault(self, value: str) -> str | None:
        """As of `Range`."""
        spaces = "" if self.file_name else "\t\n\r"
        if any(unicodedata.category(letter) in ("Cc", "Cs") and letter not in spaces for letter in value):
            return "holds a control character, or one that is no text"
        if self.file_name and (value in ("", ".", "..") or set(value) & set("/\\") or value != value.strip()):
            return "cannot be used in names of files; expected one without slashes, and not empty"
        return None


LARGEST = 2**31 - 1
"""Of counts: rows and positions are numbers of 32 bits."""
TEXT = Text()

Count = Annotated[int, Range(0, LARGEST, above=True)]
Number = Annotated[int, Range(0, LARGEST)]
Positive = Annotated[float, Range(0, above=True)]
NotNegative = Annotated[float, Range(0)]
Share = Annotated[float, Range(0, 1)]
Part = Annotated[float, Range(0, 1, above=True)]
Dropout = Annotated[float, Range(0, 1, below=True)]
Temperature = Annotated[float, Range(1)]
Seed = Annotated[int, Range(0, 2**32 - 1)]
Processes = Annotated[int, Range(0, 1024, above=True)]
Name = Annotated[str, Text(file_name=True)]


NOT_OF_THE_CONSTRUCTOR = ("_target_", "recipe", "augment")
"""Keys of an open node that are the job's: a model's recipe, and how a data set's queries are perturbed in training."""


def construct(target: type[T], values: Mapping[str, Any], key: str, **runtime: Any) -> T:
    """Call `target` with config `values` (checked against its signature) and `runtime` objects (not checked)."""
    signature = inspect.signature(target)
    known = {
        name
        for name, parameter in signature.parameters.items()
        if name not in runtime and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
    prefix = f"{key}." if key else ""
    for name in values:
        if name not in known:
            raise InputError(f"unknown config key {prefix}{name}{nearest(name, known)}")
    check(target, values, key)
    required = {name for name in known if signature.parameters[name].default is inspect.Parameter.empty and name not in values}
    if required:
        raise InputError(f"config key {prefix}{sorted(required)[0]} is missing")
    return target(**values, **runtime)


def build(node: Mapping[str, Any], kind: type | tuple[type, ...], key: str, **runtime: Any) -> Any:
    """The object of a `kind` that an open config node names with ``_target_``; `runtime` is what no config file can hold."""
    return construct(*named(node, kind, key), key, **runtime)


def named(node: Any, kind: type | tuple[type, ...], key: str) -> tuple[type, dict[str, Any]]:
    """The class of a `kind` that an open config node names, and the values for it; the user typed the name, or chose it."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        raise InputError(f"{key} names no _target_: choose a config of the group, as in {key}=NAME")
    values = {name: value for name, value in node.items() if name not in NOT_OF_THE_CONSTRUCTOR}
    return locate(str(node["_target_"]), kind, f"{key}._target_"), values


def locate(path: str, kind: type | tuple[type, ...], key: str, read: bool = False) -> type:
    """The class of a `kind` at a dotted `path`: the one place where a name becomes a class.

    Args:
        kind: the class, or several, that it derives from.
        key: the config key, or the file, that names it.
        read: the name is not what the user typed, but out of a file, which may be somebody else's: it may stand for this
            package's own classes, and for others that are imported already; nothing is imported for it.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    expected = " or ".join(one.__name__ for one in kinds)
    module, _, name = path.rpartition(".")
    found: Any = None
    try:
        if not read or module.startswith(f"{__package__}."):
            found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"{key}={path!r} cannot be imported: {error}") from error
    if read:
        found = next(
            (one for base in kinds for one in (base, *_derived(base)) if f"{one.__module__}.{one.__qualname__}" == path), None
        )
        if found is None:
            raise InputError(f"{key}={path!r} is not run: what a file names is to be a {expected} of this package")
    if not isinstance(found, type) or not set(kinds) & set(found.__mro__) or inspect.isabstract(found):
        raise InputError(f"{key}={path!r} is of the wrong kind; expected a {expected}")
    return found


def _derived(kind: type) -> set[type]:
    """The classes that derive from `kind`, as far as they are imported."""
    below: list[type] = kind.__subclasses__()
    return {derived for one in below for derived in (one, *_derived(one))}


def check_read(node: Any, kind: type | tuple[type, ...], key: str) -> None:
    """Refuse a config node out of a file that names, however deep in it, another class than `locate` finds for a file."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            locate(str(node["_target_"]), kind, f"{key}._target_", read=True)
        for name, value in node.items():
            check_read(value, kind, f"{key}.{name}")
    elif isinstance(node, (list, tuple)):
        for place, value in enumerate(node):
            check_read(value, kind, f"{key}[{place}]")
    elif isinstance(node, str) and "${" in node:
        raise InputError(f"{key}={node!r} is not a plain value")


def check(target: type | Mapping[str, Any], values: Mapping[str, Any], key: str) -> None:
    """Refuse config `values` that are not what the annotations of a constructor (or some by name) state: type, range, name.

    A class calls it for its own fields too, ``check(type(self), vars(self), "loss")``, where scripts make its objects.
    """
    stated = target if isinstance(target, Mapping) else annotated(target)
    for name, value in values.items():
        said = fault(value, stated.get(name, Any))
        if said is not None:
            raise InputError(f"{key}{'.' * bool(key)}{name}{said}")


@functools.cache
def annotated(target: type) -> Mapping[str, Any]:
    """The annotations of a constructor's arguments; those of a dataclass each in the module of the class that states it."""
    stated: Any = target if dataclasses.is_dataclass(target) else target.__init__  # type: ignore[misc]
    try:
        return typing.get_type_hints(stated, include_extras=True)
    except (NameError, TypeError):  # of another package, which states them for its type checker alone
        return {}


def fault(value: Any, hint: Any) -> str | None:
    """What is wrong with a plain config `value` of the annotated type, as in ``=0 must be above 0``; None where nothing is.

    Annotations that are not of a config's types pass.
    """
    kind, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    wrong_type = f"={shown(value)} {WRONG_TYPE}; expected {describe(hint)}"
    if kind is Annotated:
        said = fault(value, inner[0])
        limits = () if said and WRONG_TYPE in said else inner[1:]
        return next((f"={shown(value)} {over}" for limit in limits if (over := limit.fault(value))), said)
    if kind in (typing.Union, types.UnionType):
        found = [fault(value, option) for option in inner]
        of_its_type = (said for said in found if said and WRONG_TYPE not in said)
        return None if None in found else next(of_its_type, wrong_type)
    if kind in (list, tuple, dict):
        if not isinstance(value, dict if kind is dict else (list, tuple)):
            return wrong_type
        parts = [fault(item, inner[0]) for item in value] if inner else []
        if inner and isinstance(value, dict):
            parts += [said and f".{name}{said}" for name, item in value.items() for said in [fault(item, inner[1])]]
        return next(filter(None, parts), None)
    if kind in (int, float):
        if not isinstance(value, (int, kind)) or isinstance(value, bool):
            return wrong_type
        finite = math.isfinite(value) if isinstance(value, float) else -(2**63) <= value < 2**63
        return None if finite else f"={shown(value)} is not a finite number of 64 bits"
    if kind is str and isinstance(value, str):
        said = TEXT.fault(value)
        return said and f"={shown(value)} {said}"
    return wrong_type if kind in (str, bool, types.NoneType) and not isinstance(value, kind) else None


WRONG_TYPE = "has the wrong type"


def describe(hint: Any) -> str:
    """An annotation as a reader would say it."""
    kind, inner = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind is Annotated:
        return describe(inner[0])
    if kind in (typing.Union, types.UnionType):
        return " | ".join(map(describe, inner))
    if kind is types.NoneType:
        return "null"
    if kind in (list, tuple, dict) and inner:
        return f"{kind.__name__}[{', '.join(map(describe, inner))}]"
    return hint.__name__ if isinstance(hint, type) else str(hint).replace("typing.", "")


def shown(value: Any) -> str:
    """A value in an error: on one line, and not the whole of a long one."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} ..."


def divides(key: str, whole: int, by_key: str, parts: int) -> None:
    """Refuse a `whole` that does not divide into `parts`, naming the nearest that do."""
    if whole % parts:
        below, above = whole - whole % parts, whole + parts - whole % parts
        sizes = " or ".join(str(size) for size in (below, above) if size)
        raise InputError(f"{key}={whole} does not divide by {by_key}={parts}; the nearest sizes are {sizes}")
