"""Nchan, nginx's module for it: one of the contestants, from Debian's packages nginx and libnginx-mod-nchan."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench.ground import HOST
from bench.peers.contestant import Contestant

_MODULES = (Path("/usr/lib/nginx/modules"), Path("/usr/lib64/nginx/modules"), Path("/usr/share/nginx/modules"))
_CONFIGURATION = """\
load_module {module};
{user}
daemon off;
worker_processes 1;
worker_rlimit_nofile {files};
pid {directory}/nginx.pid;
error_log {directory}/error.log warn;
events {{ worker_connections {files}; }}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    keepalive_requests 1000000;
    nchan_shared_memory_size 512m;
    server {{
        listen {host}:{port} backlog=4096;
        location ~ ^/sub/(?<room>\\w[\\w-]*)$ {{
            nchan_subscriber websocket;
            nchan_channel_id $room;
            nchan_subscriber_first_message newest;
            nchan_websocket_ping_interval 25;
        }}
        location ~ ^/pub/(?<room>\\w[\\w-]*)$ {{
            nchan_publisher http;
            nchan_channel_id $room;
            nchan_message_buffer_length 1000;
            nchan_message_timeout 1h;
        }}
    }}
}}
"""


class Nchan(Contestant):
    """nginx with Nchan."""

    name = "nchan"
    title = "Nchan"
    what = (
        "nginx with one worker, 1,000 messages of each channel kept in its own shared memory, published to by HTTP "
        "POST. No authentication (Nchan leaves that to a subrequest), and nothing is stored outside the process."
    )
    dialect = "nchan"
    entrance = "nchan"

    def obstacle(self) -> str:
        """Return what is missing."""
        if shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") is None:
            return "there is no nginx: apt-get install nginx libnginx-mod-nchan"
        return "" if self._module() else "nginx has no Nchan module: apt-get install libnginx-mod-nchan"

    def version(self) -> str:
        """Return nginx's version, and the package's of the module where dpkg knows it."""
        said = subprocess.run([self._nginx(), "-v"], capture_output=True, text=True, check=False, timeout=10)
        nginx = re.sub(r".*nginx/(\S+).*", r"nginx \1", said.stderr.strip(), flags=re.DOTALL)
        if shutil.which("dpkg-query"):
            query = ["dpkg-query", "-W", "-f", "${Version}", "libnginx-mod-nchan"]
            said = subprocess.run(query, capture_output=True, text=True, check=False, timeout=10)
            nginx += f", libnginx-mod-nchan {said.stdout.strip() or 'unknown'}"
        return nginx

    def commands(self) -> dict[str, Sequence[str]]:
        """Return nginx, with a configuration of its own."""
        directory = self.ground.directory / "nginx"
        directory.mkdir(exist_ok=True)
        user = f"user {pwd.getpwuid(os.getuid()).pw_name};" if os.getuid() == 0 else ""
        configuration = directory / "nginx.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                module=self._module(), user=user, files=20_000, directory=directory, host=HOST, port=self.port
            )
        )
        return {"server": [self._nginx(), "-p", str(directory), "-e", "stderr", "-c", str(configuration)]}

    @staticmethod
    def _nginx() -> str:
        return shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "nginx"

    @staticmethod
    def _module() -> Path | None:
        return next(
            (folder / "ngx_nchan_module.so" for folder in _MODULES if (folder / "ngx_nchan_module.so").exists()), None
        )
