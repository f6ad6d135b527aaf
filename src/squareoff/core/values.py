"""Changing a value means making another one. This is `dataclasses.replace`, made for the way of a stop-loss."""

from __future__ import annotations

from typing import Any, TypeVar

_Value = TypeVar("_Value")
_set = object.__setattr__


def replace(value: _Value, /, **changes: Any) -> _Value:
    """`value` with other fields. For frozen dataclasses with slots and no check of their own; about five times as
    fast as `dataclasses.replace`, which runs the whole constructor. Raises TypeError for a field that is not there.
    """
    kind = type(value)
    new = object.__new__(kind)
    names: tuple[str, ...] = kind.__slots__  # type: ignore[attr-defined]
    left = len(changes)
    for name in names:
        if name in changes:
            _set(new, name, changes[name])
            left -= 1
        else:
            _set(new, name, getattr(value, name))
    if left:
        unknown = ", ".join(sorted(set(changes) - set(names)))
        raise TypeError(f"{kind.__name__} has no field {unknown}")
    return new
