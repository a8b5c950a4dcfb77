"""Capacity: each step of its arithmetic is the one that it says, and a number that nobody measured is not made up."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from bench import sizing
from bench.capacity import page
from bench.costs import NEEDED, PARTITIONS, Costs
from bench.results import Report, Result
from bench.sizing import FULL, Load, Need, Storm, by_files, need
from hermes_site.engines import Valkey
from notifications.registry import items
from notifications.stream import keys
from notifications.stream.history import History
from notifications.stream.message import Message

ROOT = Path(__file__).parents[2]
COSTS = Costs(
    message=60.0,
    delivery=8.0,
    lone=400.0,
    largest=10_000,
    joined=1.2,
    join=320.0,
    settled=330.0,
    settling=5.0,
    comers=10_000,
    memory=7.0,
    process=130.0,
    idle=0.018,
    relay=92.0,
    together=1_460.0,
    append=30.0,
    heard=80.0,
    follow=0.0002,
    pace=2_000.0,
)


def report() -> Report:
    """A report of runs that gave the costs above, or nearly."""
    found = Report("2026-01-02 03:04 UTC", "python -m bench", machine={"cores": "2", "cpu": "a machine"})
    found.settings = {
        "idle": {"scene": "idle", "rooms": 100},
        "storm": {"scene": "storm", "sockets": 10_000},
        "rooms": {"scene": "fanout", "sockets": 10_000, "rooms": 2_000, "rate": 2_000.0},
    }
    for name, (scenario, number) in NEEDED.items():
        found.results.append(Result(scenario, "hermes", numbers={number: getattr(COSTS, name)}))
    found.results.append(Result("rooms", "hermes", numbers={"cpu_us": 60.0 / 5 + 8.0}))
    followed = 64 * (1 - (63 / 64) ** 100)
    found.results.append(Result("idle", "hermes", numbers={"redis_s": 60 * COSTS.follow * followed, "wall_s": 60.0}))
    for size in (100, 300, 1_000, 3_000, 10_000):
        found.settings[f"growth-{size}"] = {"scene": "fanout", "sockets": size, "rooms": 1, "rate": 5.0}
        for noise in (0.99, 1.0, 1.01):
            numbers = {"messages": 1.0, "deliveries": size, "cpu_us": (400 / size + 8.0) * noise}
            found.results.append(Result(f"growth-{size}", "hermes", numbers=numbers))
    return found


def test_each_cost_is_read_where_it_was_measured() -> None:
    costs = Costs.of(report())
    assert costs.lone == pytest.approx(400, rel=0.02)
    assert costs.delivery == pytest.approx(8, rel=0.02)
    assert costs.message == pytest.approx(60, rel=0.02), "5 sockets of a room, 12 µs of each beyond a delivery"
    assert replace(costs, message=60.0, lone=400.0, delivery=8.0, follow=COSTS.follow) == COSTS
    assert costs.follow == pytest.approx(COSTS.follow)


def test_a_delivery_that_grows_dearer_is_counted_as_it_is_at_the_largest_size() -> None:
    found = report()
    for run in found.results:
        if run.scenario.startswith("growth"):
            size = run.numbers["deliveries"]
            run.numbers["cpu_us"] = 400 / size + 8 + math.log10(size / 100)
    assert Costs.of(found).delivery == pytest.approx(10)


def test_a_message_reaches_as_many_processes_as_members_fall_on() -> None:
    assert Load(1, 1.0, 1).reached(16) == pytest.approx(1)
    assert Load(1, 1.0, 200).reached(1) == 1
    assert Load(1, 1.0, 2).reached(2) == pytest.approx(1.5)
    assert Load(1, 1.0, 10_000).reached(16) == pytest.approx(16)
    assert Load(1, 1.0, 20).reached(16) == pytest.approx(16 * (1 - (15 / 16) ** 20))


def test_servers_do_a_message_once_at_each_process_that_it_reaches_and_each_delivery() -> None:
    asked = Need(COSTS, Load(100_000, 10.0, 200), 2)
    assert (asked.load.deliveries, asked.load.messages, asked.load.rooms) == (10_000, 50, 500)
    assert asked.taking == pytest.approx(50 * 2 * 60e-6)
    assert asked.sending == pytest.approx(10_000 * 8e-6)
    assert asked.idling == pytest.approx(10 * 0.018)
    assert asked.serving == pytest.approx(0.006 + 0.08 + 0.18)
    assert asked.memory_gb == pytest.approx(0.7 + 2 * 130 * 2**20 / 1e9)


def test_processes_are_enough_for_cores_and_for_files() -> None:
    assert by_files(65_000) == 1
    assert by_files(65_001) == 2
    assert need(COSTS, Load(1_000_000, 60.0, 20)).processes == 16, "files: 1,000,000 by 65,000 each"
    busy = need(COSTS, Load(1_000_000, 5.0, 2))
    assert busy.processes > 16
    assert busy.serving <= FULL * busy.processes
    fewer = Need(COSTS, busy.load, busy.processes - 1)
    assert fewer.serving > FULL * fewer.processes
    unit = (ROOT / "deploy/systemd/hermes-web.service").read_text()
    assert int(re.findall(r"LimitNOFILE=(\d+)", unit)[0]) == sizing.FILES


def test_relays_are_counted_for_a_full_queue_and_for_messages_one_by_one() -> None:
    asked = Need(COSTS, Load(1_000_000, 60.0, 20), 16)
    assert asked.relaying == pytest.approx(833.33 * 92e-6, rel=1e-4)
    assert asked.relaying_singly == pytest.approx(833.33 * 1_460e-6, rel=1e-4)
    assert Need(COSTS, Load(1_000_000, 10.0, 2), 16).relays == 8, "4.6 cores at 60 %"
    assert Need(COSTS, Load(1_000, 60.0, 20), 1).relays == 2, "one may fail"


def test_redis_appends_once_copies_to_each_process_and_is_looked_at_by_each() -> None:
    assert COSTS.copy == pytest.approx(80 - 30 - 64 * 0.0002 / 2_000 * 1e6)
    assert replace(COSTS, heard=20.0).copy == 0, "never less than nothing"
    asked = Need(COSTS, Load(1_000_000, 60.0, 20), 16)
    assert asked.appending == pytest.approx(833.33 * 30e-6, rel=1e-4)
    reached = 16 * (1 - (15 / 16) ** 20)
    assert asked.copying == pytest.approx(833.33 * (reached * 43.6e-6 + 16 * 1e-6), rel=1e-4)
    assert asked.following == pytest.approx(16 * 64 * 0.0002)
    assert asked.redis == pytest.approx(asked.appending + asked.copying + asked.following)
    assert asked.shards == math.ceil(asked.redis / 0.6) == 2
    assert Need(COSTS, Load(1_000_000, 10.0, 2), 16).shards == 12
    assert PARTITIONS == keys.PARTITIONS


def test_redis_keeps_rooms_entries_and_ids() -> None:
    often = Need(COSTS, Load(1_000_000, 10.0, 200), 16)
    assert often.entries == 1_000
    assert often.redis_gb == pytest.approx((5_000 * (7_500 + 1_000 * 360) + 500 * 3_600 * 170) / 1e9)
    assert Need(COSTS, Load(1_000, 864.0, 20), 1).entries == 100, "a day's"
    assert Need(COSTS, Load(100_000, 60.0, 20), 2).addresses == 4, "28,232 ports each"


def test_a_storm_is_counted_for_servers_sql_and_dynamodb(stage: Any) -> None:
    storm = Storm(COSTS, 1_000_000, 16)
    assert storm.work == pytest.approx(330)
    assert storm.busy == 17
    assert storm.taking_seconds == pytest.approx(330 / 16)
    assert storm.rows == 100_000
    assert storm.units == 350_000
    assert storm.mirror_seconds == pytest.approx(175), "the table's 40,000 a second"
    assert Storm(COSTS, 60_000, 1).mirror_seconds == pytest.approx(120), "one key's 1,000 a second"
    assert storm.written == 2_000
    indexes = items.connections_table(stage)["GlobalSecondaryIndexes"]
    assert 2 * (1 + len(indexes)) + 1 == sizing.ITEM_UNITS


def test_what_is_assumed_of_settings_is_what_is_shipped() -> None:
    documented = (ROOT / "docs/settings.md").read_text()
    for name, value in (
        ("HERMES_HISTORY_ENTRIES", sizing.KEPT_ENTRIES),
        ("HERMES_HISTORY_SECONDS", sizing.KEPT_SECONDS),
        ("HERMES_IDEMPOTENCY_SECONDS", sizing.REMEMBERED_SECONDS),
    ):
        assert f"| `{name}` " in documented
        assert re.search(rf"\| `{name}` \| \w+ \| `{value:.0f}` \|", documented), name


@pytest.fixture
async def history(valkey: Valkey) -> AsyncIterator[History]:
    opened = History()
    yield opened
    await opened.aclose()


async def test_what_a_room_and_an_entry_take_in_redis_is_what_is_assumed(history: History, valkey: Valkey) -> None:
    async def append(rooms: list[str], first: int, count: int) -> float:
        """Return by how many bytes an entry made Redis grow."""
        before = client.info("memory")["used_memory"]
        for number in range(first, first + count):
            found = await history.append("development", [message(room, number) for room in rooms])
            assert not any(isinstance(one, Exception) for one in found)
        return (client.info("memory")["used_memory"] - before) / count / len(rooms)

    def message(room: str, number: int) -> Message:
        name = f"{number:08d}-0000-4000-8000-0000{room[-4:]}0000"
        return Message(id=name, user_id=0, room_id=room, data=f'{{"type":"info","data":"{"x" * 118}"}}')

    with redis.Redis.from_url(valkey.url) as client:
        await append(["the script is loaded"], 0, 1)
        rooms = [f"room-{number:04d}" for number in range(100)]
        first = await append(rooms, 1, 1)
        further = await append(rooms, 2, 99)
    assert first == pytest.approx(sizing.ROOM_BYTES, rel=0.2)
    assert further == pytest.approx(sizing.ENTRY_BYTES + sizing.ID_BYTES, rel=0.2)


def test_the_page_says_of_each_number_where_it_comes_from() -> None:
    text = page(report(), "run.json")
    flat = " ".join(text.split())
    assert "| a delivery, waiting entries joined in one write | 1.20 µs | *saturated fan-out* |" in text
    assert "| **server processes**: the larger of these cores ÷ 0.6 and of sockets ÷ files | **16** (files) |" in text
    assert "| **Redis shards**: these cores ÷ 0.6 |" in text
    assert "1,000,000 × 330 µs = 330 s of CPU" in flat
    assert "**60% of a core** is what a process is planned for. Nobody measured that" in flat
    assert "run.json" in text
    assert max(len(line) for line in text.splitlines() if not line.startswith("|")) <= 120


def test_a_number_that_no_run_gave_is_asked_for() -> None:
    for scenario, said in (("relay", "redis_us|cpu_us"), ("growth", "a sweep of sockets"), ("idle", "of idle")):
        found = report()
        found.results = [run for run in found.results if not run.scenario.startswith(scenario)]
        with pytest.raises(ValueError, match=f"No run gave .*({said})"):
            page(found, "run.json")
    found = report()
    for number in (1, 2):  # a fast wrong answer counts as zero here, too
        found.results.append(Result("relay", "hermes", number, wrong="lost"))
    with pytest.raises(ValueError, match="No run gave"):
        page(found, "run.json")
