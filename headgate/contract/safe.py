"""Rewrites expressions so that no operation in them can raise."""

from __future__ import annotations

from sqlglot import exp

__all__ = ["TRY", "literal_only", "plain_cast", "safe"]

TRY: dict[type[exp.Expr], str] = {
    exp.Add: "try_add",
    exp.Sub: "try_subtract",
    exp.Mul: "try_multiply",
    exp.Div: "try_divide",
    exp.Mod: "try_mod",
}


def safe(node: exp.Expr) -> exp.Expr:
    """The same expression with every operation that can fail in its `try_` form."""
    copy = node.copy()
    root = exp.paren(copy, copy=False)
    # Leaves first: a replaced node takes its children along.
    for part in reversed(list(copy.walk(bfs=False))):
        replacement = _safe_part(part)
        if replacement is not None:
            part.replace(replacement)
    result: exp.Expr = root.this
    return result


def _safe_part(part: exp.Expr) -> exp.Expr | None:
    name = TRY.get(type(part))
    if name is not None and not literal_only(part):
        return exp.Anonymous(this=name, expressions=[part.this, part.expression])
    if plain_cast(part):
        return exp.TryCast(this=part.this, to=part.args["to"], safe=True)
    if type(part) is exp.Sum:
        return exp.Anonymous(this="try_sum", expressions=[part.this])
    return None


def plain_cast(node: exp.Expr) -> bool:
    """A cast that the author did not write as `try_cast` (sqlglot's mark for that is `safe`)."""
    return isinstance(node, exp.Cast) and not node.args.get("safe") and not isinstance(node.this, exp.Literal)


def literal_only(node: exp.Expr) -> bool:
    """Whether no record takes part in it: it has no column, and no parameter of a lambda, which is a bare
    identifier."""
    return node.find(exp.Column, exp.Identifier) is None
