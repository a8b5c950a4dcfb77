"""`manage.py provision` makes what is missing and leaves what is there."""

from __future__ import annotations

import io

import pytest
from django.core.management import CommandError, call_command

from notifications.exceptions import QueueUnavailable
from notifications.intake import queue
from tests.conftest import Aws


def provision(**options: object) -> str:
    """Run the command and return what it wrote."""
    output = io.StringIO()
    call_command("provision", stdout=output, **options)
    return output.getvalue()


def test_every_stage_gets_its_queues_and_tables_and_a_second_run_changes_nothing(aws: Aws) -> None:
    first = provision()
    assert provision() == first
    queues = {url.rsplit("/", 1)[1] for url in aws.sqs.list_queues()["QueueUrls"]}
    assert queues >= {
        "hermes-messageQueue",
        "hermes-messageQueue-dead",
        "hermes-messageQueue-production",
        "hermes-messageQueue-production-dead",
    }
    tables = set(aws.dynamodb.list_tables()["TableNames"])
    assert tables >= {"hermesConnections", "hermesAudit", "hermesTokens", "hermesTokens-production"}
    assert first.count("\n") == 6


def test_what_cannot_be_delivered_is_redriven_to_the_dead_letter_queue(aws: Aws) -> None:
    provision()
    url = aws.sqs.get_queue_url(QueueName="hermes-messageQueue")["QueueUrl"]
    attributes = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert ":hermes-messageQueue-dead" in attributes["RedrivePolicy"]


def test_what_lies_in_the_queue_stays_there(aws: Aws) -> None:
    url = aws.sqs.get_queue_url(QueueName="hermes-messageQueue")["QueueUrl"]
    aws.sqs.send_message(QueueUrl=url, MessageBody="{}")
    provision()
    assert aws.sqs.receive_message(QueueUrl=url)["Messages"][0]["Body"] == "{}"


def test_the_connections_table_has_its_ttl_and_its_indexes(aws: Aws) -> None:
    provision()
    description = aws.dynamodb.describe_table(TableName="hermesConnections")["Table"]
    assert {index["IndexName"] for index in description["GlobalSecondaryIndexes"]} >= {
        "room_id-index",
        "server_id-index",
    }
    ttl = aws.dynamodb.describe_time_to_live(TableName="hermesConnections")["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires_at"}


def test_one_stage_alone_can_be_provisioned_silently(aws: Aws) -> None:
    assert {line.split(":")[0] for line in provision(stage="production").splitlines()} == {"production"}
    assert provision(stage="production", verbosity=0) == ""


def test_an_outage_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise QueueUnavailable("SQS does not answer.")

    monkeypatch.setattr(queue, "provision", refuse)
    with pytest.raises(CommandError, match=r"development: queue hermes-messageQueue.*SQS does not answer\."):
        provision()
