"""The small wrong changes of a module that a test should notice: one at a time, each with a name that outlives shifts.

Text is left alone: messages, labels, docstrings, annotations. What is changed is what decides: comparisons, conditions,
arithmetic, numbers, enum members, cells and effects of the state table, fields that are set, statements, answers.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

COMPARED: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
RECKONED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
}
TWINS = {"max": "min", "min": "max", "any": "all", "all": "any", "ROUND_FLOOR": "ROUND_CEILING"}
SHORT = {"S": "State", "E": "Event", "X": "Effect", "F": "Fact"}
"""What `core/machine.py` calls its enums inside the table."""
DROP: Any = object()


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """`line` is the text of the original line: it and not its number names the mutant."""

    module: str
    function: str
    line: str
    mutation: str
    lines: tuple[int, int]
    """First and last line of what has to run for it to make a difference."""
    at_import: bool
    """It changes what importing the module makes (a table, a default), not a function."""
    parent: ast.AST
    field: str
    value: Any

    @property
    def key(self) -> tuple[str, str, str, str]:
        return self.module, self.function, self.line, self.mutation


def members(core: Path) -> dict[str, list[str]]:
    """The members of every enum of `core`, by its name."""
    found: dict[str, list[str]] = {}
    for file in core.glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and any("Enum" in ast.unparse(base) for base in node.bases):
                found[node.name] = [ast.unparse(item.targets[0]) for item in node.body if isinstance(item, ast.Assign)]
    return found | {short: found[name] for short, name in SHORT.items()}


class _Finder:
    def __init__(self, module: str, text: str, enums: dict[str, list[str]]) -> None:
        self.module, self.enums, self.rows = module, enums, text.splitlines()
        self.table = module.endswith("machine.py")
        self.seen: dict[tuple[str, ...], int] = {}

    def mutant(self, where: _Where, node: ast.AST, parent: ast.AST, field: str, value: Any, name: str) -> Mutant:
        line = self.rows[node.lineno - 1].strip()  # type: ignore[attr-defined]
        place = (self.module, where.function, line, name)
        self.seen[place] = count = self.seen.get(place, 0) + 1
        return Mutant(
            module=self.module,
            function=where.function,
            line=line,
            mutation=name if count == 1 else f"{name} ({count})",
            lines=where.lines,
            at_import=where.at_import,
            parent=parent,
            field=field,
            value=value,
        )

    def walk(self, parent: ast.AST, where: _Where) -> Iterator[Mutant]:
        for field, value in ast.iter_fields(parent):
            if field in ("annotation", "returns", "decorator_list", "bases", "type_params"):
                continue
            many = isinstance(value, list)
            for index, node in enumerate(value if many else [value]):
                if not isinstance(node, ast.AST) or self.is_text(node) or is_key(parent, field, node):
                    continue
                here = where.inside(node, parent, field)
                for new, name in self.instead(node, parent, field, here):
                    if new is DROP:
                        rest: Any = value[:index] + value[index + 1 :]
                        if not rest and isinstance(node, ast.stmt):
                            rest = [ast.copy_location(ast.Pass(), node)]
                        yield self.mutant(here, node, parent, field, rest, f"without {shown(node)}")
                    else:
                        if not hasattr(new, "lineno"):
                            ast.fix_missing_locations(ast.copy_location(new, node))
                        changed = [*value[:index], new, *value[index + 1 :]] if many else new
                        name = name or f"{shown(node)} -> {shown(new)}"
                        yield self.mutant(here, node, parent, field, changed, name)
                if isinstance(node, ast.Raise) or (isinstance(node, ast.keyword) and node.arg == "version"):
                    continue
                if isinstance(node, ast.Dict) and not all(is_string(item) for item in node.values):
                    yield from self.without_entries(node, here)
                yield from self.walk(node, here)

    def is_text(self, node: ast.AST) -> bool:
        """Messages and labels, and what only guards the import."""
        if isinstance(node, (ast.Assert, ast.Import, ast.ImportFrom, ast.Global)):
            return True
        if isinstance(node, ast.Expr) and is_string(node.value):
            return True
        if isinstance(node, ast.Assign):
            return ast.unparse(node.targets[0]) in ("__all__", "__slots__", "_missing", "_unlabelled")
        if isinstance(node, ast.If):
            return ast.unparse(node.test) in ("_missing", "_unlabelled", "TYPE_CHECKING")
        return isinstance(node, (ast.BoolOp, ast.IfExp)) and any(is_string(n) for n in ast.iter_child_nodes(node))

    def without_entries(self, node: ast.Dict, where: _Where) -> Iterator[Mutant]:
        if self.table and (not node.keys or node.keys[0] is not None):
            return  # a cell that is missing is found by the import
        for index, key in enumerate(node.keys):
            if key is not None:
                rest = copy.copy(node)
                rest.keys = node.keys[:index] + node.keys[index + 1 :]
                rest.values = node.values[:index] + node.values[index + 1 :]
                name = f"without the entry {shown(key)}"
                yield self.mutant(where, key, where.parent, where.field, in_place(where, node, rest), name)

    def instead(self, node: ast.AST, parent: ast.AST, field: str, where: _Where) -> Iterator[tuple[Any, str]]:
        """What may stand in the place of `node`, and the name of that where the two texts would not be short."""
        match node:
            case ast.Compare(left=left, ops=ops, comparators=right):
                for index, op in enumerate(ops):
                    for other in COMPARED[type(op)]:
                        yield ast.Compare(left, [*ops[:index], other(), *ops[index + 1 :]], right), ""
            case ast.BoolOp(op=op, values=values):
                other_op, name = (ast.Or(), "or for and") if isinstance(op, ast.And) else (ast.And(), "and for or")
                yield ast.BoolOp(other_op, values), f"{name} at {shown(values[0])}"
                for index, value in enumerate(values):
                    rest = values[:index] + values[index + 1 :]
                    yield rest[0] if len(rest) == 1 else ast.BoolOp(op, rest), f"without {shown(value)}"
            case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
                yield operand, ""
            case ast.BinOp(left=left, op=op, right=right) if type(op) in RECKONED:
                yield ast.BinOp(left, RECKONED[type(op)](), right), ""
            case ast.Constant(value=bool() as flag):
                yield ast.Constant(not flag), ""
            case ast.Constant(value=int() | float() as number):
                yield ast.Constant(number + 1), ""
            case ast.Call(func=ast.Name(id="Decimal"), args=[ast.Constant(value=str() as text)]):
                if "Infinity" not in text:
                    more = ast.Constant(f"{text}1" if "." in text else f"{text}.1")
                    yield ast.Call(ast.Name("Decimal", ast.Load()), [more], []), ""
            case ast.Call(func=ast.Name(id="When"), args=[fact, then, otherwise]):
                yield ast.Call(node.func, [fact, otherwise, then], node.keywords), f"{shown(fact)}: the other way round"
            case ast.Name(id=name) if name in TWINS:
                yield ast.Name(TWINS[name], ast.Load()), ""
            case ast.Attribute(value=ast.Name(id=enum), attr=member) if member in self.enums.get(enum, ()):
                of = self.enums[enum]
                yield ast.Attribute(node.value, of[(of.index(member) + 1) % len(of)], ast.Load()), ""
            case ast.keyword(arg="version", value=ast.BinOp(left=left)):  # that it grows is promised, not by how much
                yield ast.keyword("version", left), "version that does not grow"
            case ast.keyword(arg=str()) if not is_string(node.value):
                yield DROP, ""
            case ast.Return(value=ast.expr() as value) if not is_none(value):
                yield ast.Return(ast.Constant(None)), f"return None for {shown(value)}"
            case ast.AugAssign() | ast.Raise() | ast.Delete() | ast.Continue() | ast.Break() | ast.Expr():
                yield DROP, ""
            case ast.Assign() if where.function:
                yield DROP, ""
        if field in ("test", "ifs") and isinstance(node, (ast.Name, ast.Attribute, ast.Call, ast.NamedExpr)):
            yield ast.UnaryOp(ast.Not(), node), ""
        if isinstance(parent, (ast.Tuple, ast.Set)) and field == "elts" and is_member(node, self.enums):
            yield DROP, ""


@dataclass(frozen=True, kw_only=True)
class _Where:
    function: str = ""
    at_import: bool = True
    lines: tuple[int, int] = (0, 0)
    parent: Any = None
    field: str = ""

    def inside(self, node: ast.AST, parent: ast.AST, field: str) -> _Where:
        function, at_import, lines = self.function, self.at_import, self.lines
        if isinstance(parent, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and field == "body":
            function = f"{function}.{parent.name}" if function else parent.name
            at_import = at_import and isinstance(parent, ast.ClassDef)
        if isinstance(parent, ast.Lambda) and field == "body":
            at_import = False
            lines = (node.lineno, node.end_lineno)  # type: ignore[attr-defined]
        if isinstance(node, ast.stmt) and not hasattr(node, "body"):
            lines = (node.lineno, node.end_lineno or node.lineno)
        elif field in ("test", "iter") and isinstance(parent, ast.stmt):
            lines = (node.lineno, node.end_lineno)  # type: ignore[attr-defined]
        return _Where(function=function, at_import=at_import, lines=lines, parent=parent, field=field)


def in_place(where: _Where, node: ast.AST, new: ast.AST) -> Any:
    value = getattr(where.parent, where.field)
    return [new if item is node else item for item in value] if isinstance(value, list) else new


def is_string(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def is_key(parent: ast.AST, field: str, node: ast.AST) -> bool:
    return isinstance(parent, ast.Dict) and field == "keys"


def is_member(node: ast.AST, enums: dict[str, list[str]]) -> bool:
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in enums


def shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 90 else f"{text[:45]} ... {text[-40:]}"


def runs_at_import(tree: ast.Module) -> set[str]:
    """The functions that importing the module calls, such as those that build the state table."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    todo = [node for node in tree.body if not isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    found: set[str] = set()
    while todo:
        called = {node.func.id for node in calls(todo.pop()) if isinstance(node.func, ast.Name)}
        new = (called & functions.keys()) - found
        found |= new
        todo += [functions[name] for name in new]
    return found


def calls(node: ast.AST) -> Iterator[ast.Call]:
    """The calls in `node`; those in a lambda are for later."""
    if isinstance(node, ast.Call):
        yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Lambda):
            yield from calls(child)


def mutants_of(module: str, tree: ast.Module, text: str, enums: dict[str, list[str]]) -> list[Mutant]:
    early = runs_at_import(tree)
    found = _Finder(module, text, enums).walk(tree, _Where())
    return [replace(mutant, at_import=mutant.at_import or mutant.function in early) for mutant in found]
