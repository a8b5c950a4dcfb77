"""What a client may send over an open WebSocket and should not, and how it is answered. Sent by test_bad_inputs."""

from __future__ import annotations

import json

from tests.e2e.bad_inputs.wire import BINARY, CLOSE, DROPPED, PING, PONG, frame

CONTINUATION = 0


def act(**fields: object) -> str:
    """Return a client's frame."""
    return json.dumps(fields)


def send(data: str) -> str:
    """Return a sendMessage with this text for data."""
    return '{"action": "sendMessage", "data": ' + data + "}"


# Answered with an `error` frame of this code; the connection stays.
ANSWERED: dict[str, tuple[bytes, str]] = {
    name: (frame(content), code)
    for name, (content, code) in {
        "nothing": ("", "not_json"),
        "a blank": (" ", "not_json"),
        "a word": ("hello", "not_json"),
        "a line break": ("\n", "not_json"),
        "a NUL": ("\0", "not_json"),
        "cut off": ('{"action": "send', "not_json"),
        "single quotes": ("{'action': 'recent'}", "not_json"),
        "two objects": (act(action="recent") * 2, "not_json"),
        "a byte order mark": ("\ufeff" + act(action="recent"), "not_json"),
        "a socket.io frame": ('42["sendMessage", "x"]', "not_json"),
        "a STOMP frame": ("CONNECT\naccept-version:1.2\n\n\0", "not_json"),
        "an HTTP request": ("GET / HTTP/1.1\r\n\r\n", "not_json"),
        "a list": ("[]", "not_an_object"),
        "null": ("null", "not_an_object"),
        "true": ("true", "not_an_object"),
        "a number": ("1", "not_an_object"),
        "a string": ('"sendMessage"', "not_an_object"),
        "a good frame in a list": (f"[{act(action='recent')}]", "not_an_object"),
        "an empty object": ("{}", "unknown_action"),
        "another action": (act(action="dance"), "unknown_action"),
        "an action in small letters": (act(action="sendmessage", data=1), "unknown_action"),
        "an action with a blank": (act(action="sendMessage ", data=1), "unknown_action"),
        "an action that is null": (act(action=None), "unknown_action"),
        "an action that is a number": (act(action=1), "unknown_action"),
        "an action that is a list": (act(action=["sendMessage"]), "unknown_action"),
        "an action that is an object": (act(action={"sendMessage": 1}), "unknown_action"),
        "an action of API Gateway's": (act(action="$disconnect"), "unknown_action"),
        "an action of Python's": (act(action="__class__"), "unknown_action"),
        "an action that would join another room": (act(action="join", room_id="globex"), "unknown_action"),
        "a forged entry": (act(user_id=1, room_id="acme", data=1, seq=1, epoch="e", id="x"), "unknown_action"),
        "a forged control frame": (act(data={"type": "hermes.goodbye", "data": {}}), "unknown_action"),
        "sendMessage without data": (act(action="sendMessage"), "no_data"),
        "sendMessage with message for data": (act(action="sendMessage", message="x"), "no_data"),
        "a reserved type": (act(action="sendMessage", data={"type": "hermes.lost", "data": {}}), "reserved_type"),
        "a reserved type in an escape": (send('{"type": "\\u0068ermes.gap"}'), "reserved_type"),
        "the prefix alone": (act(action="sendMessage", data={"type": "hermes."}), "reserved_type"),
        "an action twice": ('{"action": "recent", "action": "sendMessage", "data": 1}', "duplicate_key"),
        "a key of data twice": (send('{"type": "info", "type": "hermes.lost"}'), "duplicate_key"),
        "NaN": (send("NaN"), "not_finite"),
        "Infinity": (send("[Infinity]"), "not_finite"),
        "1e999": (send("1e999"), "not_finite"),
        "5,000 digits": (send("9" * 5000), "number_too_long"),
        "a lone surrogate": (send('"\\ud800"'), "lone_surrogate"),
        "a lone surrogate in a key": (send('{"\\udc00": 1}'), "lone_surrogate"),
        "depth 33": (send("[" * 32 + "]" * 32), "too_deep"),
        "depth 30,000": ("[" * 30_000, "too_deep"),
        "depth 10,000 of objects": ('{"a":' * 10_000, "too_deep"),
        "refresh without a token": (act(action="refresh"), "no_token"),
        "refresh with null": (act(action="refresh", token=None), "no_token"),
        "refresh with a number": (act(action="refresh", token=1), "no_token"),
        "refresh with a list": (act(action="refresh", token=["x"]), "no_token"),
        "refresh with nothing": (act(action="refresh", token=""), "token_refused"),
        "refresh with a word": (act(action="refresh", token="rubbish"), "token_refused"),
        "refresh with a lone surrogate": ('{"action": "refresh", "token": "\\ud800"}', "token_refused"),
        "refresh with a token too long": (act(action="refresh", token="x" * 5000), "token_refused"),
        "recent with 0": (act(action="recent", limit=0), "bad_limit"),
        "recent with -1": (act(action="recent", limit=-1), "bad_limit"),
        "recent with 201": (act(action="recent", limit=201), "bad_limit"),
        "recent with 10**100": (act(action="recent", limit=10**100), "bad_limit"),
        "recent with a fraction": (act(action="recent", limit=1.5), "bad_limit"),
        "recent with 5.0": (act(action="recent", limit=5.0), "bad_limit"),
        "recent with a string": (act(action="recent", limit="50"), "bad_limit"),
        "recent with true": (act(action="recent", limit=True), "bad_limit"),
        "recent with null": (act(action="recent", limit=None), "bad_limit"),
        "recent with a list": (act(action="recent", limit=[50]), "bad_limit"),
    }.items()
} | {
    "binary: nothing": (frame(b"", BINARY), "binary"),
    "binary: a NUL": (frame(b"\0", BINARY), "binary"),
    "binary: a good frame": (frame(act(action="recent"), BINARY), "binary"),
    "binary: no UTF-8": (frame(b"\xff\xfe\xfd", BINARY), "binary"),
    "binary: 60,000 bytes": (frame(b"\0" * 60_000, BINARY), "binary"),
    "binary in pieces": (
        frame(b"a", BINARY, fin=False) + frame(b"b", CONTINUATION, fin=False) + frame(b"c", CONTINUATION),
        "binary",
    ),
    "a word in pieces": (frame("dan", fin=False) + frame("ce", CONTINUATION), "not_json"),
    "a word in 500 pieces": (
        frame("x", fin=False) + frame("x", CONTINUATION, fin=False) * 498 + frame("x", CONTINUATION),
        "not_json",
    ),
    "empty pieces": (
        frame("", fin=False) + frame("", CONTINUATION, fin=False) * 100 + frame("", CONTINUATION),
        "not_json",
    ),
    "a ping between two pieces": (frame("dan", fin=False) + frame("now", PING) + frame("ce", CONTINUATION), "not_json"),
    "a character cut in two pieces": (frame(b"\xe2\x82", fin=False) + frame(b"\xac", CONTINUATION), "not_json"),
    "a pong that nobody asked for, and a word": (frame("pong", PONG) + frame("x"), "not_json"),
    "300 pings, and a word": (frame("flood", PING) * 300 + frame("x"), "not_json"),
}

# Ended by the server: the close code on `serve`, and on `runserver`, where DROPPED is a connection without one.
ENDED: dict[str, tuple[bytes, int, int]] = {
    "a text that is no UTF-8": (frame(b"\xff\xfe"), 1007, DROPPED),
    "a text with half a character": (frame(b"\xe2\x82"), 1007, DROPPED),
    "a text with an overlong NUL": (frame(b"\xc0\x80"), 1007, DROPPED),
    "a text with an encoded surrogate": (frame(b"\xed\xa0\x80"), 1007, DROPPED),
    "a text beyond Unicode": (frame(b"\xf4\x90\x80\x80"), 1007, DROPPED),
    "no UTF-8 in the second piece": (frame("ok", fin=False) + frame(b"\xff", CONTINUATION), 1007, DROPPED),
    "a text of 64 KiB and a byte": (frame("x" * 65_537), 1009, 0),
    "a binary of 64 KiB and a byte": (frame(b"x" * 65_537, BINARY), 1009, 0),
    "64 KiB and a byte in pieces": (frame("x" * 60_000, fin=False) + frame("x" * 5_537, CONTINUATION), 1009, 0),
    "a length of 2**40, announced": (b"\x81\xff" + (2**40).to_bytes(8, "big") + b"mask", 1009, DROPPED),
    "a length of 2**63, announced": (b"\x81\xff" + (2**63).to_bytes(8, "big") + b"mask", 1009, DROPPED),
    "a frame without a mask": (frame("x", mask=False), 1002, DROPPED),
    "a ping without a mask": (frame("", PING, mask=False), 1002, DROPPED),
    "a reserved bit": (frame("x", rsv=4), 1002, DROPPED),
    "another reserved bit": (frame("x", rsv=2), 1002, DROPPED),
    "the third reserved bit": (frame("x", rsv=1), 1002, DROPPED),
    "opcode 3": (frame("x", 3), 1002, DROPPED),
    "opcode 7": (frame("x", 7), 1002, DROPPED),
    "opcode 11": (frame("x", 11), 1002, DROPPED),
    "opcode 15": (frame("x", 15), 1002, DROPPED),
    "a continuation of nothing": (frame("x", CONTINUATION), 1002, DROPPED),
    "a text inside a text": (frame("x", fin=False) + frame("y"), 1002, DROPPED),
    "a binary inside a text": (frame("x", fin=False) + frame("y", BINARY), 1002, DROPPED),
    "a ping of 126 bytes": (frame("x" * 126, PING), 1002, DROPPED),
    "a ping in pieces": (frame("x", PING, fin=False), 1002, DROPPED),
    "a close in pieces": (frame(b"", CLOSE, fin=False), 1002, DROPPED),
    "a close of one byte": (frame(b"\x03", CLOSE), 1002, DROPPED),
    "a close of 126 bytes": (frame(b"\x03\xe8" + b"x" * 124, CLOSE), 1002, DROPPED),
    "a close with code 0": (frame(b"\0\0", CLOSE), 1002, DROPPED),
    "a close with code 999": (frame((999).to_bytes(2, "big"), CLOSE), 1002, DROPPED),
    "a close with code 1004": (frame((1004).to_bytes(2, "big"), CLOSE), 1002, DROPPED),
    "a close with code 1005": (frame((1005).to_bytes(2, "big"), CLOSE), 1002, DROPPED),
    "a close with code 1006": (frame((1006).to_bytes(2, "big"), CLOSE), 1002, DROPPED),
    "a close with code 1015": (frame((1015).to_bytes(2, "big"), CLOSE), 1002, DROPPED),
    "a close with code 2999": (frame((2999).to_bytes(2, "big"), CLOSE), 1002, DROPPED),
    "a close with code 65,535": (frame((65_535).to_bytes(2, "big"), CLOSE), 1002, DROPPED),
    "a close whose reason is no UTF-8": (frame(b"\x03\xe8\xff", CLOSE), 1007, DROPPED),
    "a close with a code of ours": (frame((4401).to_bytes(2, "big") + b"token", CLOSE), 4401, 1000),
    "rubbish instead of frames": (b"\0" * 64, 1002, DROPPED),
    "an HTTP request instead of frames": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1002, DROPPED),
    "a TLS greeting instead of frames": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 1002, DROPPED),
    "350 frames at once": (frame("x") * 350, 4129, 4129),
    "350 messages at once": (frame(act(action="sendMessage", data={"type": "hermes.x"})) * 350, 4129, 4129),
}
# The client goes without a word; nothing is answered, and nobody notices.
CUT_OFF: dict[str, bytes] = {
    "half a head": b"\x81",
    "a head without its frame": b"\x81\xfe\x01",
    "half a frame": frame("x" * 1000)[:500],
    "the first piece": frame("x", fin=False),
    "nothing": b"",
}
