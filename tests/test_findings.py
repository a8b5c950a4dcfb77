"""Findings: clocks are judged by what is certain of them, and an error of AWS has the cure of its kind."""

from __future__ import annotations

import pytest

from notifications.findings import Status, aws_cure, clock
from notifications.findings import permitted as judge_permitted


@pytest.mark.parametrize(
    ("least", "most", "status", "found"),
    [
        (-0.5, 0.6, Status.OK, "agree"),
        (-100.0, 100.0, Status.OK, "agree"),
        (1.9, 2.5, Status.OK, "agree"),
        (2.0, 3.0, Status.WARN, "2 s ahead of"),
        (29.9, 31.0, Status.WARN, "30 s ahead of"),
        (30.0, 31.0, Status.FAIL, "30 s ahead of"),
        (-40.0, -2.0, Status.WARN, "2 s behind"),
        (-40.0, -31.0, Status.FAIL, "31 s behind"),
    ],
)
def test_a_clock_is_judged_by_what_is_certain(least: float, most: float, status: Status, found: str) -> None:
    finding = clock("Redis", least, most)
    assert finding.status is status
    assert found in finding.found
    assert bool(finding.cure) is (status is not Status.OK)


@pytest.mark.parametrize(
    ("error", "cure"),
    [
        ("SQS refused with AccessDenied", "What AWS must permit"),
        ("SQS refused with AccessDeniedException", "What AWS must permit"),
        ("could not be probed: NoCredentialsError", "Give boto3 credentials"),
        ("PartialCredentialsError", "Give boto3 credentials"),
        ("DynamoDB refused with UnrecognizedClientException", "AWS_ACCESS_KEY_ID"),
        ("SQS refused with SignatureDoesNotMatch", "clock.aws"),
        ("SQS refused with RequestExpired", "clock.aws"),
        ("SQS refused with RequestThrottled", "ask again later"),
        ("ProvisionedThroughputExceededException", "ask again later"),
        ("Table 'hermesTokens': DynamoDB does not answer: EndpointConnectionError", "AWS_ENDPOINT_URL"),
    ],
)
def test_an_error_of_aws_has_the_cure_of_its_kind(error: str, cure: str) -> None:
    assert cure in aws_cure(error)


def test_calls_that_are_not_permitted_are_named() -> None:
    assert judge_permitted([], "queue a").status is Status.OK
    finding = judge_permitted(["sqs:SendMessage on a", "sqs:SendMessage on b"], "queues a and b")
    assert finding.status is Status.FAIL
    assert "sqs:SendMessage on a, sqs:SendMessage on b" in finding.found
