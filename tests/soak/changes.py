"""Ways to make a program wrong in one place: another comparison, sign or number; a statement or a keyword less."""

import ast
import copy
from collections.abc import Callable, Iterator

COMPARISONS = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
OPERATORS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Div,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
_PAIRS = ("min max", "any all", "sum mean", "argmin argmax", "minimum maximum", "floor ceil", "zeros ones")
SWAPS = {a: b for pair in map(str.split, _PAIRS) for a, b in (pair, pair[::-1])}
#: Keywords that say how, not what: without them, or with another value, nothing a user sees would differ.
_KEPT = {"strict", "encoding", "maxsize", "buffering", "compression_opts", "optimize"}
#: Numbers up to this guard a division or stand for rounding: twice or half of it is as good.
_GUARD = 1e-6


def changed_copies(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST]]:
    """Give what to replace, the node or a part of it, and by what."""

    def with_(**fields: object) -> ast.AST:
        made = copy.copy(node)
        for name, value in fields.items():
            setattr(made, name, value)
        return made

    match node:
        case ast.Compare(ops=[operator]):
            yield from ((node, with_(ops=[other()])) for other in COMPARISONS[type(operator)])
        case ast.BinOp() | ast.AugAssign() if type(node.op) in OPERATORS:
            yield node, with_(op=OPERATORS[type(node.op)]())
        case ast.BoolOp():
            yield node, with_(op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield node, node.operand
        case ast.Constant(value=bool()):
            yield node, ast.Constant(not node.value)
        case ast.Constant(value=int()):
            yield from ((node, ast.Constant(node.value + step)) for step in (1, -1))
        case ast.Constant(value=float()) if not 0 < node.value <= _GUARD:
            yield from ((node, ast.Constant(value)) for value in {2 * node.value or 1.0, node.value / 2 or -1.0})
        case ast.Return(value=ast.expr()) if not (isinstance(node.value, ast.Constant) and node.value.value is None):
            yield node, with_(value=ast.Constant(None))
        case ast.Raise() | ast.Continue() | ast.Break() | ast.Expr(value=ast.Call()):
            yield node, ast.Pass()
        case ast.Call():
            yield from ((node, call) for call in _changed_calls(node, with_))
    if isinstance(node, ast.If | ast.IfExp | ast.While) and not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield node.test, ast.UnaryOp(ast.Not(), node.test)


def _changed_calls(node: ast.Call, with_: Callable) -> Iterator[ast.AST]:
    for index, keyword in enumerate(node.keywords):
        if keyword.arg and keyword.arg not in _KEPT:
            yield with_(keywords=node.keywords[:index] + node.keywords[index + 1 :])
    match node.func:
        case ast.Name(id="sorted"):
            yield with_(keywords=[*node.keywords, ast.keyword("reverse", ast.Constant(True))])
        case ast.Name(id="min" | "max" | "any" | "all"):
            yield with_(func=ast.Name(SWAPS[node.func.id]))
        case ast.Attribute(attr=name) if name in SWAPS:
            swapped = copy.copy(node.func)
            swapped.attr = SWAPS[name]
            yield with_(func=swapped)


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what a program does: no annotations, decorators, messages, or the texts of errors."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list") or isinstance(node, ast.Raise | ast.JoinedStr):
            continue
        if isinstance(node, ast.keyword) and node.arg in _KEPT:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from walk(child)
