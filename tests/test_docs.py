"""The documents say what is so: links lead somewhere, commands can be typed, tests that are named exist, and no file
tells on which machine it was written.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import typer

from squareoff.apps import metrics
from squareoff.apps.cli import app
from squareoff.apps.demo.script import BY_NAME
from squareoff.core.figures import METRICS

ROOT = Path(__file__).resolve().parent.parent


@cache
def files() -> tuple[Path, ...]:
    """What belongs to the project, also before it is committed."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("only a git checkout says which files belong to the project")
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return tuple(ROOT / name for name in sorted(set(listed)) if name and (ROOT / name).is_file())


def documents() -> list[Path]:
    return [file for file in files() if file.suffix == ".md"]


def shown(file: Path) -> str:
    return str(file.relative_to(ROOT))


# ------------------------------------------------------------------ links

CODE_BLOCK = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")


def links(text: str) -> list[str]:
    return LINK.findall(INLINE_CODE.sub("code", CODE_BLOCK.sub("", text)))


def anchors(file: Path) -> set[str]:
    """As GitHub makes them of headings: small letters, words and dashes."""
    found: dict[str, int] = {}
    names = set()
    for heading in re.findall(r"^#{1,6} +(.+?) *$", CODE_BLOCK.sub("", file.read_text(encoding="utf-8")), re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        count = found[slug] = found.get(slug, -1) + 1
        names.add(f"{slug}-{count}" if count else slug)
    return names


def broken(file: Path, link: str) -> str | None:
    parts = urlsplit(link)
    if parts.scheme:
        return None
    target = (file.parent / parts.path).resolve() if parts.path else file
    if not target.exists():
        return f"{shown(file)}: {link} leads nowhere"
    if parts.fragment and target.suffix == ".md" and parts.fragment not in anchors(target):
        return f"{shown(file)}: {link}: there is no such heading"
    return None


def test_every_link_within_the_project_leads_somewhere() -> None:
    wrong = [why for file in documents() for link in links(file.read_text("utf-8")) if (why := broken(file, link))]
    assert wrong == []


def test_links_and_headings_are_found_where_they_are() -> None:
    text = "[a](b.md) ![p](q.svg) `[no](no.md)` [x [y]](z.md#h)\n```\n[no](no.md)\n```\n"
    assert links(text) == ["b.md", "q.svg", "z.md#h"]
    assert broken(ROOT / "README.md", "docs/no-such-page.md") == "README.md: docs/no-such-page.md leads nowhere"
    assert broken(ROOT / "README.md", "docs/safety.md#s99") == "README.md: docs/safety.md#s99: there is no such heading"
    assert broken(ROOT / "README.md", "docs/safety.md#s3") is None


# ------------------------------------------------------------------ commands

WITH_ITS_MEANING = re.compile(r" {2,}(?!-).*")
"""Behind a command, two spaces or more apart, may stand what it does."""


def commands(text: str) -> Iterator[str]:
    """Every `squareoff ...` that a reader may type: in code blocks of both kinds, and in the text."""
    blocks = CODE_BLOCK.findall(text)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    lines += [line.strip() for line in text.splitlines() if line.startswith("    ")]
    lines += re.findall(r"`(squareoff [^`]*)`", CODE_BLOCK.sub("", text).replace("\n", " "))
    for line in dict.fromkeys(lines):
        if line.startswith("squareoff ") and "..." not in line:
            yield WITH_ITS_MEANING.sub("", line.split(" | ")[0])


def cannot_be_typed(command: str) -> str | None:
    """Why the command line would refuse the words as such; None if it would not."""
    words = shlex.split(command, comments=True)[1:]
    group = typer.main.get_command(app)
    try:
        context = group.make_context("squareoff", words, resilient_parsing=False)
        rest = [*context._protected_args, *context.args]
        while rest and hasattr(group, "resolve_command"):
            name, group, rest = group.resolve_command(context, rest)
            if "--help" in rest:
                return None
            context = group.make_context(name, rest, parent=context)
            rest = [*context._protected_args, *context.args] if hasattr(group, "resolve_command") else []
    except (SystemExit, typer.Exit):
        return None
    except Exception as error:
        return f"{command!r}: {getattr(error, 'message', None) or error!r}"
    only = context.params.get("only")
    if only not in (None, "NAME") and only not in BY_NAME:
        return f"{command!r}: the demo has no run {only}"
    return None


def test_every_command_that_is_shown_can_be_typed() -> None:
    shown_commands = [(shown(file), c) for file in documents() for c in commands(file.read_text(encoding="utf-8"))]
    assert len(shown_commands) > 30
    assert [(file, why) for file, command in shown_commands if (why := cannot_be_typed(command))] == []


@pytest.mark.parametrize(
    "command",
    [
        "squareoff fly",
        "squareoff demo --fast",
        "squareoff demo --only nothing",
        "squareoff why",
        "squareoff list --jsn",
        "squareoff instruments fetch",
        "squareoff --nonsense list",
    ],
)
def test_a_command_that_does_not_exist_is_found(command: str) -> None:
    assert cannot_be_typed(command) is not None


def test_every_run_of_the_demo_is_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [name for name in BY_NAME if f"squareoff demo --only {name}`" not in readme] == []


# ------------------------------------------------------------------ figures


def test_every_metric_is_explained_and_none_that_does_not_exist() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    told = {metric.name for metric in METRICS} | {metrics.AGE, metrics.IGNORED}
    rows = set(re.findall(r"^\| `(squareoff_\w+)` \|", text, re.MULTILINE))
    assert rows == told
    named = {name.removesuffix("_bucket") for name in re.findall(r"\bsquareoff_\w+", text)}
    assert named == told


# ------------------------------------------------------------------ tests

NAMED_TEST = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def test_every_test_that_a_document_names_exists() -> None:
    wrong = []
    named = [(file, *found) for file in documents() for found in NAMED_TEST.findall(file.read_text(encoding="utf-8"))]
    for file, where, name in named:
        source = ROOT / where
        text = source.read_text(encoding="utf-8") if source.exists() else ""
        if not re.search(rf"^(async )?def {name}\(", text, re.MULTILINE):
            wrong.append(f"{shown(file)}: {where}::{name}")
    assert len(named) > 60
    assert wrong == []


@pytest.mark.parametrize("promise", [f"S{number}" for number in range(1, 11)])
def test_every_promise_names_tests_that_hold_it(promise: str) -> None:
    text = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {promise}\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert len(NAMED_TEST.findall(section.group(1))) >= 3


# ------------------------------------------------------------------ where it was written

OF_A_MACHINE = re.compile(
    r"(?<![\w.])/(wor[k]|roo[t]|home/\w+|User[s]/\w+)/[\w.]"  # a person's or a workshop's folder
    r"|(inde[x]|registr[y])-url|/simpl[e]/|artifactor[y]|nexu[s]\."  # where packages were fetched
)


@pytest.mark.parametrize("folder", ["work", "root", "home/someone", "Users/someone"])
def test_the_path_of_a_machine_is_found(folder: str) -> None:
    assert OF_A_MACHINE.search(f"see /{folder}/notes.txt")


def package_hosts() -> set[str]:
    """The hosts this machine fetches packages from: their names belong to it, not to the project."""
    asked = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    told = asked.stdout + " ".join(value for name, value in os.environ.items() if "INDEX" in name)
    hosts = {urlsplit(url).hostname or "" for url in re.findall(r"https?://[^\s'\"\\]+", told)}
    return {host for host in hosts if "." in host and not host.endswith("pypi.org")}


def test_no_file_tells_on_which_machine_it_was_written() -> None:
    hosts = package_hosts()
    wrong = []
    for file in files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        wrong += [f"{shown(file)}: {found.group()!r}" for found in OF_A_MACHINE.finditer(text)]
        wrong += [f"{shown(file)}: {host}" for host in hosts if host in text]
    assert wrong == []
