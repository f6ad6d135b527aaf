"""Put in front of PYTHONPATH, this makes a worker write down each decision of the core into SQUAREOFF_RECORD.

Nothing of the product knows of it: Python imports a module of this name at its start, and this one waits until
`squareoff.engine` is there.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from typing import Any

MODULES = ("squareoff.engine", "squareoff.listener", "squareoff.scheduler")
"""They ask the core."""


def _recorded(name: str, function: Any) -> Any:
    import json

    from tools.decisions import answered, asked

    def call(*given: Any, **named: Any) -> Any:
        answer = function(*given, **named)
        if name != "due" or answer is not None:
            line = {"ask": name, "given": asked(name, given, named), "answer": answered(answer)}
            with open(os.environ["SQUAREOFF_RECORD"], "a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        return answer

    return call


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        if fullname not in MODULES:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        load = spec.loader.exec_module

        def load_and_record(module: Any) -> None:
            load(module)
            for name in ("advance", "hear", "judge", "due"):
                if hasattr(module, name):
                    setattr(module, name, _recorded(name, getattr(module, name)))

        spec.loader.exec_module = load_and_record  # type: ignore[method-assign]
        return spec


if "SQUAREOFF_RECORD" in os.environ:
    sys.meta_path.insert(0, _Finder())
