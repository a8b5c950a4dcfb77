"""AWS as deploy/cloudformation.yaml sees it: the embedded endpoint's CloudFormation. Called by deployment and tests."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from cfnlint.decode import cfn_yaml

from hermes_site.engines import AwsEndpoint
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = ROOT / "deploy/cloudformation.yaml"
NAME = "hermes-production"
# What an action of a policy is called where it is not the operation's own name: SQS has no permissions for batches.
ACTION_OF = {
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:SendMessageBatch": "sqs:SendMessage",
}
SERVICES = {"AmazonSQS": "sqs", "DynamoDB_20120810": "dynamodb"}

# An IAM action and what of the template it is done to: a resource's logical id, with the rest of its ARN.
Pair = tuple[str, str]


def template() -> dict[str, Any]:
    """Return the template, its short functions (`!Ref`) spelled out."""
    loaded: dict[str, Any] = cfn_yaml.load(str(TEMPLATE))
    return loaded


def properties(logical_id: str) -> dict[str, Any]:
    """Return the properties of one of the template's resources."""
    found: dict[str, Any] = template()["Resources"][logical_id]["Properties"]
    return found


def allowed(policy: str) -> set[Pair]:
    """Return what one of the template's policies allows."""
    pairs = set()
    for statement in properties(policy)["PolicyDocument"]["Statement"]:
        assert statement["Effect"] == "Allow"
        assert set(statement) == {"Sid", "Effect", "Action", "Resource"}
        for action in statement["Action"]:
            pairs.add((action, _target(statement["Resource"])))
    return pairs


def _target(resource: Mapping[str, Any]) -> str:
    if "Fn::GetAtt" in resource:
        logical_id, attribute = resource["Fn::GetAtt"]
        assert attribute == "Arn"
        return str(logical_id)
    matched = re.fullmatch(r"\$\{(\w+)\.Arn\}(/[\w/-]+)", resource["Fn::Sub"])
    assert matched, resource
    return matched[1] + matched[2]


class Cloud(AwsEndpoint):
    """The embedded AWS endpoint with the services that the template names."""

    def environment(self) -> Mapping[str, str]:
        """Return its settings, with those services."""
        return {**super().environment(), "SERVICES": "sqs,dynamodb,cloudformation,iam,monitoring"}

    def client(self, service: str) -> Any:
        """Return a boto3 client of it; close it."""
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="eu-west-1",
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
            config=Config(connect_timeout=2, read_timeout=30),
        )

    def complete(self, name: str = NAME) -> None:
        """Give a stack what this endpoint's CloudFormation leaves out: redrive policies and TTLs, as the template has.

        Args:
            name: the stack's.
        """
        formation, sqs, dynamodb = (self.client(each) for each in ("cloudformation", "sqs", "dynamodb"))
        with contextlib.closing(formation), contextlib.closing(sqs), contextlib.closing(dynamodb):
            resources = formation.describe_stack_resources(StackName=name)["StackResources"]
            physical = {each["LogicalResourceId"]: each["PhysicalResourceId"] for each in resources}
            whole = template()
            for logical_id, place in physical.items():
                ours = whole["Resources"][logical_id].get("Properties", {})
                if ttl := ours.get("TimeToLiveSpecification"):
                    dynamodb.update_time_to_live(TableName=place, TimeToLiveSpecification=ttl)
                if redrive := ours.get("RedrivePolicy"):
                    target = physical[redrive["deadLetterTargetArn"]["Fn::GetAtt"][0]]
                    arn = sqs.get_queue_attributes(QueueUrl=target, AttributeNames=["QueueArn"])["Attributes"][
                        "QueueArn"
                    ]
                    receives = whole["Parameters"][redrive["maxReceiveCount"]["Ref"]]["Default"]
                    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": receives})
                    sqs.set_queue_attributes(QueueUrl=place, Attributes={"RedrivePolicy": policy})


class Stack:
    """The template, deployed.

    Args:
        cloud: where; it runs.
        parameters: of the template, where not as it has them.
    """

    def __init__(self, cloud: Cloud, **parameters: str) -> None:
        client = cloud.client("cloudformation")
        try:
            client.create_stack(
                StackName=NAME,
                TemplateBody=TEMPLATE.read_text(encoding="utf-8"),
                Capabilities=["CAPABILITY_IAM"],
                Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            )

            def ended() -> bool:
                self.description = client.describe_stacks(StackName=NAME)
                return not self.description["Stacks"][0]["StackStatus"].endswith("_IN_PROGRESS")

            wait_until(ended, what="the stack is there")
            assert self.description["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
            resources = client.describe_stack_resources(StackName=NAME)["StackResources"]
        finally:
            client.close()
        # A queue's physical id is its URL.
        self.logical = {each["PhysicalResourceId"].rpartition("/")[2]: each["LogicalResourceId"] for each in resources}
        self.physical = {logical: physical for physical, logical in self.logical.items()}

    def calls(self, target: str, body: bytes) -> set[Pair]:
        """Return what a role must be allowed for one request.

        Args:
            target: the header X-Amz-Target.
            body: the request's.
        """
        service, _, operation = target.partition(".")
        action = f"{SERVICES[service]}:{operation}"
        request = json.loads(body)
        if service == "AmazonSQS":
            names = [request.get("QueueName") or request["QueueUrl"].rpartition("/")[2]]
        else:
            names = list(request.get("RequestItems") or [request["TableName"]])
        index = f"/index/{request['IndexName']}" if "IndexName" in request else ""
        return {(ACTION_OF.get(action, action), self.logical[name] + index) for name in names}
