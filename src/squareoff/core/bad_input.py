"""Input that cannot be taken, told so that the person can mend it."""

from __future__ import annotations


class BadInput(Exception):
    """Names the field, what is wrong and what would be right. Nothing was saved, nothing half done."""

    def __init__(self, field: str, wrong: str, right: str = "") -> None:
        self.field, self.wrong, self.right = field, wrong, right
        super().__init__(f"{field}: {wrong}" + (f"; {right}" if right else ""))
