"""Variables that a file of shell assignments sets, worked out without running it.

`/etc/default/grub` and its like are sourced by sh. Assignments, quotes, `$NAME` and line continuation are followed;
what would have to be run, as `$(lsb_release -is)`, stays unknown and is said to be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

_NAME: Final = re.compile(r"[A-Za-z_]\w*")
# A line may go on in the middle of a name.
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_](?:\w|\\\n)*)=")
_BRACED: Final = re.compile(r"\{([A-Za-z_]\w*)(?::-([^}$`\"']*))?\}")
_OPENING: Final = frozenset({"if", "for", "while", "until", "case", "{"})
_CLOSING: Final = frozenset({"fi", "done", "esac", "}"})
_BETWEEN: Final = frozenset({"then", "else", "elif", "do", "!", "export", "readonly"})
_OPERATORS: Final = ("&&", "||", ";;", ";", "|", "&", "\n", "(", ")")
# A backslash within double quotes quotes these alone (POSIX.1-2017, Shell Command Language, 2.2.3).
_ESCAPED_IN_QUOTES: Final = '$`"\\'


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A part of a value, and the file that it is from."""

    text: str | None  # None: only sh could say
    where: str


Value = tuple[Piece, ...]


@dataclass(slots=True)
class Assignments:
    """The variables after each `source`d file; `assigned` says which files set which, in order."""

    values: dict[str, Value] = field(default_factory=dict)
    assigned: list[tuple[str, str]] = field(default_factory=list)  # name, file

    def source(self, path: str, text: str) -> None:
        """Nothing; the variables are as after `. path`."""
        depth, parentheses, certain = 0, 0, True
        words: list[_Word] = []
        for token in _Lexer(path, text).tokens():
            if isinstance(token, _Word):
                words.append(token)
                continue
            depth = self._command(path, words, depth=depth, certain=certain and not parentheses)
            words.clear()
            # The one that ends a pattern of `case` was never opened.
            parentheses = max(0, parentheses + {"(": 1, ")": -1}.get(token, 0))
            # What stands after && or || depends on what was run before it.
            certain = token not in {"&&", "||"}
        self._command(path, words, depth=depth, certain=certain and not parentheses)

    def text(self, name: str) -> str | None:
        """The value; empty where it is not set, None where only sh could say."""
        pieces = self.values.get(name, ())
        return None if any(piece.text is None for piece in pieces) else "".join(piece.text or "" for piece in pieces)

    def _command(self, path: str, words: list[_Word], *, depth: int, certain: bool) -> int:
        """The depth of compound commands after this simple one, whose leading assignments are carried out."""
        at = 0
        while at < len(words) and words[at].bare in {*_OPENING, *_CLOSING, *_BETWEEN}:
            depth += (words[at].bare in _OPENING) - (words[at].bare in _CLOSING)
            at += 1
        rest = words[at:]
        others = [word for word in rest if not word.name]
        if any(word.solid for word in others):
            return depth  # a command; NAME=value before it is for it alone
        for word in rest[: rest.index(others[0])] if others else rest:
            known = certain and depth <= 0 and not others
            before, after = self.values.get(word.name, ()), tuple(self._expanded(word))
            self.values[word.name] = after if known else (*before, Piece(text=None, where=path), *after)
            self.assigned.append((word.name, path))
        return depth

    def _expanded(self, word: _Word) -> Iterator[Piece]:
        for part in word.value:
            if isinstance(part, Piece):
                yield part
            else:
                yield from self.values.get(part.name, ()) or part.otherwise


@dataclass(frozen=True, slots=True)
class _Reference:
    """`${name:-otherwise}`, or `$name` with nothing otherwise."""

    name: str
    otherwise: Value = ()


@dataclass(slots=True)
class _Word:
    """One word of a command; as an assignment it has a name."""

    bare: str | None  # its text where nothing in it was quoted or expanded
    name: str
    value: tuple[Piece | _Reference, ...]
    solid: bool  # not all of it is expanded, so that it cannot come to nothing


@dataclass(slots=True)
class _Lexer:
    """Cuts a script into words and operators."""

    path: str
    script: str
    at: int = 0

    def tokens(self) -> Iterator[_Word | str]:
        while self.at < len(self.script):
            char = self.script[self.at]
            if char in " \t\r":
                self.at += 1
            elif self._continued():
                self.at += 2
            elif char == "#":
                end = self.script.find("\n", self.at)
                self.at = len(self.script) if end < 0 else end
            elif operator := next((one for one in _OPERATORS if self.script.startswith(one, self.at)), None):
                self.at += len(operator)
                yield operator
            else:
                yield self._word()

    def _word(self) -> _Word:
        start = self.at
        match = _ASSIGNMENT.match(self.script, start)
        if match is not None:
            self.at = match.end()
        pieces: list[Piece | _Reference] = []
        plain, solid = True, False
        while self.at < len(self.script) and self.script[self.at] not in " \t\r\n;|&()":
            char = self.script[self.at]
            plain = plain and char not in "'\"\\$`"
            solid = solid or char not in "$`"
            if self._continued():
                self.at += 2
            elif char == "'":
                pieces.append(self._piece(self._until("'")))
            elif char == '"':
                pieces += self._quoted()
            elif char == "\\":
                pieces.append(self._piece(self.script[self.at + 1 : self.at + 2]))
                self.at += 2
            elif char in "$`":
                pieces += self._expansion()
            else:
                pieces.append(self._piece(char))
                self.at += 1
        bare = self.script[start : self.at] if plain else None
        return _Word(
            bare=bare, name=match[1].replace("\\\n", "") if match is not None else "", value=tuple(pieces), solid=solid
        )

    def _continued(self) -> bool:
        """Whether a line goes on behind this backslash; in a comment none does."""
        return self.script.startswith("\\\n", self.at)

    def _piece(self, text: str | None) -> Piece:
        return Piece(text=text, where=self.path)

    def _until(self, end: str) -> str:
        """What is between here and the next `end`, both left behind."""
        close = self.script.find(end, self.at + 1)
        close = len(self.script) if close < 0 else close
        text = self.script[self.at + 1 : close]
        self.at = close + 1
        return text

    def _quoted(self) -> Iterator[Piece | _Reference]:
        self.at += 1
        while self.at < len(self.script) and self.script[self.at] != '"':
            char = self.script[self.at]
            following = self.script[self.at + 1 : self.at + 2]
            if self._continued():
                self.at += 2
            elif char == "\\" and following and following in _ESCAPED_IN_QUOTES:
                yield self._piece(following)
                self.at += 2
            elif char in "$`":
                yield from self._expansion()
            else:
                yield self._piece(char)
                self.at += 1
        self.at += 1

    def _expansion(self) -> Iterator[Piece | _Reference]:
        """The value of `$NAME`, `${NAME}` and `${NAME:-text}`; unknown for all else, which is skipped as a whole."""
        if self.script[self.at] == "`":
            self._until("`")
            yield self._piece(None)
            return
        self.at += 1
        if match := _NAME.match(self.script, self.at):
            self.at = match.end()
            # A name that goes on in the next line is nobody's habit.
            yield self._piece(None) if self._continued() else _Reference(match[0])
        elif self._continued():
            yield self._piece(None)
        elif match := _BRACED.match(self.script, self.at):
            self.at = match.end()
            yield _Reference(match[1], (self._piece(match[2]),) if match[2] else ())
        elif self.script.startswith(("(", "{"), self.at):
            self._skip_nested()
            yield self._piece(None)
        elif self.at < len(self.script) and self.script[self.at] in "?*@#$!-0123456789":
            self.at += 1
            yield self._piece(None)
        else:
            yield self._piece("$")

    def _skip_nested(self) -> None:
        """Leaves `(…)` or `{…}` behind, with what is nested and quoted in it."""
        closing: list[str] = []
        while self.at < len(self.script):
            char = self.script[self.at]
            if char == "'":
                self._until("'")
                continue
            if char == "\\":
                self.at += 1
            elif char in "({":
                closing.append({"(": ")", "{": "}"}[char])
            elif closing and char == closing[-1]:
                closing.pop()
            self.at += 1
            if not closing:
                return
