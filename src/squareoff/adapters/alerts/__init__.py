"""Telling a person: on the terminal, in a file, and where the person is when nobody looks at the terminal."""

from __future__ import annotations

from squareoff.adapters.alerts.terminal import TerminalAlerts

__all__ = ["TerminalAlerts"]
