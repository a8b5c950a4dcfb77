"""The AWS endpoint's process: ministack with the size that SQS allows today. Started by engines."""

from __future__ import annotations

from typing import Any

from ministack.app import main
from ministack.services import sqs

# SQS has let bodies of 1 MiB in since 2025; ministack still holds every queue to the 256 KiB of before, and with that
# no test could show what becomes of a message that is too large for Hermes but not for SQS.
_MAX_BYTES = 1024 * 1024


def _allow_large_messages() -> None:
    create = sqs._HANDLERS["CreateQueue"]

    def create_queue(data: dict[str, Any], url: str) -> Any:
        attributes = {"MaximumMessageSize": str(_MAX_BYTES), **(data.get("Attributes") or {})}
        return create({**data, "Attributes": attributes}, url)

    sqs._NUMERIC_ATTR_RANGES["MaximumMessageSize"] = (1024, _MAX_BYTES)
    sqs._HANDLERS["CreateQueue"] = create_queue


if __name__ == "__main__":
    _allow_large_messages()
    main()
