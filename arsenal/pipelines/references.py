"""References of a flow, `${...}`: to a parameter, to what a step gave, to the row of a table; and conditions of them."""

import ast
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from arsenal.refusal import Refusal

PATTERN = re.compile(r"\$?\$\{([^{}]*)\}")
SCOPES = ("inputs", "outputs", "item")
"""What a reference may begin with beside parameters and steps: a step's own files, and its row."""


class FlowError(Refusal):
    """A flow cannot be used as asked; the message says what, what is allowed and what came."""


class Reference(NamedTuple):
    """A place of which a value is taken."""

    head: str
    """A parameter, a step, or one of `SCOPES`."""
    name: str = ""
    """Of a step its output; of the others what is behind the first dot."""
    rest: str = ""
    """A path within a JSON value."""

    def __str__(self) -> str:
        """As it is written."""
        return "${" + ".".join(filter(None, self)) + "}"


def read_reference(text: str) -> Reference:
    """The reference between the braces.

    >>> read_reference("evaluate.metrics.test/accuracy")
    Reference(head='evaluate', name='metrics', rest='test/accuracy')
    """
    head, _, rest = text.strip().partition(".")
    name, _, rest = rest.partition(".")
    if not head:
        raise FlowError("A reference must name something, as in ${step.output}; got ${}.")
    return Reference(head, name, rest)


def references(value: Any) -> Iterator[Reference]:
    """Every reference in nested dicts, lists and texts."""
    if isinstance(value, dict):
        for one in value.values():
            yield from references(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from references(one)
    elif isinstance(value, str):
        yield from (read_reference(found[1]) for found in PATTERN.finditer(value) if not found[0].startswith("$$"))


def substitute(value: Any, look: Callable[[Reference], Any]) -> Any:
    """The value with every reference replaced; one that is a whole text keeps its type. `$${` is the text `${`.

    >>> substitute({"a": "${rate}", "b": "x=${rate}", "c": "$${rate}"}, lambda of: 0.1)
    {'a': 0.1, 'b': 'x=0.1', 'c': '${rate}'}
    """
    if isinstance(value, dict):
        return {key: substitute(one, look) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [substitute(one, look) for one in value]
    if not isinstance(value, str) or "${" not in value:
        return value
    whole = PATTERN.fullmatch(value)
    if whole and not value.startswith("$$"):
        return look(read_reference(whole[1]))

    def text(found):
        return found[0][1:] if found[0].startswith("$$") else as_text(look(read_reference(found[1])))

    return PATTERN.sub(text, value)


def as_text(value: Any) -> str:
    """A value within a text, as a command line has it."""
    return "true" if value is True else "false" if value is False else "null" if value is None else str(value)


def dig(value: Any, path: str) -> Any:
    """What lies at a path in a JSON value, a key that has dots itself included; KeyError where nothing does.

    >>> dig({"a.b": 1, "c": [{"d": 2}]}, "a.b"), dig({"c": [{"d": 2}]}, "c.0.d")
    (1, 2)
    """
    if not path:
        return value
    if isinstance(value, dict):
        if path in value:
            return value[path]
        for key in sorted(map(str, value), key=len, reverse=True):
            if path.startswith(f"{key}."):
                return dig(value[key], path[len(key) + 1 :])
    first, _, rest = path.partition(".")
    if isinstance(value, list) and first.isdecimal() and int(first) < len(value):
        return dig(value[int(first)], rest)
    raise KeyError(path)


COMPARED: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge, ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip
NAMES = {"true": True, "false": False, "null": None, "none": None}


def read_condition(text: str) -> tuple[ast.expr, list[Reference]]:
    """A condition of references, numbers and texts: comparisons joined by `and`, `or`, `not`; a FlowError for anything else."""
    found: list[Reference] = []

    def place(one):
        found.append(read_reference(one[1]))
        return f" _{len(found) - 1} "

    try:
        tree = ast.parse(PATTERN.sub(place, text).strip(), mode="eval").body
    except SyntaxError as error:
        raise FlowError(f"`when` must be a condition, as in ${{score.auc}} >= 0.9; got {text}.") from error
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id not in NAMES and not re.fullmatch(r"_\d+", node.id):
            raise FlowError(f"`when` knows no `{node.id}`; write ${{...}} for a value and '...' for a text; got {text}.")
        if not isinstance(node, ALLOWED):
            raise FlowError(f"`when` compares values and joins conditions by and, or, not; got {text}.")
    return tree, found


ALLOWED = (
    ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.Name, ast.Load, ast.Constant, ast.List,
    ast.Tuple, *COMPARED,
)  # fmt: skip


def holds(text: str, look: Callable[[Reference], Any]) -> bool:
    """Whether a condition holds.

    >>> holds("${a} > 1 and not ${b}", lambda of: {"a": 2, "b": False}[of.head])
    True
    """
    tree, found = read_condition(text)

    def value(node: Any) -> Any:
        match node:
            case ast.BoolOp(op=ast.And()):
                return all(value(one) for one in node.values)
            case ast.BoolOp():
                return any(value(one) for one in node.values)
            case ast.UnaryOp(op=ast.Not()):
                return not value(node.operand)
            case ast.UnaryOp():
                return -value(node.operand)
            case ast.Compare():
                sides = [value(one) for one in (node.left, *node.comparators)]
                return all(COMPARED[type(how)](a, b) for how, a, b in zip(node.ops, sides, sides[1:], strict=False))
            case ast.Name():
                return NAMES[node.id] if node.id in NAMES else look(found[int(node.id[1:])])
            case ast.List() | ast.Tuple():
                return [value(one) for one in node.elts]
        return node.value

    try:
        answer = value(tree)
    except TypeError as error:
        raise FlowError(f"`when` compares what cannot be compared: {text}: {error}.") from error
    if not isinstance(answer, bool):
        raise FlowError(f"`when` must be true or false; {text} is {answer!r}.")
    return answer
