"""nginx with deploy/nginx/hermes.conf, and a certificate of a local authority. Called by conftest and test_nginx."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Self

from hermes_site.children import ChildProcess
from hermes_site.engines import HOST, free_port
from tests.certificates import make_certificate
from tests.deploy import manual
from tests.deploy.deployment import Deployment

START_SECONDS = 10.0
# Debian's nginx.conf as far as it matters: where a site's errors go unless it says otherwise.
MAIN = """
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/log/error.log;
events {{ worker_connections 768; }}
http {{
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log {directory}/log/access.log;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/hermes.conf;
}}
"""


class Front:
    """A real nginx on loopback.

    Args:
        deployed: what it serves the static files of; its directory stands for the host's root.
        directory: for configuration, certificate and logs.
        backend: the port of what is behind it: `manage.py serve`, usually.
    """

    def __init__(self, deployed: Deployment, directory: Path, backend: int) -> None:
        self.directory = directory
        self.port, self.plain_port = free_port(), free_port()
        self.url = f"https://localhost:{self.port}"
        self.ws_url = f"wss://localhost:{self.port}/ws/production"
        self.authority = directory / "authority.pem"
        (directory / "log").mkdir(parents=True)
        (directory / "www/.well-known/acme-challenge").mkdir(parents=True)
        make_certificate(directory, "fullchain.pem", "privkey.pem")
        # The page's own command puts the host's name in.
        deployed.run(manual.command("Install", "/opt/hermes/deploy/nginx/hermes.conf"))
        site = (deployed.root / "etc/nginx/conf.d/hermes.conf").read_text(encoding="utf-8")
        site = manual.with_paths(
            site,
            {
                "127.0.0.1:8000": f"{HOST}:{backend}",
                "listen 80;": f"listen {HOST}:{self.plain_port};",
                "listen [::]:80;": "",
                "listen 443 ssl http2;": f"listen {HOST}:{self.port} ssl http2;",
                "listen [::]:443 ssl http2;": "",
                "/etc/letsencrypt/live/localhost/": f"{directory}/",
                "/var/log/nginx/": f"{directory}/log/",
                "/var/www/html": f"{directory}/www",
                "/opt/hermes/": f"{deployed.opt}/",
            },
        )
        (directory / "hermes.conf").write_text(site, encoding="utf-8")
        user = "user root;" if os.geteuid() == 0 else ""
        (directory / "nginx.conf").write_text(MAIN.format(user=user, directory=directory), encoding="utf-8")
        self._child = ChildProcess(
            "nginx",
            ["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf"), "-g", "daemon off;"],
            environment={"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            log=directory / "nginx.log",
        )

    def start(self) -> Self:
        """Start it and wait until it listens."""
        self._child.start().wait_until_ready(self._listens, START_SECONDS)
        return self

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def stop(self) -> None:
        """End it; its access log is whole then."""
        self._child.stop()

    def logged(self) -> str:
        """Return everything that it has written, wherever."""
        logs = [*sorted((self.directory / "log").iterdir()), self.directory / "nginx.log"]
        return "".join(log.read_text(encoding="utf-8", errors="replace") for log in logs if log.exists())
