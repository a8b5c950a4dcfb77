"""The dashboard: figures of SQL, Redis and SQS, soon whole and never an error when one of them is away."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.db.models.functions import Now
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from django.utils.html import strip_tags

from hermes_site.engines import Valkey
from notifications import admin_words, dashboard
from notifications.dashboard_looks import Looks, Refused
from notifications.exceptions import HistoryUnavailable
from notifications.intake import sightings
from notifications.intake.heartbeat import Heartbeat, Tally
from notifications.intake.hold import Hold
from notifications.intake.queue import Queue
from notifications.intake.received import Received
from notifications.models import Connection, Server
from notifications.stream import keys, pace
from notifications.stream.history import History
from notifications.stream.message import Message

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """Let no test have what another looked up."""
    dashboard.looks.cache_clear()
    yield
    if dashboard.looks.cache_info().currsize:
        dashboard.looks().close()
    dashboard.looks.cache_clear()


@pytest.fixture
def operator(client: Client) -> Client:
    """Dana, who may see servers."""
    user = User.objects.create_user("dana", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename="view_server"))
    client.force_login(user)
    return client


def tiles(client: Client) -> dict[str, Any]:
    """Return the tiles that the dashboard fetches, by their keys."""
    response = client.get(reverse("admin:notifications_live"))
    assert response.status_code == 200
    return {tile["key"]: tile for group in response.json()["groups"] for tile in group["tiles"]}


def serve(server_id: str, *, connections: int, left: int = 30) -> None:
    until = Now() + timedelta(seconds=left)
    Server.objects.create(
        server_id=server_id,
        host=server_id,
        pid=42,
        started_at=timezone.now(),
        lease_until=until,
        open_connections=connections,
        load=0.25,
    )


def test_open_connections_are_those_of_the_servers_that_live(operator: Client, aws: Any, valkey: Valkey) -> None:
    serve("web-1", connections=3)
    serve("web-2", connections=1200)
    serve("web-3", connections=500, left=-5)
    connections = tiles(operator)["connections"]
    assert (connections["value"], connections["note"], connections["state"]) == ("1\u202f203", "on 2 servers", "ok")


def test_joins_and_leaves_are_counted_by_the_minute(operator: Client, aws: Any, valkey: Valkey) -> None:
    now = timezone.now().replace(second=30)
    for number, (opened, closed) in enumerate([(1, None), (1, None), (2, 1), (30, 1), (59, 40), (90, 1), (200, 100)]):
        Connection.objects.create(
            connection_id=f"c-{number}",
            room_id="acme",
            user_id="alice",
            opened_at=now - timedelta(minutes=opened),
            closed_at=None if closed is None else now - timedelta(minutes=closed),
        )
    shown = tiles(operator)
    assert (shown["joins"]["value"], shown["joins"]["note"]) == ("2", "5 in an hour")
    assert (shown["leaves"]["value"], shown["leaves"]["note"]) == ("3", "4 in an hour")
    assert shown["joins"]["lines"][0].startswith("M0.0 ")
    assert shown["joins"]["rounds"] == "the last hour, 2 at most"


@pytest.mark.django_db(transaction=True)
async def test_entries_queues_and_relays_are_shown_by_stage(
    client: Client, aws: Any, valkey: Valkey, stage: Any
) -> None:
    from asgiref.sync import sync_to_async

    def sign_in() -> None:
        user = User.objects.create_user("dana", is_staff=True, is_superuser=True)
        client.force_login(user)

    await sync_to_async(sign_in)()
    before = await sync_to_async(tiles)(client)
    assert before["queue-development"]["value"] == before["dead-development"]["value"] == "0"
    assert before["age-development"]["value"] == "none"
    assert (before["lag-development"]["value"], before["lag-development"]["state"]) == ("no relay", "bad")
    history = History()
    await history.append("development", [Message(f"m-{n}", 1, "acme", "1") for n in range(5)])
    await history.aclose()
    dead = aws.sqs.get_queue_url(QueueName=stage.dlq_name)["QueueUrl"]
    aws.sqs.send_message(QueueUrl=dead, MessageBody="refused")
    for _ in range(3):
        Queue(stage).send('{"user_id": 1, "room_id": "acme", "data": 1}')
    Heartbeat("development", Tally(2, 20, 1500, 700)).beat()
    dashboard.looks.cache_clear()
    after = await sync_to_async(tiles)(client)
    # A minute may have begun in between.
    assert after["entries-development"]["value"] == "5" or after["entries-development"]["note"].startswith("5 since")
    assert after["queue-development"]["value"] == "3"
    assert after["age-development"]["value"] == "not known", "no relay has ever waited for it"
    assert (after["dead-development"]["value"], after["dead-development"]["state"]) == ("1", "bad")
    assert (after["lag-development"]["value"], after["lag-development"]["state"]) == ("1.5 s", "ok")
    assert after["queue-production"]["value"] == "0"
    aws.purge()


def beat(in_hand: float | None = None, emptied: float | None = None, **tally: Any) -> None:
    """Let a relay speak that has had a message in hand, and has seen the queue empty, so many seconds ago."""
    hold = Hold(None, None, None)  # type: ignore[arg-type]
    if in_hand is not None:
        hold.take([Received("m-1", "r-1", "{}", sent_at=round((time.time() - in_hand) * 1000))])
    if emptied is not None:
        hold.emptied = time.monotonic() - emptied
    Heartbeat("development", Tally(**tally), hold).beat()


@pytest.mark.django_db(transaction=True)
def test_a_relay_that_is_stuck_is_late_whatever_its_last_batch_took(operator: Client, aws: Any, valkey: Valkey) -> None:
    beat(in_hand=95, lag_ms=69, waited_ms=20, batches=7, messages=7)
    lag = tiles(operator)["lag-development"]
    assert (lag["value"], lag["state"]) == ("95 s", "warn")
    assert "in hand" in lag["note"]
    assert "<td>95 s</td>" in operator.get(reverse("admin:notifications_relays")).content.decode()


@pytest.mark.parametrize(("lag_ms", "state"), [(9_900, "ok"), (10_100, "warn")])
def test_a_lag_beyond_ten_seconds_is_a_warning(
    operator: Client, aws: Any, valkey: Valkey, lag_ms: int, state: str
) -> None:
    beat(lag_ms=lag_ms)
    assert tiles(operator)["lag-development"]["state"] == state


QUEUED = {"ApproximateNumberOfMessages": "3"}


@pytest.mark.parametrize(
    ("in_hand", "emptied", "value", "note", "state"),
    [
        (None, None, "not known", "no relay has seen this queue empty", "unknown"),
        (None, 300, "at most 5 min", "nothing waited then; what comes again may be older", "ok"),
        (4, 300, "at most 5 min", "nothing waited then; what comes again may be older", "ok"),
        (30, 300, "at most 5 min", "nothing waited then; what comes again may be older", "warn"),
        (400, 300, "7 min", "a relay has it in hand", "warn"),
        (30, None, "at least 30 s", "a relay has it in hand", "warn"),
    ],
)
def test_the_oldest_message_is_as_old_as_relays_can_know(
    operator: Client,
    aws: Any,
    valkey: Valkey,
    monkeypatch: pytest.MonkeyPatch,
    in_hand: float | None,
    emptied: float | None,
    value: str,
    note: str,
    state: str,
) -> None:
    monkeypatch.setattr("notifications.intake.queue.attributes", lambda stage, name: QUEUED)
    beat(in_hand, emptied)
    age = tiles(operator)["age-development"]
    assert (age["value"], age["note"], age["state"]) == (value, note, state)


def test_how_long_ago_a_queue_was_empty_is_known_also_when_no_relay_lives(
    operator: Client, aws: Any, valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifications.intake.queue.attributes", lambda stage, name: QUEUED)
    beat(emptied=600)
    with redis.Redis.from_url(valkey.url) as client:
        client.delete(*client.keys("hermes:{development:relays}:beat:*"))
    shown = tiles(operator)
    assert shown["lag-development"]["value"] == "no relay"
    assert shown["age-development"]["value"] == "at most 10 min"


@pytest.mark.parametrize(
    ("waiting", "before", "state"), [(1_000, 900, "ok"), (1_001, 900, "warn"), (120, 50, "warn"), (90, 2, "ok")]
)
def test_a_queue_that_is_deep_or_grows_is_a_warning_and_has_a_plot(
    operator: Client,
    aws: Any,
    valkey: Valkey,
    monkeypatch: pytest.MonkeyPatch,
    waiting: int,
    before: int,
    state: str,
) -> None:
    told = {"ApproximateNumberOfMessages": str(waiting)}
    monkeypatch.setattr("notifications.intake.queue.attributes", lambda stage, name: told)
    with redis.Redis.from_url(valkey.url) as client:
        minute = client.time()[0] // 60
        for ago in (6, 5, 4):
            client.xadd(keys.figure_key("development", "depth"), {"value": before}, id=f"{minute - ago}-1")
    shown = tiles(operator)
    assert shown["queue-development"]["state"] == state
    assert shown["queue-development"]["rounds"] in {
        f"the last hour, {admin_words.number(n)} at most" for n in (before, waiting)
    }
    assert shown["queue-development"]["lines"][0].startswith("M")


def test_what_was_looked_at_is_in_the_plots_of_the_hour(operator: Client, aws: Any, valkey: Valkey) -> None:
    beat(lag_ms=1500)
    for _ in range(2):  # the second look notes what the first one saw
        dashboard.looks().answers()
        time.sleep(0.05)
        dashboard.looks()._cached = 0.0
    assert sightings.last_hour("development", "lag")[-2:] in ([None, 1500], [1500, None])
    assert 0 in sightings.last_hour("development", "depth")[-2:]
    assert 0 in sightings.last_hour("development", "dead")[-2:]
    assert tiles(operator)["lag-development"]["rounds"] == "the last hour, 1.5 s at most"


def test_the_page_holds_all_of_it_without_javascript(operator: Client, aws: Any, valkey: Valkey) -> None:
    serve("web-1", connections=7)
    Heartbeat("development", Tally(2, 20, 40, 12)).beat()
    page = operator.get(reverse("admin:index")).content.decode()
    assert ">7</p>" in page
    assert "web-1:42" in page
    assert "<td>40 ms</td>" in page
    assert "<path d=" in page
    relays = operator.get(reverse("admin:notifications_relays"))
    assert "<td>40 ms</td>" in relays.content.decode()


def test_the_page_of_who_may_not_see_servers_lists_what_they_may(client: Client, alice: Any) -> None:
    alice.is_staff = True
    alice.save()
    alice.user_permissions.set(Permission.objects.filter(codename="view_room"))
    client.force_login(alice)
    page = client.get(reverse("admin:index")).content.decode()
    assert "hermes-tiles" not in page
    assert reverse("admin:notifications_room_changelist") in page
    for name in ("live", "relays"):
        assert client.get(reverse(f"admin:notifications_{name}")).status_code == 403


def test_redis_and_sqs_that_are_away_are_said_to_be_within_a_second_and_a_half(
    operator: Client, valkey: Valkey, settings: Any
) -> None:
    serve("web-1", connections=7)
    valkey.stop()
    # An address of nobody's, which refuses at once or never answers.
    settings.AWS_ENDPOINT_URL = "http://127.0.0.1:1"
    begun = time.monotonic()
    shown = tiles(operator)
    assert operator.get(reverse("admin:index")).status_code == 200
    assert time.monotonic() - begun < 2 * 1.5
    assert shown["connections"]["value"] == "7"
    for part in ("entries", "queue", "age", "dead", "lag"):
        tile = shown[f"{part}-development"]
        assert (tile["value"], tile["state"]) == ("does not answer", "unknown")
    relays = operator.get(reverse("admin:notifications_relays"))
    assert "does not answer" in relays.content.decode()


def test_a_part_that_hangs_costs_one_thread_and_one_wait() -> None:
    release, calls = threading.Event(), []

    def hang() -> None:
        calls.append(threading.get_ident())
        release.wait(20)

    looks = Looks({"hung": hang, "good": lambda: 7}, deadline=0.2, cached=0.0)
    waits = []
    for _ in range(4):
        begun = time.monotonic()
        assert looks.answers() == {"hung": Refused("does not answer"), "good": 7}
        waits.append(time.monotonic() - begun)
    assert len(calls) == 1
    assert sum(waits) < 1.0
    assert waits[-1] < 0.2
    release.set()
    looks.close()


def test_an_answer_is_shared_for_as_long_as_it_is_good() -> None:
    calls: list[int] = []
    looks = Looks({"part": lambda: calls.append(1)}, cached=60)
    for _ in range(5):
        looks.answers()
    assert calls == [1]
    looks.close()


def test_the_dashboard_costs_as_many_queries_for_many_rows_as_for_few(
    operator: Client, aws: Any, valkey: Valkey, django_assert_max_num_queries: Any
) -> None:
    now = timezone.now()
    Connection.objects.bulk_create(
        Connection(connection_id=f"c-{n}", room_id="acme", user_id="alice", opened_at=now - timedelta(seconds=n))
        for n in range(2000)
    )
    for number in range(20):
        serve(f"web-{number}", connections=100)
    with django_assert_max_num_queries(8):
        assert tiles(operator)["joins"]["note"] == "2\u202f000 in an hour"


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ([], ""),
        ([None, None], ""),
        ([0, 10], "M0.0 45.0h.01L240.0 3.0"),
        ([5, None, 10], "M0.0 24.0h.01M240.0 3.0h.01"),
    ],
)
def test_a_plot_has_a_gap_where_nothing_is_known(values: list[int | None], path: str) -> None:
    assert admin_words.line(values, 10) == path


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (admin_words.size(0), "0\u00a0B"),
        (admin_words.size(2048), "2.0\u00a0KiB"),
        (admin_words.size(5 * 1024**4), "5120\u00a0GiB"),
        (admin_words.duration(12), "12 ms"),
        (admin_words.duration(1500), "1.5 s"),
        (admin_words.duration(600_000), "10 min"),
        (admin_words.duration(8_000_000), "2 h"),
        (admin_words.reason(4108), "its reader did not keep up"),
        (admin_words.reason(3333), "a code of the client's own"),
        (admin_words.reason(None), "not known"),
    ],
)
def test_codes_sizes_and_times_are_said_in_words(said: str, meant: str) -> None:
    assert said == meant


def test_every_code_that_hermes_closes_with_has_words() -> None:
    from notifications.sockets.protocol import Close

    assert all(admin_words.reason(code) != admin_words.reason(3333) for code in Close)


def test_what_is_fetched_is_text_alone(operator: Client, aws: Any, valkey: Valkey) -> None:
    serve('<script>"', connections=1)
    page = operator.get(reverse("admin:index")).content.decode()
    assert "<script>&quot;" not in page
    assert "&lt;script&gt;" in page
    answer = operator.get(reverse("admin:notifications_live"))
    assert answer["Cache-Control"].find("no-store") >= 0
    assert json.loads(answer.content)["servers"][0][0] == '<script>":42'


def test_our_pages_need_no_inline_script_or_style_and_write_text_as_text() -> None:
    root = Path(__file__).parent.parent
    for path in [*(root / "templates/hermes_admin").glob("*.html"), root / "templates/admin/index.html"]:
        html = path.read_text("utf-8")
        assert not re.search(r"<script(?![^>]*\bsrc=)|\sstyle=|\son\w+=|javascript:|\|safe", html), path.name
    script = (root / "static/hermes_admin/dashboard.js").read_text("utf-8")
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|\beval\b|\bFunction\b|\.style\b", script)


def test_a_redis_that_does_not_count_entries_is_said_to_be_too_old(
    valkey: Valkey,
) -> None:
    with redis.Redis.from_url(valkey.url) as client:
        client.xadd(keys.activity_key("development", 0), {"room": "acme"})
    read = pace._entries_added
    assert read({"entries-added": 1}) == 1
    with pytest.raises(HistoryUnavailable, match=r"from 7\.0 on"):
        read({"length": 1})
    assert pace.sample("development")[0] == 1


def test_sql_is_asked_once_for_all_who_look_at_the_same_time(operator: Client, aws: Any, valkey: Valkey) -> None:
    serve("web-1", connections=3)
    live = reverse("admin:notifications_live")
    with CaptureQueriesContext(connection) as first:
        operator.get(live)
    with CaptureQueriesContext(connection) as again:
        shown = operator.get(live).json()
    assert any("notifications_server" in query["sql"] for query in first.captured_queries)
    # Who it is that asks is no question of the dashboard.
    assert not [query["sql"] for query in again.captured_queries if "notifications_" in query["sql"]]
    assert shown["groups"][0]["tiles"][0]["value"] == "3"
    assert shown["servers"][0][0] == "web-1:42"


def test_a_question_to_sql_that_fails_is_asked_again() -> None:
    looks = Looks({"part": lambda: 1}, cached=60)

    def fail() -> None:
        raise OSError

    with pytest.raises(OSError):  # noqa: PT011  it has no words
        looks.here(fail)
    assert [looks.here(lambda: 7), looks.here(lambda: 8)] == [7, 7]
    looks.close()


def test_the_dead_letters_tile_leads_to_them_for_who_may_see_them(operator: Client, aws: Any, valkey: Valkey) -> None:
    link = f'href="{reverse("admin:notifications_deadletter_changelist")}?stage=development"'
    assert link not in operator.get(reverse("admin:index")).content.decode()
    User.objects.get(username="dana").user_permissions.add(Permission.objects.get(codename="view_deadletter"))
    assert link in operator.get(reverse("admin:index")).content.decode()


def test_the_side_bar_marks_the_page_that_is_shown_and_no_other(operator: Client, aws: Any, valkey: Valkey) -> None:
    for page, title in (("relays", "Relays"), ("server_changelist", "Servers")):
        html = operator.get(reverse(f"admin:notifications_{page}")).content.decode()
        marked = re.findall(r'<a href="[^"]*" class="[^"]* active">(.*?)</a>', html, re.DOTALL)
        assert [strip_tags(each).split()[-1] for each in marked] == [title]


def test_an_empty_queue_has_no_word_about_ages(operator: Client, aws: Any, valkey: Valkey) -> None:
    age = tiles(operator)["age-development"]
    assert (age["value"], age["note"]) == ("none", "")
