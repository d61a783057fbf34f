"""The small changes that a good test suite notices, made one at a time in a module's syntax tree.

Not changed: text, annotations, assertions, ``__all__`` and whatever a ``raise`` says.
"""

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import CodeType

_OTHER: dict[type, type] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_NAMES = [("min", "max"), ("any", "all"), ("sum", "mean"), ("zeros", "ones"), ("minimum", "maximum")]
_NAMES += [("argmin", "argmax"), ("amin", "amax"), ("new_zeros", "new_ones"), ("zeros_like", "ones_like")]
_RENAMED = {a: b for pair in _NAMES for a, b in (pair, pair[::-1])}
_SYMMETRIC = {  # whose arguments are not swapped
    "min", "max", "minimum", "maximum", "equal", "array_equal",
}  # fmt: skip
_TYPES = {"Literal", "Annotated", "NDArray", "Callable", "Tensor", "cast"}
_Site = tuple[ast.AST, str, int | None]  # a node's parent, the field, and the place in it if it is a list


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        name: Tells it from all others of the repository, whatever the line numbers.
        line: Where it is.
        lines: First and last line of its statement, or of the statement's head.
        scope: Name of the outermost function or method whose body it changes; empty for what an import evaluates.
        path: The module.
    """

    name: str
    line: int
    lines: tuple[int, int]
    scope: str
    path: Path
    _tree: ast.Module
    _site: _Site
    _new: ast.AST

    def compile(self) -> CodeType:
        """Compile the changed module; the mutants of a module share its tree, so a process compiles one of them."""
        _put(self._site, self._new)
        return compile(ast.fix_missing_locations(self._tree), str(self.path), "exec")


def mutants(path: Path, root: Path) -> list[Mutant]:
    """Every mutant of a module, in the order of its lines."""
    tree = ast.parse(path.read_text())
    found, seen = [], Counter[str]()
    for site, scope, inside, lines in _sites(tree, [], False, (0, 0)):
        for new in _changes(_get(site)):
            old = _get(site)
            _put(site, new)
            after = _shown(site)
            _put(site, old)
            what = f"{path.relative_to(root)}::{'.'.join(scope)}: {_shown(site)} -> {after}"
            seen[what] += 1
            name = what if seen[what] == 1 else f"{what} #{seen[what]}"
            line = getattr(old, "lineno", getattr(site[0], "lineno", 0))
            found.append(Mutant(name, line, lines, ".".join(scope) if inside else "", path, tree, site, new))
    return sorted(found, key=lambda m: m.line)


def _sites(
    node: ast.AST, scope: list[str], inside: bool, lines: tuple[int, int]
) -> Iterator[tuple[_Site, list[str], bool, tuple[int, int]]]:
    """Walk all that may change; the scope is the outermost function's, whose default values belong to the import."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "ctx", "type_comment") or isinstance(node, (ast.Assert, ast.JoinedStr)):
            continue
        if isinstance(node, ast.Raise) and name == "exc" and isinstance(value, ast.Call):
            continue
        if isinstance(node, ast.keyword) and node.arg == "strict":
            continue
        if isinstance(node, ast.Assign) and _name(node.targets[0]) == "__all__":
            continue
        if isinstance(node, ast.Call) and name == "args" and _name(node.func) == "cast":
            value = value[1:]
        for at, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or _is_type(child) or _is_docstring(child):
                continue
            body = isinstance(node, ast.FunctionDef) and name == "body"
            within = scope
            if isinstance(child, (ast.FunctionDef, ast.ClassDef)) and not inside:
                within = [*scope, child.name]
            head = _head(child) if isinstance(child, ast.stmt) else lines
            yield (node, name, at), within, inside or body, head
            yield from _sites(child, within, inside or body, head)


def _head(node: ast.stmt) -> tuple[int, int]:
    body = getattr(node, "body", None)
    return node.lineno, max(node.lineno, body[0].lineno - 1 if body else node.end_lineno or 0)


def _is_type(node: ast.AST) -> bool:
    return isinstance(node, ast.Subscript) and _name(node.value) in _TYPES


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _changes(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in a node's place."""
    match node:
        case ast.BinOp(op=op) | ast.AugAssign(op=op) | ast.BoolOp(op=op) if type(op) in _OTHER:
            yield _with(node, op=_OTHER[type(op)]())
        case ast.Compare(ops=ops):
            for i, compared in enumerate(ops):
                yield _with(node, ops=[*ops[:i], _OTHER[type(compared)](), *ops[i + 1 :]])
        case ast.UnaryOp(operand=operand):
            yield operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Name(id=name) if name in _RENAMED and isinstance(node.ctx, ast.Load):
            yield _with(node, id=_RENAMED[name])
        case ast.Call(args=[first, second, *rest]) if not any(isinstance(a, ast.Starred) for a in (first, second)):
            if ast.dump(first) != ast.dump(second) and _name(node.func) not in _SYMMETRIC:
                yield _with(node, args=[second, first, *rest])
    match node:
        case ast.Attribute(attr=name) if name in _RENAMED:
            yield _with(node, attr=_RENAMED[name])
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test) if not _negated(test):
            yield _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.comprehension(ifs=[_, *_]):
            yield _with(node, ifs=[])
        case ast.Return(value=ast.AST() as told) if ast.unparse(told) != "None":
            yield _with(node, value=ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Continue() | ast.Break():
            yield ast.Pass()
        case ast.Assign(targets=[target], value=given) if _again(target, given):
            yield ast.Pass()


def _negated(test: ast.expr) -> bool:
    """Whether the change of its operator already is its negation."""
    negated = (ast.Eq, ast.NotEq, ast.Is, ast.IsNot, ast.In, ast.NotIn)
    compared = isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], negated)
    return compared or (isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not))


def _again(target: ast.expr, value: ast.expr) -> bool:
    """Whether an assignment changes something that was there before."""
    if isinstance(target, (ast.Subscript, ast.Attribute)):
        return True
    names = {n.id for n in ast.walk(target) if isinstance(n, ast.Name)}
    return names <= {n.id for n in ast.walk(value) if isinstance(n, ast.Name)}


def _with(node: ast.AST, **changed: object) -> ast.AST:
    other = copy.copy(node)
    for name, value in changed.items():
        setattr(other, name, value)
    return other


def _get(site: _Site) -> ast.AST:
    parent, field, at = site
    value = getattr(parent, field)
    found: ast.AST = value if at is None else value[at]
    return found


def _put(site: _Site, new: ast.AST) -> None:
    parent, field, at = site
    if at is None:
        setattr(parent, field, new)
    else:
        getattr(parent, field)[at] = new


def _shown(site: _Site) -> str:
    """The changed expression with what surrounds it, or the head of the changed statement."""
    parent, node = site[0], _get(site)
    shown = parent if isinstance(node, ast.expr) and isinstance(parent, (ast.expr, ast.keyword, ast.Assign)) else node
    if isinstance(shown, (ast.If, ast.While)):
        shown = shown.test
    text = ast.unparse(shown)
    if isinstance(shown, ast.arguments) or not text:
        text = ast.unparse(node)
    return " ".join(text.split())
