"""Every exception of Hermes, in one tree; each docstring is the message a reader needs. Raised in all five rooms.

HermesError
├── MessageRefused        intake.envelope, stream.message: a body that can never be delivered
├── TokenRefused          access.tokens, access.authorizer: a handshake without authority
├── Unavailable           any: a part that Hermes needs does not answer now; try again
│   ├── HistoryUnavailable    stream.history: Redis
│   ├── QueueUnavailable      intake.queue: SQS
│   ├── StoreUnavailable      access.token_store, registry.mirror: DynamoDB
│   └── StageNotConfigured    access.revocation: another process's stage, or one of before
└── ClientError           sockets.consumer: a frame from a browser that is answered with an `error` frame
"""

from __future__ import annotations


class HermesError(Exception):
    """The root: catch it to catch all of ours and nothing else."""


class MessageRefused(HermesError):
    """The message can never be delivered as it is; it belongs in the dead-letter queue.

    Args:
        code: a short stable word for metrics and the ``hermes-error`` attribute, e.g. ``not_json``.
        detail: one sentence for people; never holds the payload.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class TokenRefused(HermesError):
    """The token gives no authority to join; the connection is closed with ``close_code``.

    Args:
        reason: a short stable word for logs and metrics, e.g. ``expired``; never holds the token.
        close_code: 4401 (token) or 4403 (revoked), see docs/protocol.md.
    """

    def __init__(self, reason: str, close_code: int = 4401) -> None:
        super().__init__(reason)
        self.reason = reason
        self.close_code = close_code


class Unavailable(HermesError):
    """A part that Hermes needs does not answer now; what was asked can be asked again."""


class HistoryUnavailable(Unavailable):
    """Redis does not answer: nothing can be appended or read; nothing is deleted from SQS meanwhile."""


class QueueUnavailable(Unavailable):
    """SQS does not answer, or refuses: what is in flight comes back after its visibility timeout."""


class StoreUnavailable(Unavailable):
    """DynamoDB does not answer: new tokens and first joins must wait; open connections do not notice."""


class StageNotConfigured(Unavailable):
    """This process does not have the stage in `HERMES_STAGES`: nobody in it can be told anything from here."""


class ClientError(HermesError):
    """A client's frame cannot be obeyed; it is told so and its connection stays open.

    Args:
        code: a short stable word, e.g. ``unknown_action``; see docs/protocol.md.
        message: one sentence for the developer who reads it in the console.
        ref: the frame's own, echoed; empty when it has none.
    """

    def __init__(self, code: str, message: str, ref: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.ref = ref
