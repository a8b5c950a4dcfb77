"""deploy/cloudformation.yaml: AWS would take it, and it makes what `manage.py provision` makes, better kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings

from notifications.conf import Environment, Stage
from tests.conftest import Aws
from tests.deploy import manual
from tests.deploy.cloud import TEMPLATE, properties, template
from tests.deploy.deployment import Deployment
from tests.documents import names, rows, section

TABLES = {"TokensTable": "tokens_table", "ConnectionsTable": "connections_table", "AuditTable": "audit_table"}


def parameter(name: str) -> Any:
    """Return a parameter's default."""
    return template()["Parameters"][name]["Default"]


def test_cfn_lint_has_nothing_to_say() -> None:
    command = [Path(sys.executable).with_name("cfn-lint"), "--include-checks", "I", "--", TEMPLATE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_a_stack_of_it_comes_up(deployed: Deployment) -> None:
    assert set(deployed.stack.physical) == set(template()["Resources"])


# ── The same as provision ────────────────────────────────────────────────────────────────────────────────────────────
def by_name(entries: list[dict[str, Any]], key: str) -> dict[str, Any]:
    return {entry[key]: entry for entry in entries}


def shape(table: dict[str, Any]) -> dict[str, Any]:
    """Return what makes two tables the same: keys and indexes."""
    return {
        "keys": {each["AttributeName"]: each["KeyType"] for each in table["KeySchema"]},
        "types": {each["AttributeName"]: each["AttributeType"] for each in table["AttributeDefinitions"]},
        "indexes": {
            each["IndexName"]: (each["KeySchema"], each["Projection"])
            for each in table.get("GlobalSecondaryIndexes") or []
        },
    }


@pytest.mark.parametrize("logical_id", TABLES)
def test_a_table_has_the_keys_indexes_and_ttl_that_provision_gives_it(
    aws: Aws, stage: Stage, deployed: Deployment, logical_id: str
) -> None:
    ours = properties(logical_id)
    made = aws.dynamodb.describe_table(TableName=getattr(stage, TABLES[logical_id]))["Table"]
    assert shape(ours) == shape(made)
    assert ours["BillingMode"] == made["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    ttl = aws.dynamodb.describe_time_to_live(TableName=made["TableName"])["TimeToLiveDescription"]
    wanted = {"Enabled": True, "AttributeName": ttl["AttributeName"]} if "AttributeName" in ttl else None
    assert ours.get("TimeToLiveSpecification") == wanted
    dynamodb = deployed.client("dynamodb")
    assert shape(dynamodb.describe_table(TableName=deployed.stack.physical[logical_id])["Table"]) == shape(made)


def test_the_queues_are_those_that_provision_makes(aws: Aws, stage: Stage) -> None:
    def attributes(name: str) -> dict[str, str]:
        url = aws.sqs.get_queue_url(QueueName=name)["QueueUrl"]
        found: dict[str, str] = aws.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return found

    queue, dead = properties("Queue"), properties("DeadLetterQueue")
    assert queue["VisibilityTimeout"] == {"Ref": "VisibilitySeconds"}
    assert str(parameter("VisibilitySeconds")) == attributes(stage.queue_name)["VisibilityTimeout"]
    assert queue["RedrivePolicy"] == {
        "deadLetterTargetArn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]},
        "maxReceiveCount": {"Ref": "MaxReceives"},
    }
    redrive = json.loads(attributes(stage.queue_name)["RedrivePolicy"])
    assert parameter("MaxReceives") == int(redrive["maxReceiveCount"]) == settings.HERMES_MAX_RECEIVES
    assert str(dead["MessageRetentionPeriod"]) == attributes(stage.dlq_name)["MessageRetentionPeriod"]
    assert str(queue["MessageRetentionPeriod"]) == attributes(stage.queue_name)["MessageRetentionPeriod"]


# ── Better kept ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_everything_is_encrypted_and_tables_can_be_put_back_to_any_second() -> None:
    for logical_id, resource in template()["Resources"].items():
        if resource["Type"] == "AWS::SQS::Queue":
            assert resource["Properties"]["SqsManagedSseEnabled"] is True, logical_id
        if resource["Type"] == "AWS::DynamoDB::Table":
            assert resource["Properties"]["SSESpecification"] == {"SSEEnabled": True}, logical_id
            recovery = resource["Properties"]["PointInTimeRecoverySpecification"]
            assert recovery == {"PointInTimeRecoveryEnabled": True}, logical_id


def test_what_cannot_be_made_again_outlives_its_stack() -> None:
    kept = {
        logical_id: (resource["DeletionPolicy"], resource["UpdateReplacePolicy"])
        for logical_id, resource in template()["Resources"].items()
        if resource["Type"] in ("AWS::SQS::Queue", "AWS::DynamoDB::Table")
    }
    assert kept.pop("ConnectionsTable") == ("Delete", "Delete"), "each server writes its rows again"
    assert set(kept.values()) == {("Retain", "Retain")}


def test_an_alarm_is_raised_by_messages_that_wait_and_by_any_dead_letter(deployed: Deployment) -> None:
    client = deployed.cloud.client("cloudwatch")
    try:
        alarms = by_name(client.describe_alarms()["MetricAlarms"], "MetricName")
    finally:
        client.close()
    seen = {
        metric: (each["Dimensions"][0]["Value"], each["ComparisonOperator"], each["Threshold"], each["Statistic"])
        for metric, each in alarms.items()
    }
    assert seen == {
        "ApproximateAgeOfOldestMessage": (deployed.env["HERMES_QUEUE_NAME"], "GreaterThanThreshold", 60, "Maximum"),
        "ApproximateNumberOfMessagesVisible": (deployed.env["HERMES_DLQ_NAME"], "GreaterThanThreshold", 0, "Maximum"),
    }
    for each in alarms.values():
        assert each["Namespace"] == "AWS/SQS"
        # SQS reports nothing of a queue that was idle for hours: that is no alarm.
        assert each["TreatMissingData"] == "notBreaching"
        assert each["AlarmActions"] == each["OKActions"] == [], "no topic was given"


def test_alarms_go_to_the_topic_that_is_given() -> None:
    for alarm in ("OldestMessageAlarm", "DeadLetterAlarm"):
        for actions in ("AlarmActions", "OKActions"):
            nowhere = {"Ref": "AWS::NoValue"}
            assert properties(alarm)[actions] == {"Fn::If": ["HasAlarmTopic", [{"Ref": "AlarmTopic"}], nowhere]}


# ── Its outputs are Hermes's environment ─────────────────────────────────────────────────────────────────────────────
def environment_output(deployed: Deployment) -> dict[str, str]:
    outputs = by_name(deployed.stack.description["Stacks"][0]["Outputs"], "OutputKey")
    return manual.variables(outputs["Environment"]["OutputValue"])


def test_the_environment_names_everything_that_the_stack_made(deployed: Deployment) -> None:
    found = environment_output(deployed)
    physical = deployed.stack.physical
    assert found.pop("AWS_REGION") == "eu-west-1"
    assert found.pop("HERMES_VISIBILITY_SECONDS") == str(settings.HERMES_VISIBILITY_SECONDS)
    assert found.pop("HERMES_MAX_RECEIVES") == str(settings.HERMES_MAX_RECEIVES)
    assert found == {
        "HERMES_QUEUE_NAME": physical["Queue"],
        "HERMES_DLQ_NAME": physical["DeadLetterQueue"],
        "HERMES_CONNECTIONS_TABLE": physical["ConnectionsTable"],
        "HERMES_TOKENS_TABLE": physical["TokensTable"],
        "HERMES_AUDIT_TABLE": physical["AuditTable"],
    }
    of_a_stage = {names(cells[0])[0] for cells in rows(section("docs/settings.md", "## Stages"))}
    secret = {name for name in of_a_stage if "SECRET" in name or "PASSCODE" in name}
    assert found.keys() == of_a_stage - secret - {"HERMES_STAGES"}, "every name of a stage, and no secret"


def test_with_a_suffix_the_names_are_one_stage_s_alone(deployed: Deployment) -> None:
    lines = template()["Outputs"]["Environment"]["Value"]["Fn::Join"][1]
    plain = [line["Fn::Sub"].partition("=")[0] for line in lines]
    assert [name for name in plain if "${VariableSuffix}" not in name] == [
        "AWS_REGION",
        "HERMES_VISIBILITY_SECONDS",
        "HERMES_MAX_RECEIVES",
    ], "those that all stages share"
    suffixed = {
        name.replace("${VariableSuffix}", "_PRODUCTION"): environment_output(deployed)[
            name.replace("${VariableSuffix}", "")
        ]
        for name in plain
    }
    stages = Environment({**suffixed, "HERMES_STAGES": "development,production"}).stages()
    assert stages["production"].queue_name == deployed.stack.physical["Queue"]
    assert stages["production"].audit_table == deployed.stack.physical["AuditTable"]
    assert stages["development"] == Stage("development")
