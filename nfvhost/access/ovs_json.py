"""The standard library's JSON parser in place of the pure Python one of the `ovs` library.

That one takes 17 ms for the schema of Open vSwitch, character by character; its own module in C is built only where
OVS's headers are.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import ovs.json

# Up to the next bracket or the end of the next text; a text that is cut off does not match.
_TOKEN: Final = re.compile(r'[^"{}]*(?:"[^"\\]*(?:\\.[^"\\]*)*"|([{}]))', re.DOTALL)


class FastParser:
    """What ovs.jsonrpc.Connection asks of a parser: fed with text piece by piece, done at the end of one object."""

    def __init__(self) -> None:
        self._text = ""
        self._scanned = 0
        self._open = 0
        self._value: Any = None
        self._done = False

    def feed(self, piece: str) -> int:
        """How many characters of `piece` belong to the object."""
        before = len(self._text)
        self._text += piece
        # A message is an object (RFC 7047, 4); anything else is another protocol.
        if not self._open and self._text.lstrip()[:1] not in {"{", ""}:
            self._finish("syntax error expecting an object")
            return len(piece)
        while token := _TOKEN.match(self._text, self._scanned):
            self._scanned = token.end()
            if token[1]:
                self._open += 1 if token[1] == "{" else -1
                if self._open == 0:
                    break
        else:
            return len(piece)
        try:
            self._finish(json.loads(self._text[: self._scanned]))
        except json.JSONDecodeError as error:
            self._finish(str(error))
        return self._scanned - before

    def _finish(self, value: Any) -> None:  # noqa: ANN401 - JSON
        self._value, self._done = value, True

    def is_done(self) -> bool:
        """Whether the object, or an error, is complete."""
        return self._done

    def finish(self) -> Any:  # noqa: ANN401 - JSON
        """The object; the text of an error where it is none."""
        return self._value


def use_fast_parser() -> None:
    """Nothing; the library parses by the standard library from now on, unless it has its own parser in C."""
    if ovs.json.PARSER != ovs.json.PARSER_C:
        ovs.json.Parser = FastParser
