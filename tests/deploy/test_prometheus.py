"""`deploy/prometheus`: Prometheus takes it, and each alert fires on its fault and is silent in a healthy hour."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest

from hermes_site.children import ChildProcess
from hermes_site.engines import HOST, free_port
from tests.deploy import manual
from tests.deploy.alerts import ALERTS, METRICS, RULES, promtool
from tests.deploy.conftest import need
from tests.deploy.deployment import Deployment
from tests.documents import ROOT, names, read, rows, section
from tests.waiting import wait_until

PLAYED = "tests/deploy/hermes.rules.test.yml"


def test_prometheus_takes_the_rules_and_the_configuration() -> None:
    for arguments in (("rules", "hermes.rules.yml"), ("config", "--syntax-only", "prometheus.yml")):
        checked = promtool("check", *arguments)
        assert checked.returncode == 0, checked.stdout + checked.stderr


def test_each_alert_fires_on_its_fault_and_all_are_silent_in_a_healthy_hour() -> None:
    played = promtool("test", "rules", str(ROOT / PLAYED))
    assert played.returncode == 0, played.stdout + played.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_has_a_fault_that_is_played_and_is_not_yet_there_before_it(alert: str) -> None:
    (played,) = re.findall(rf"  - name: {alert}\n(.*?)(?=\n\n|\Z)", read(PLAYED), flags=re.DOTALL)
    looks = re.findall(rf"alertname: {alert}\n        eval_time: \w+\n        exp_alerts:(.*)", played)
    assert looks == [" []", ""], "silent first, then not"


def test_the_healthy_hour_has_every_metric_that_an_alert_looks_at() -> None:
    healthy = read(PLAYED).partition("promql_expr_test")[0]
    assert set(METRICS) == set(re.findall(r"series: '(\w+){", healthy))


@pytest.mark.parametrize("alert", ALERTS)
def test_a_healthy_hour_would_not_be_silent_if_an_alert_fired_at_nothing(alert: str, tmp_path: Path) -> None:
    """An alert whose bound is turned round fires in the healthy hour, so the silence says something."""
    rules, played = read(RULES), read(PLAYED)
    start = rules.index(f"- alert: {alert}\n")
    end = rules.find("      - alert: ", start)
    rule = rules[start : end if end > 0 else None]
    turned = re.sub(r"expr: .*?(?=\n        (?:for|labels):)", "expr: up >= 0", rule, flags=re.DOTALL)
    (tmp_path / "hermes.rules.yml").write_text(rules.replace(rule, turned), encoding="utf-8")
    healthy = played.partition("\n\n  - name: HermesDown")[0].replace("../../deploy/prometheus/", "")
    (tmp_path / "hermes.rules.test.yml").write_text(healthy + "\n", "utf-8")
    done = promtool("test", "rules", "hermes.rules.test.yml", folder=tmp_path)
    assert done.returncode == 1
    assert f'alertname="{alert}"' in done.stdout + done.stderr


def test_every_alert_has_its_cure_in_the_document_and_no_other() -> None:
    table = {names(cells[0])[0]: cells for cells in rows(section("docs/metrics.md", "## Alerts"))}
    assert list(table) == ALERTS
    assert all(cure.endswith(".") for _, _, cure in table.values())


def test_the_ports_that_prometheus_asks_are_those_of_the_units() -> None:
    scraped = re.findall(r"targets: \[127\.0\.0\.1:(\d+)\]", read("deploy/prometheus/prometheus.yml"))
    assert "--port 8000" in read("deploy/systemd/hermes-web.service")
    assert scraped == ["8000", re.findall(r"HERMES_RELAY_METRICS_PORT=(\d+)", read("deploy/hermes.env"))[0]]


def test_a_prometheus_that_is_installed_by_its_steps_asks_both_and_has_nothing_to_say(
    deployed: Deployment, tmp_path: Path
) -> None:
    need("prometheus")
    etc = deployed.root / "etc/prometheus"
    etc.mkdir()
    owner = "-o prometheus -g prometheus "
    deployed.run(manual.command("Watch", "/etc/prometheus/hermes-token").replace(owner, ""))
    deployed.run(manual.command("Watch", "hermes.rules.yml"))
    configuration = etc / "prometheus.yml"
    instead = {
        "127.0.0.1:8000": f"127.0.0.1:{deployed.port}",
        "127.0.0.1:9465": f"127.0.0.1:{deployed.relay_metrics_port}",
        "scrape_interval: 15s": "scrape_interval: 1s",
        "evaluation_interval: 15s": "evaluation_interval: 1s",
    }
    text = manual.with_paths(deployed.here(configuration.read_text(encoding="utf-8")), instead)
    configuration.write_text(text, encoding="utf-8")
    check, is_last, begin = manual.command("Watch", "promtool").partition(" && ")
    assert (is_last, begin) == (" && ", "systemctl restart prometheus")
    deployed.run(check)
    port = free_port()
    (address,) = re.findall(r"(--web\.listen-address=127\.0\.0\.1):9090", manual.command("Watch", "ARGS="))
    command = ["prometheus", f"--config.file={configuration}", f"--storage.tsdb.path={tmp_path}", f"{address}:{port}"]
    prometheus = ChildProcess("prometheus", command, environment=dict(os.environ), log=tmp_path / "log").start()

    def ask(path: str) -> Any:
        return json.loads(deployed.request("GET", f"/api/v1/{path}", url=f"http://{HOST}:{port}")[1])["data"]

    def health() -> set[tuple[str, str]]:
        return {(each["labels"]["job"], each["health"]) for each in ask("targets")["activeTargets"]}

    try:
        prometheus.wait_until_ready(lambda: deployed.status("/-/ready", f"http://{HOST}:{port}") == 200, 30)
        wait_until(lambda: health() == {("hermes", "up"), ("hermes-relay", "up")}, 30, "both answer")

        def judged() -> list[dict[str, Any]]:
            rules: list[dict[str, Any]] = ask("rules")["groups"][0]["rules"]
            return rules if all(rule["health"] == "ok" for rule in rules) else []

        rules = wait_until(judged, 30, "every rule has been looked at")
        assert [rule["name"] for rule in rules] == ALERTS

        def processes() -> list[str]:
            found = ask("query?query=hermes_processes%7Bjob%3D%22hermes%22%7D")["result"]
            return [each["value"][1] for each in found]

        wait_until(lambda: processes() == ["2"], 30, "the unit's two workers, as one target")
        assert [alert for alert in ask("alerts")["alerts"] if alert["state"] == "firing"] == []
    finally:
        prometheus.stop()
