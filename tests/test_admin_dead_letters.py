"""Dead letters in the admin: who may see and do what, what is said and logged, and that a body stays a text."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any

import pytest
from django.contrib.admin.models import CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import NoReverseMatch, reverse

from hermes_site.engines import free_port
from notifications.conf import Stage
from notifications.intake.received import ERROR_ATTRIBUTE
from tests.proxy import AwsProxy

pytestmark = pytest.mark.django_db
LIST = reverse("admin:notifications_deadletter_changelist")
SEND = reverse("admin:notifications_deadletter_send")
DISCARD = reverse("admin:notifications_deadletter_discard")
SECRET = "Vandelay's bank account"
BROKEN = '{"user_id": 7, "room_id": "acme", "data": {"text": "' + SECRET + '", "urgent": yes}}'
MENDED = BROKEN.replace("yes", "true")
REASON = "not_json: This is not JSON: Expecting value at character 86."
ROLES: dict[str, tuple[str, ...] | None] = {
    "anonymous": None,
    "member": None,
    "staff": (),
    "who may do but not look": ("redrive", "discard"),
    "viewer": ("view_deadletter",),
    "redriver": ("view_deadletter", "redrive"),
    "discarder": ("view_deadletter", "discard"),
    "superuser": None,
}
MAY: dict[str, set[str]] = {
    "viewer": {"look"},
    "redriver": {"look", "send"},
    "discarder": {"look", "discard"},
    "superuser": {"look", "send", "discard"},
}


class Scene:
    """The stage's two queues as an operator's pages change them."""

    def __init__(self, aws: Any, stage: Stage) -> None:
        self.aws, self.stage = aws, stage
        self.sqs = aws.sqs

    def _url(self, name: str) -> str:
        return str(self.sqs.get_queue_url(QueueName=name)["QueueUrl"])

    def bury(self, body: str, reason: str = REASON) -> str:
        """Put a letter into the dead-letter queue; return its MessageId."""
        attributes = {ERROR_ATTRIBUTE: {"DataType": "String", "StringValue": reason}} if reason else {}
        url = self._url(self.stage.dlq_name)
        answer = self.sqs.send_message(QueueUrl=url, MessageBody=body, MessageAttributes=attributes)
        return str(answer["MessageId"])

    def held(self, name: str) -> int:
        """Return how many messages a queue holds."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.sqs.get_queue_attributes(QueueUrl=self._url(name), AttributeNames=names)
        return sum(map(int, answer["Attributes"].values()))

    @property
    def counts(self) -> tuple[int, int]:
        """How many messages are in the queue, and how many dead letters."""
        return self.held(self.stage.queue_name), self.held(self.stage.dlq_name)

    def sent(self) -> list[dict[str, Any]]:
        """Return what is in the queue, read as JSON."""
        answer = self.sqs.receive_message(QueueUrl=self._url(self.stage.queue_name), MaxNumberOfMessages=10)
        return [json.loads(message["Body"]) for message in answer.get("Messages", [])]

    def page(self, message_id: str) -> str:
        """Return the address of a letter's page."""
        return reverse("admin:notifications_deadletter_change", args=(f"{self.stage.name}.{message_id}",))


@pytest.fixture
def scene(aws: Any, stage: Stage) -> Scene:
    """The first stage's queues, both empty."""
    return Scene(aws, stage)


@pytest.fixture
def as_role(client: Client) -> Callable[[str], Client]:
    """Return a function that signs Dana in with what a role may do."""

    def sign_in(role: str) -> Client:
        if role == "anonymous":
            return client
        user = User.objects.create_user("dana", is_staff=role != "member", is_superuser=role == "superuser")
        user.user_permissions.set(Permission.objects.filter(codename__in=ROLES[role] or ()))
        client.force_login(user)
        return client

    return sign_in


def said(response: Any) -> list[str]:
    """What the page says of what was done."""
    return [str(message) for message in response.context["messages"]]


def logged() -> list[tuple[str, int, str, str]]:
    """Who did what to what: the admin's log."""
    entries = LogEntry.objects.order_by("pk")
    return [(e.user.get_username(), e.action_flag, e.object_id or "", e.get_change_message()) for e in entries]


# ── Who may do what ──────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("role", ROLES)
def test_every_page_and_every_action_is_for_who_may(as_role: Callable[[str], Client], scene: Scene, role: str) -> None:
    letter = scene.bury(MENDED)
    client, may = as_role(role), MAY.get(role, set())
    form = {"stage": "development", "letter": letter}

    def status(method: str, address: str, data: dict[str, str] | None = None) -> int:
        return int(getattr(client, method)(address, data or {}).status_code)

    refused = 302 if role in ("anonymous", "member") else 403
    for address in (LIST, scene.page(letter)):
        assert status("get", address) == (200 if "look" in may else refused)
    if "discard" not in may:
        assert status("post", DISCARD, form) == refused
        assert status("post", DISCARD, form | {"confirmed": "yes"}) == refused
    if "send" not in may:
        for data in (form, {"stage": "development", "all": "all"}):
            assert status("post", SEND, data) == refused
        assert status("post", scene.page(letter), {"body": MENDED}) == refused
    assert scene.counts == (0, 1)
    assert logged() == []
    if refused == 302 or "look" not in may:
        return
    page = client.get(LIST).content.decode() + client.get(scene.page(letter)).content.decode()
    assert (">Send all again<" in page, "Send chosen again" in page, "<textarea" in page) == ("send" in may,) * 3
    assert ("Discard chosen" in page, "Discard …" in page) == ("discard" in may,) * 2
    assert ('type="checkbox" name="letter"' in page) == bool(may & {"send", "discard"})
    if "send" in may:
        assert status("post", scene.page(letter), {"body": MENDED}) == 302
        assert scene.counts == (1, 0)
    elif "discard" in may:
        assert status("post", DISCARD, form | {"confirmed": "yes"}) == 302
        assert scene.counts == (0, 0)


@pytest.mark.parametrize("role", ["staff", "viewer"])
def test_the_side_bar_leads_there_for_who_may_look(as_role: Callable[[str], Client], role: str) -> None:
    page = as_role(role).get(reverse("admin:index")).content.decode()
    assert (f'href="{LIST}"' in page) == (role == "viewer")


def test_actions_are_posted_with_a_csrf_token(scene: Scene) -> None:
    letter = scene.bury(MENDED)
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("dana"))
    for address in (SEND, DISCARD):
        assert client.get(address, {"letter": letter, "confirmed": "yes", "all": "all"}).status_code == 405
    for address in (SEND, DISCARD, scene.page(letter)):
        data = {"letter": letter, "confirmed": "yes", "all": "all", "body": MENDED}
        assert client.post(address, data).status_code == 403
    assert scene.counts == (0, 1)


@pytest.mark.parametrize("name", ["notifications_deadletter_add", "notifications_deadletter_delete"])
def test_there_are_no_pages_of_a_table_s_rows(name: str) -> None:
    with pytest.raises(NoReverseMatch):
        reverse(f"admin:{name}", args=() if name.endswith("add") else ("development.x",))


# ── Looking ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_list_says_why_who_where_and_how_many(as_role: Callable[[str], Client], scene: Scene) -> None:
    scene.bury(BROKEN)
    scene.bury('{"user_id": "eve", "room_id": "globex", "data": 1}', reason="")
    page = unescape(as_role("viewer").get(LIST).content.decode())
    for text in (
        "2 of about 2</strong> shown",
        "This is not JSON: Expecting value at character 86.",
        "SQS gave it up: it was received too many times and never delivered.",
        "The relay would take it now.",
        "acme",
        "globex",
        "eve",
        "SQS lets nobody look without receiving.",
    ):
        assert text in page, text
    assert SECRET not in page
    assert scene.counts == (0, 2)


def test_no_letters_are_good_news(as_role: Callable[[str], Client], scene: Scene) -> None:
    page = as_role("superuser").get(LIST).content.decode()
    assert "No dead letters" in page
    assert ">Send all again<" not in page


def test_the_letters_of_each_stage_have_their_own_list(
    as_role: Callable[[str], Client], aws: Any, production: Stage
) -> None:
    letter = Scene(aws, production).bury(BROKEN)
    client = as_role("superuser")
    assert letter not in client.get(LIST).content.decode()
    assert letter in client.get(LIST, {"stage": "production"}).content.decode()
    assert client.get(LIST, {"stage": "elsewhere"}).status_code == 404
    assert client.post(SEND, {"stage": "elsewhere", "all": "all"}).status_code == 404
    response = client.post(DISCARD, {"stage": "production", "letter": letter, "confirmed": "yes"}, follow=True)
    assert response.request["QUERY_STRING"] == "stage=production"
    assert logged() == [("dana", DELETION, f"production.{letter}", "Discarded.")]


def test_the_error_is_marked_in_the_body(as_role: Callable[[str], Client], scene: Scene) -> None:
    letter = scene.bury(BROKEN)
    page = unescape(as_role("viewer").get(scene.page(letter)).content.decode())
    assert '"urgent": <mark>yes</mark>}}' in page
    assert f"Line 1, column {BROKEN.index('yes') + 1}." in page
    assert REASON in page
    assert letter in page


def test_a_letter_that_is_gone_is_said_to_be_gone(as_role: Callable[[str], Client], scene: Scene) -> None:
    response = as_role("superuser").get(scene.page("5fea7756-0000"))
    assert response.status_code == 404
    assert "This letter is not here." in response.content.decode()
    assert "<textarea" not in response.content.decode()


HOSTILE = '</pre></textarea><script>alert(1)</script><img src=x onerror="alert(1)">{{ 7|add:7 }}${alert(1)}'


def test_a_hostile_body_is_text_everywhere(as_role: Callable[[str], Client], scene: Scene) -> None:
    text = json.dumps({"user_id": HOSTILE[:60], "room_id": HOSTILE[:90], "data": HOSTILE}) + "<script>"
    letter = scene.bury(text, reason=f"not_json: {HOSTILE}")
    client = as_role("superuser")
    pages = [
        client.get(LIST),
        client.get(scene.page(letter)),
        client.post(scene.page(letter), {"body": text}),
        client.post(DISCARD, {"letter": [letter, HOSTILE]}),
        client.post(SEND, {"letter": HOSTILE}, follow=True),
    ]
    for response in pages:
        page = response.content.decode()
        assert response.status_code == 200
        assert "&lt;script&gt;" in page
        for part in ("<script>alert", "<img src=x", "</pre></textarea>"):
            assert part not in page


def test_a_huge_body_is_shown_in_part_and_not_put_into_a_form(as_role: Callable[[str], Client], scene: Scene) -> None:
    letter = scene.bury(json.dumps({"user_id": 1, "room_id": "acme", "data": "x" * 1_000_000}), reason="")
    client = as_role("superuser")
    page = client.get(scene.page(letter)).content.decode()
    assert len(page) < 200_000
    assert "too large to be mended here" in page
    assert "<textarea" not in page
    response = client.post(scene.page(letter))
    assert response.status_code == 200
    assert "the relay would refuse them again" in said(response)[0]
    assert scene.counts == (0, 1)


# ── Sending again ────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_mended_letter_is_sent_and_who_did_it_is_logged(as_role: Callable[[str], Client], scene: Scene) -> None:
    letter = scene.bury(BROKEN)
    response = as_role("redriver").post(scene.page(letter), {"body": MENDED}, follow=True)
    assert said(response) == [f"Sent again: 1 ({letter})."]
    assert scene.counts == (1, 0)
    assert scene.sent() == [{"id": letter, **json.loads(MENDED)}]
    assert logged() == [("dana", CHANGE, f"development.{letter}", "Sent again, mended.")]
    assert LogEntry.objects.get().object_repr == f"Dead letter {letter} in development"
    assert LogEntry.objects.get().get_admin_url() == scene.page(letter)


def test_what_the_relay_would_refuse_is_refused_beside_the_editor_with_its_place(
    as_role: Callable[[str], Client], scene: Scene
) -> None:
    letter = scene.bury(BROKEN)
    text = '{"user_id": 7,\r\n "room_id": ["acme"],\r\n "data": 1}'
    response = as_role("redriver").post(scene.page(letter), {"body": text})
    page = unescape(response.content.decode())
    assert "the relay would refuse this too: room_id must be a string or a whole number. Line 2, column 13." in page
    assert '"room_id": <mark>["acme"]</mark>' in page
    assert f'dir="ltr" aria-invalid="true" aria-describedby="refusal">\n{text}</textarea>'.replace("\r", "") in page
    assert scene.counts == (0, 1)
    assert logged() == []


def test_the_chosen_letters_are_sent_and_the_others_stay(as_role: Callable[[str], Client], scene: Scene) -> None:
    letters = [scene.bury(MENDED.replace("7", str(number), 1)) for number in range(3)]
    bad = scene.bury(BROKEN)
    response = as_role("redriver").post(SEND, {"stage": "development", "letter": [*letters[:2], bad]}, follow=True)
    assert said(response) == [
        f"Sent again: 2 ({letters[0]}, {letters[1]}).",
        f"Not sent, because the relay would refuse them again: 1 ({bad}). Open each and mend it.",
    ]
    assert {each["id"] for each in scene.sent()} == set(letters[:2])
    assert scene.counts == (2, 2)
    assert logged() == [("dana", CHANGE, f"development.{each}", "Sent again.") for each in letters[:2]]


def test_all_are_sent_but_what_the_relay_would_refuse(as_role: Callable[[str], Client], scene: Scene) -> None:
    good = [scene.bury(MENDED) for _ in range(7)]
    scene.bury(BROKEN)
    client = as_role("redriver")
    first, second = said(client.post(SEND, {"all": "all"}, follow=True))
    assert first.startswith("Sent again: 7 (")
    assert first.endswith(", …).")
    assert second.startswith("Not sent")
    assert scene.counts == (7, 1)
    assert {object_id for _, _, object_id, _ in logged()} == {f"development.{each}" for each in good}
    client.post(DISCARD, {"letter": []})
    scene.aws.purge()
    assert said(client.post(SEND, {"all": "all"}, follow=True))[-1].startswith("There was nothing to send")


def test_nothing_chosen_is_nothing_done(as_role: Callable[[str], Client], scene: Scene) -> None:
    scene.bury(MENDED)
    client = as_role("superuser")
    for address in (SEND, DISCARD):
        assert said(client.post(address, {"stage": "development"}, follow=True)) == ["No letter was chosen."]
    assert scene.counts == (0, 1)


# ── Discarding ───────────────────────────────────────────────────────────────────────────────────────────────────────
def test_discarding_asks_first_and_is_logged(as_role: Callable[[str], Client], scene: Scene) -> None:
    letter, other = scene.bury(BROKEN), scene.bury(BROKEN)
    client = as_role("discarder")
    page = client.post(DISCARD, {"stage": "development", "letter": letter}).content.decode()
    assert "Discard 1 dead letter of development for good?" in page
    assert scene.counts == (0, 2)
    form = {"stage": "development", "letter": letter, "confirmed": "yes"}
    assert said(client.post(DISCARD, form, follow=True)) == [f"Discarded: 1 ({letter})."]
    assert scene.counts == (0, 1)
    assert other in client.get(LIST).content.decode()
    assert logged() == [("dana", DELETION, f"development.{letter}", "Discarded.")]


# ── What goes wrong ──────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.fixture(scope="module")
def _proxy(aws_endpoint: Any) -> Iterator[AwsProxy]:
    proxy = AwsProxy()
    proxy.start(aws_endpoint.engine.port)
    yield proxy
    proxy.stop()


@pytest.fixture
def proxy(_proxy: AwsProxy, settings: Any) -> AwsProxy:
    """A proxy before SQS, for the pages and not for the tests."""
    _proxy.deny()
    settings.AWS_ENDPOINT_URL = _proxy.url
    return _proxy


def test_a_letter_that_was_sent_and_not_deleted_is_said_to_be_in_both_queues(
    as_role: Callable[[str], Client], scene: Scene, proxy: AwsProxy
) -> None:
    letter = scene.bury(MENDED)
    proxy.deny("DeleteMessageBatch")
    client = as_role("superuser")
    (text,) = said(client.post(scene.page(letter), {"body": BROKEN.replace("yes", "false")}, follow=True))
    assert text.startswith(f"Sent again, but not deleted here: 1 ({letter}). Discard them.")
    assert "AccessDenied" in text
    assert scene.counts == (1, 1)
    assert logged() == [("dana", CHANGE, f"development.{letter}", "Sent again, mended; not deleted.")]
    (text,) = said(client.post(DISCARD, {"letter": letter, "confirmed": "yes"}, follow=True))
    assert text.startswith(f"Stopped at 1 ({letter}): nothing became of it")
    assert len(logged()) == 1


def test_an_edit_is_not_lost_when_it_cannot_be_sent(
    as_role: Callable[[str], Client], scene: Scene, proxy: AwsProxy
) -> None:
    letter = scene.bury(BROKEN)
    client = as_role("redriver")
    proxy.deny("SendMessage")
    page = unescape(client.post(scene.page(letter), {"body": MENDED}).content.decode())
    assert "Stopped at 1" in page
    assert f">\n{MENDED}</textarea>" in page
    proxy.deny("ReceiveMessage")
    page = unescape(client.post(scene.page(letter), {"body": MENDED}).content.decode())
    assert "What you have written is below." in page
    assert f">\n{MENDED}</textarea>" in page
    assert scene.counts == (0, 1)
    assert logged() == []


def test_an_outage_of_sqs_is_a_sentence_on_every_page_and_no_crash(
    as_role: Callable[[str], Client], settings: Any
) -> None:
    settings.AWS_ENDPOINT_URL = f"http://127.0.0.1:{free_port()}"
    client = as_role("superuser")
    pages = [
        client.get(LIST),
        client.get(reverse("admin:notifications_deadletter_change", args=("development.m",))),
        client.post(reverse("admin:notifications_deadletter_change", args=("development.m",)), {"body": MENDED}),
        client.post(SEND, {"all": "all"}, follow=True),
        client.post(DISCARD, {"letter": "m", "confirmed": "yes"}, follow=True),
    ]
    for response in pages:
        assert response.status_code == 200
        assert "could not be counted: EndpointConnectionError" in unescape(response.content.decode())
    assert logged() == []


def test_a_body_reaches_neither_a_log_nor_a_message_nor_the_admins_log(
    as_role: Callable[[str], Client], scene: Scene, proxy: AwsProxy, caplog: pytest.LogCaptureFixture
) -> None:
    letters = [scene.bury(BROKEN) for _ in range(2)]
    client = as_role("superuser")
    heard: list[str] = []
    with caplog.at_level(logging.DEBUG), caplog.at_level(logging.WARNING, "botocore"):
        client.get(LIST)
        client.get(scene.page(letters[0]))
        for denied in ("ChangeMessageVisibilityBatch", "SendMessage", "DeleteMessageBatch", "ReceiveMessage"):
            proxy.deny(denied)
            for text in (BROKEN, MENDED):
                heard += said(client.post(scene.page(letters[0]), {"body": text}, follow=True))
            heard += said(client.post(SEND, {"all": "all"}, follow=True))
            heard += said(client.post(DISCARD, {"letter": letters, "confirmed": "yes"}, follow=True))
    assert len(heard) > 4
    everything = caplog.text + "".join(heard) + repr(list(LogEntry.objects.values()))
    assert SECRET not in everything
    assert "bank account" not in everything
