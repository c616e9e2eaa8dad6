"""JMESPath as webhook sources use it, with ``lower``, ``trim``, ``from_json`` and
``stop_word`` added.

https://jmespath.org/specification.html; the language is the jmespath library's.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jmespath
from jmespath.functions import Functions, signature
from jmespath.lexer import Lexer
from jmespath.parser import ParsedResult

from gateway.bodies import read_json
from gateway.errors import GatewayError
from gateway.stop_words import is_stop_word

# The library promises JMESPathError, a ValueError. Operators, slices and built-in functions over
# whatever a sender put into an event raise the others: `'a' < `1``, ceil of infinity, deep nesting.
_FAILURES = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RuntimeError)

_LIBRARYS_PREFIX = re.compile(r"(bad|invalid) jmespath expression: ", re.IGNORECASE)
_SIMPLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DECIDING = frozenset(
    {"and_expression", "or_expression", "not_expression", "comparator", "function_expression"}
)


class InvalidExpression(ValueError):
    """The expression could never do what was meant; the message says why, after its key."""


class ExpressionFailed(ValueError):
    """The expression cannot be evaluated on this value; the message holds nothing of the value."""


class _Functions(Functions):
    """The four additions; they accept any type, and return null for unsuitable input."""

    @signature({"types": []})
    def _func_lower(self, value: object) -> str | None:
        return value.lower() if isinstance(value, str) else None

    @signature({"types": []})
    def _func_trim(self, value: object) -> str | None:
        return value.strip() if isinstance(value, str) else None

    @signature({"types": []})
    def _func_stop_word(self, value: object) -> bool | None:
        return is_stop_word(value) if isinstance(value, str) else None

    @signature({"types": []})
    def _func_from_json(self, value: object) -> object:
        try:
            return read_json(value.encode()) if isinstance(value, str) else None
        except (GatewayError, UnicodeEncodeError):
            return None


@dataclass(frozen=True)
class Expression:
    """One compiled JMESPath expression; ``text`` is what the operator wrote."""

    text: str
    _compiled: ParsedResult = field(repr=False, compare=False)

    @classmethod
    def compile(cls, text: str) -> "Expression":
        """Raises InvalidExpression, with one line that says why, if it could never work."""
        try:
            compiled = jmespath.compile(text)
        except _FAILURES as error:
            raise _invalid(" ".join(_LIBRARYS_PREFIX.sub("", str(error)).split())) from None
        for name, count in _calls(compiled.parsed):
            _check_call(name, count)
        _check_comparisons(text)
        return cls(text, compiled)

    def search(self, value: object) -> object:
        """What the expression finds in the value; raises ExpressionFailed if it cannot say."""
        try:
            return self._compiled.search(value, _OPTIONS)
        except _FAILURES as error:
            # from None: the library's messages quote the value, which may be a phone number
            raise ExpressionFailed(f"fails on this value ({type(error).__name__})") from None

    def holds(self, value: object) -> bool:
        """Whether the result is true as JMESPath has it: all but false, null and what is empty."""
        result = self.search(value)
        if isinstance(result, str | list | dict):
            return bool(result)
        return result is not None and result is not False

    def fields(self, value: object) -> Iterator[tuple[str, object]]:
        """The fields of the value that decide, by their paths; null for what is not there."""
        for path in dict.fromkeys(_paths(self._compiled.parsed)):
            yield path, jmespath.search(path, value)


_OPTIONS = jmespath.Options(custom_functions=_Functions())


def _calls(node: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    """Each function that the parsed expression calls, with its number of arguments."""
    children = node.get("children", ())
    if not isinstance(children, Sequence):
        raise TypeError("a JMESPath syntax tree has lists of children")
    if node["type"] == "function_expression":
        yield str(node["value"]), len(children)
    for child in children:
        if isinstance(child, Mapping):  # a slice's children are numbers
            yield from _calls(child)


def _check_call(name: str, count: int) -> None:
    """The library looks functions up when an event comes; a misspelt one would ignore them all."""
    known = _Functions.FUNCTION_TABLE.get(name)
    if known is None:
        raise _invalid(f"there is no function {name}()")
    parameters = known["signature"]
    variadic = bool(parameters and parameters[-1].get("variadic"))
    if count < len(parameters) or (count > len(parameters) and not variadic):
        raise _invalid(f"{name}() does not take {count} arguments")


def _check_comparisons(text: str) -> None:
    """Double quotes name a field. After ``==`` a text was meant, and would be compared in vain."""
    tokens = [token for token in Lexer().tokenize(text) if token["type"] != "lparen"]
    for operator, operand, following in zip(tokens, tokens[1:], tokens[2:], strict=False):
        is_compared = operator["type"] in ("eq", "ne") and operand["type"] == "quoted_identifier"
        if is_compared and following["type"] not in ("dot", "lbracket"):
            name = " ".join(str(operand["value"]).split())
            what = f"compares with the field \"{name}\"; to compare with a text, write '{name}'"
            raise InvalidExpression(what)


def _invalid(why: str) -> InvalidExpression:
    return InvalidExpression(f"is not a valid JMESPath expression: {why}")


def _paths(node: Mapping[str, Any]) -> Iterator[str]:
    """The paths in what decides: in comparisons, in arguments, and joined by and, or and not."""
    path = _path(node)
    if path:
        yield path
    elif node["type"] in _DECIDING:
        for child in node["children"]:
            yield from _paths(child)
    elif node["type"] == "subexpression":  # what follows its first part is no field of the value
        yield from _paths(node["children"][0])


def _path(node: Mapping[str, Any]) -> str:
    """A path of fields and positions as it is written; empty for anything else."""
    match node["type"]:
        case "field":
            name = str(node["value"])
            return name if _SIMPLE_NAME.fullmatch(name) else json.dumps(name)
        case "index":
            return f"[{node['value']}]"
        case "subexpression" | "index_expression":
            parts = [_path(child) for child in node["children"]]
            return ".".join(parts).replace(".[", "[") if all(parts) else ""
        case _:
            return ""
