from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import ovs.json
from hypothesis import given
from hypothesis import strategies as st

from nfvhost.access.ovs_json import FastParser

# A number of JSON in OVSDB has 64 bits (RFC 7047, 3.1, <integer>); the library turns a larger one into a float.
INTEGERS = st.integers(-(2**63), 2**63 - 1)
VALUES = st.recursive(
    st.none() | st.booleans() | INTEGERS | st.text(alphabet='{}[]"\\ \n:,aé\U0001f600', max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(alphabet='{}"a', max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)
WRITERS = (json.dumps, partial(json.dumps, ensure_ascii=False), partial(json.dumps, indent=1))
# Neither takes half of a surrogate pair, and the library no NUL.
KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3)
MESSAGES = st.lists(st.dictionaries(KEYS, VALUES, max_size=4), min_size=1, max_size=4)


def received(parser: type[FastParser], pieces: list[str]) -> list[Any]:
    """What ovs.jsonrpc.Connection.recv makes of these pieces."""
    values = []
    current = parser()
    for piece in pieces:
        left = piece
        while left:
            left = left[current.feed(left) :]
            if current.is_done():
                values.append(current.finish())
                current = parser()
    return values


@given(messages=MESSAGES, size=st.integers(1, 64), write=st.sampled_from(WRITERS), gap=st.sampled_from(["", " ", "\n"]))
def test_messages_come_out_as_the_library_reads_them_however_they_are_cut(
    messages: list[Any], size: int, write: Callable[[Any], str], gap: str
) -> None:
    stream = gap.join(map(write, messages))
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]

    assert received(FastParser, pieces) == messages
    assert received(ovs.json.Parser, pieces) == messages


def test_another_protocol_is_an_error_at_once() -> None:
    parser = FastParser()

    assert parser.feed("HTTP/1.1 400 Bad Request\r\n") == 26
    assert parser.is_done()
    assert parser.finish() == "syntax error expecting an object"


def test_an_object_that_is_broken_inside_is_an_error_at_its_end() -> None:
    parser = FastParser()

    assert parser.feed('{"a": }{}') == 7
    assert "Expecting value" in parser.finish()
