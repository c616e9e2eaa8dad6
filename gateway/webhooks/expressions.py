"""JMESPath as webhook sources use it, with ``lower``, ``trim``, ``from_json`` and
``stop_word`` added.

https://jmespath.org/specification.html; the language is the jmespath library's.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import jmespath
from jmespath.functions import Functions, signature
from jmespath.parser import ParsedResult

from gateway.bodies import read_json
from gateway.errors import GatewayError
from gateway.stop_words import is_stop_word

# The library promises JMESPathError, a ValueError. Operators, slices and built-in functions over
# whatever a sender put into an event raise the others: `'a' < `1``, ceil of infinity, deep nesting.
_FAILURES = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RuntimeError)


class InvalidExpression(ValueError):
    """The text is not a valid JMESPath expression, or calls a function that does not exist."""


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
            raise InvalidExpression(" ".join(str(error).split())) from None
        for name, count in _calls(compiled.parsed):
            _check_call(name, count)
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
        raise InvalidExpression(f"there is no function {name}()")
    parameters = known["signature"]
    variadic = bool(parameters and parameters[-1].get("variadic"))
    if count < len(parameters) or (count > len(parameters) and not variadic):
        raise InvalidExpression(f"{name}() does not take {count} arguments")
