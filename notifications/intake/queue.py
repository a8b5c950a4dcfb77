"""Queue: Amazon SQS, a stage's queue and its dead letters; speaks through sqs. Used by relay, dead_letters, examine.

A relay awaits on its event loop what it asks all day. The rest blocks, in threads of who calls, which boto3 allows.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError
from django.conf import settings

from notifications.conf import Stage
from notifications.exceptions import MessageRefused, QueueUnavailable
from notifications.findings import Role
from notifications.intake.received import Received, dead_letter_attributes
from notifications.intake.sqs import clients, with_bytes
from notifications.stream import trace
from notifications.wire import InThread

BATCH = 10  # SQS's limit for every batch call
RETENTION_SECONDS = 14 * 24 * 3600  # of the dead-letter queue: SQS's longest
# How SQS answers what cannot be done, to who may do it.
_PERMITTED = ("InvalidParameter", "InvalidMessageContents", "ReceiptHandle", "OutOfRange", "NonExistentQueue")


class Queue:
    """One stage's queue.

    Args:
        stage: whose.
    """

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._client, self._wire = clients()
        self._urls: dict[str, str] = {}

    @property
    def is_fifo(self) -> bool:
        """Whether a message group means order; on a standard queue it means fairness between its senders."""
        return self._stage.queue_name.endswith(".fifo")

    async def receive(self, in_thread: InThread) -> list[Received]:
        """Wait for messages, at most `HERMES_WAIT_SECONDS`, on the event loop.

        Args:
            in_thread: runs what may block beside that, such as finding the queue, in a thread.

        Returns:
            Up to ten, in flight for `HERMES_VISIBILITY_SECONDS`.

        Raises:
            QueueUnavailable: SQS does not answer, or refuses.
        """
        with self._errors("receive"):
            answer = await self._wire.call_here(
                "ReceiveMessage",
                in_thread,
                QueueUrl=await self._url_here(in_thread),
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=settings.HERMES_WAIT_SECONDS,
                VisibilityTimeout=settings.HERMES_VISIBILITY_SECONDS,
                MessageSystemAttributeNames=["MessageGroupId", "SentTimestamp"],
                MessageAttributeNames=["All"],
            )
        return [Received.of(message) for message in with_bytes(answer.get("Messages", []))]

    def delete(self, messages: Sequence[Received]) -> list[Received]:
        """Delete messages that are safely elsewhere.

        Args:
            messages: at most ten.

        Returns:
            Those that SQS did not delete: a batch call fails for each of its entries separately.

        Raises:
            QueueUnavailable: SQS does not answer, or refuses.
        """
        if not messages:
            return []
        with self._errors("delete"):
            answer = self._wire.call(
                "DeleteMessageBatch", QueueUrl=self._url(self._stage.queue_name), Entries=_receipts(messages)
            )
        return _failed(answer, messages)

    async def delete_here(self, messages: Sequence[Received], in_thread: InThread) -> list[Received]:
        """Do as `delete` does, on the event loop; `in_thread` is as for `receive`."""
        if not messages:
            return []
        with self._errors("delete"):
            url = await self._url_here(in_thread)
            answer = await self._wire.call_here(
                "DeleteMessageBatch", in_thread, QueueUrl=url, Entries=_receipts(messages)
            )
        return _failed(answer, messages)

    def hold(self, messages: Sequence[Received], seconds: int) -> list[Received]:
        """Have messages come again only after so many seconds from now.

        Args:
            messages: any number, in flight.
            seconds: 0 to 43,200; 0 gives them back at once.

        Returns:
            Those for which SQS refused: they come again when their present visibility ends, or have been deleted.

        Raises:
            QueueUnavailable: SQS does not answer, or refuses.
        """
        failed: list[Received] = []
        for start in range(0, len(messages), BATCH):
            some = messages[start : start + BATCH]
            with self._errors("release" if seconds == 0 else "hold"):
                answer = self._wire.call(
                    "ChangeMessageVisibilityBatch",
                    QueueUrl=self._url(self._stage.queue_name),
                    Entries=[{**receipt, "VisibilityTimeout": seconds} for receipt in _receipts(some)],
                )
            failed += _failed(answer, some)
        return failed

    def dead_letter(self, message: Received, refusal: MessageRefused) -> bool:
        """Put a message that can never be delivered into the dead-letter queue, with the reason.

        Returns:
            Whether it is there; ``False`` where the stage has no dead-letter queue, and the message must stay for
            the queue's own redrive policy.

        Raises:
            QueueUnavailable: SQS does not answer, or refuses.
        """
        request: dict[str, Any] = {
            "MessageBody": message.body,
            "MessageAttributes": dead_letter_attributes(message, str(refusal)),
        }
        if self._stage.dlq_name.endswith(".fifo"):
            request |= {"MessageGroupId": message.group or "hermes", "MessageDeduplicationId": message.id}
        with self._errors("send to the dead-letter queue"):
            try:
                url = self._url(self._stage.dlq_name)
            except self._client.exceptions.QueueDoesNotExist:
                return False
            self._put(url, request)
        return True

    def send(self, body: str, traceparent: str = "") -> str:
        """Put a message on the queue.

        Args:
            body: from `envelope.encode`.
            traceparent: from `trace.parse`; empty for none.

        Returns:
            Its MessageId.

        Raises:
            QueueUnavailable: SQS does not answer, or refuses.
        """
        request: dict[str, Any] = {"MessageBody": body}
        if self.is_fifo:
            request |= _fifo_ids(json.loads(body))
        if traceparent:
            request["MessageAttributes"] = {trace.ATTRIBUTE: {"DataType": "String", "StringValue": traceparent}}
        with self._errors("send"):
            return self._put(self._url(self._stage.queue_name), request)

    def _put(self, url: str, request: dict[str, Any]) -> str:
        """Send a message and return its MessageId: without one nobody may believe that SQS has it."""
        answer: Any = self._client.send_message(QueueUrl=url, **request)
        return self._named(answer, "MessageId")

    async def _url_here(self, in_thread: InThread) -> str:
        return self._urls.get(name := self._stage.queue_name) or str(await in_thread(self._url, name))

    def _url(self, name: str) -> str:
        if name not in self._urls:
            answer: Any = self._client.get_queue_url(QueueName=name)
            self._urls[name] = self._named(answer, "QueueUrl")
        return self._urls[name]

    def _named(self, answer: dict[str, Any], field: str) -> str:
        # boto3 takes a page that is no JSON for an answer without any fields.
        if field not in answer:
            raise QueueUnavailable(f"Queue {self._stage.queue_name!r}: what answers for SQS names no {field}")
        return str(answer[field])

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        """Turn boto3's errors into ours, saying what was attempted and what AWS called it."""
        attempt = f"Queue {self._stage.queue_name!r}: could not {doing}"
        try:
            yield
        except ClientError as error:
            self.forget_urls()
            code = error.response.get("Error", {}).get("Code", "unknown")
            raise QueueUnavailable(f"{attempt}: SQS refused with {code}") from error
        except BotoCoreError as error:
            raise QueueUnavailable(f"{attempt}: {type(error).__name__}") from error

    def forget_urls(self) -> None:
        """Look the queues up again: one that was deleted and made anew may have another URL."""
        self._urls.clear()


def _receipts(messages: Sequence[Received]) -> list[dict[str, Any]]:
    """Return the entries of a batch call, each named by its place."""
    return [{"Id": str(place), "ReceiptHandle": message.receipt} for place, message in enumerate(messages)]


def _failed(answer: dict[str, Any], messages: Sequence[Received]) -> list[Received]:
    """Return the messages of a batch call's entries for which it failed."""
    return [messages[int(entry["Id"])] for entry in answer.get("Failed", [])]


def provision(stage: Stage) -> None:
    """Create the queue and its dead-letter queue if they are not there; for development and tests.

    Raises:
        QueueUnavailable: SQS does not answer, or refuses.
    """
    queue = Queue(stage)
    client = queue._client
    fifo: Any = {"FifoQueue": "true"} if stage.queue_name.endswith(".fifo") else {}
    with queue._errors("be provisioned"):
        dead = client.create_queue(
            QueueName=stage.dlq_name, Attributes={"MessageRetentionPeriod": str(RETENTION_SECONDS), **fifo}
        )["QueueUrl"]
        arn = client.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        url = client.create_queue(QueueName=stage.queue_name, Attributes=fifo)["QueueUrl"]
        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": settings.HERMES_MAX_RECEIVES})
        client.set_queue_attributes(
            QueueUrl=url,
            Attributes={"VisibilityTimeout": str(settings.HERMES_VISIBILITY_SECONDS), "RedrivePolicy": policy},
        )


def attributes(stage: Stage, name: str) -> dict[str, str]:
    """Return every attribute of a queue by its name, empty where there is no such queue.

    Raises:
        QueueUnavailable: SQS does not answer, or refuses.
    """
    queue = Queue(stage)
    with queue._errors(f"describe {name}"):
        try:
            url = queue._url(name)
        except queue._client.exceptions.QueueDoesNotExist:
            return {}
        answer: Any = queue._client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return dict(answer["Attributes"])


def refused(stage: Stage, role: Role = Role.ALL) -> list[str]:
    """Return the calls that AWS does not permit us; each is made so that it changes nothing, were it permitted.

    Args:
        stage: whose queues.
        role: makes its own calls only.

    Raises:
        QueueUnavailable: SQS does not answer.
    """
    # No receipt of SQS's, a character that it does not take, no message to receive: AWS looks at permissions first.
    queue, receipt, unsent = Queue(stage), {"Id": "0", "ReceiptHandle": "none"}, {"Id": "0", "MessageBody": "\x01"}
    if queue.is_fifo:
        unsent |= {"MessageGroupId": "hermes", "MessageDeduplicationId": "none"}
    call: Any = queue._client
    takes: list[tuple[str, Any, Any]] = [
        ("ReceiveMessage", call.receive_message, {"MaxNumberOfMessages": 0}),
        ("DeleteMessage", call.delete_message_batch, {"Entries": [receipt]}),
        ("ChangeMessageVisibility", call.change_message_visibility_batch, {"Entries": [receipt]}),
    ]
    gives: list[tuple[str, Any, Any]] = [("SendMessage", call.send_message_batch, {"Entries": [unsent]})]
    # A relay takes from the queue and buries; a server sends, and has dead letters in the admin.
    relays = [(stage.queue_name, *each) for each in takes] + [(stage.dlq_name, *each) for each in gives]
    servers = [(stage.queue_name, *each) for each in gives] + [(stage.dlq_name, *each) for each in takes]
    asked = (servers if role is not Role.RELAY else []) + (relays if role is not Role.WEB else [])
    denied = []
    with queue._errors("be asked for permissions"):
        for name, action, ask, arguments in asked:
            try:
                ask(QueueUrl=queue._url(name), **arguments)
            except ClientError as error:
                if "AccessDenied" in (code := error.response["Error"]["Code"]):
                    denied.append(f"sqs:{action} on {name}")
                elif not any(word in code for word in _PERMITTED):
                    raise
    return denied


def date(stage: Stage) -> str:
    """Return the date in AWS's answer, as HTTP spells it; empty where it has none. A refusal has one, too.

    Raises:
        QueueUnavailable: SQS does not answer.
    """
    with (queue := Queue(stage))._errors("be asked for the time"):
        try:
            answer: Any = queue._client.get_queue_url(QueueName=stage.queue_name)
        except ClientError as error:
            answer = error.response
        return str(answer["ResponseMetadata"].get("HTTPHeaders", {}).get("date", ""))


def _fifo_ids(fields: dict[str, Any]) -> dict[str, str]:
    """Order by room, and dedupe by room and idempotency key; hashed, because SQS takes printable ASCII only."""
    room = str(fields["room_id"])
    key = str(fields["id"]) if "id" in fields else uuid.uuid4().hex
    return {
        "MessageGroupId": hashlib.sha256(room.encode()).hexdigest(),
        "MessageDeduplicationId": hashlib.sha256(f"{len(room)}:{room}{key}".encode()).hexdigest(),
    }
