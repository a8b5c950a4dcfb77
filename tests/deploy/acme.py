"""A certificate authority by RFC 8555, as far as certbot asks: it stands in for the public one. Called by debian.

It fetches the proof that a name is its asker's over port 80, and signs with the local authority. Whether a request is
signed by its account it does not ask: nobody but the test's own certbot reaches it.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import secrets
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.deploy.clean_root import CleanRoot

PORT = 14000
URL = f"http://127.0.0.1:{PORT}"


def unpadded(data: bytes) -> str:
    """Return base64url without padding, as JWS has it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unpacked(text: str) -> bytes:
    """Return what is packed so."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Authority:
    """It listens inside a root's network, and there it fetches its proofs.

    Args:
        root: it runs.
        directory: with authority.pem and authority.key, and for what is signed.
    """

    def __init__(self, root: CleanRoot, directory: Path) -> None:
        self.directory = directory
        self.name, self.thumbprint, self.token, self.status = "", "", secrets.token_urlsafe(16), "pending"
        self._server = root.in_its_network(self._listen)

    def _listen(self) -> ThreadingHTTPServer:
        authority = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                authority.respond(self, {})

            def do_HEAD(self) -> None:
                authority.respond(self, {})

            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                protected = json.loads(unpacked(asked["protected"]))
                authority.respond(self, {**json.loads(unpacked(asked["payload"]) or "{}"), "jwk": protected.get("jwk")})

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
        # Its threads are begun here, and so are in the root's network as well.
        threading.Thread(target=server.serve_forever, args=(0.05,), name="authority", daemon=True).start()
        return server

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()

    def respond(self, handler: BaseHTTPRequestHandler, asked: dict[str, Any]) -> None:
        """Answer one request."""
        status, told = getattr(self, f"_{handler.path.strip('/')}")(asked)
        body = told.encode() if isinstance(told, str) else json.dumps(told).encode()
        handler.send_response(status)
        kind = "application/pem-certificate-chain" if isinstance(told, str) else "application/json"
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.send_header("Replay-Nonce", secrets.token_urlsafe(16))
        if status == 201:
            handler.send_header("Location", f"{URL}/{handler.path.removeprefix('/new').lower()}")
        handler.send_header("Link", f'<{URL}/authorization>;rel="up"')
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def _directory(self, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, {
            name: f"{URL}/{name}" for name in ("newNonce", "newAccount", "newOrder", "revokeCert", "keyChange")
        }

    def _newNonce(self, _: dict[str, Any]) -> tuple[int, Any]:  # noqa: N802  RFC 8555's name
        return 200, {}

    def _newAccount(self, asked: dict[str, Any]) -> tuple[int, Any]:  # noqa: N802
        told = json.dumps({name: asked["jwk"][name] for name in ("e", "kty", "n")}, separators=(",", ":"))
        self.thumbprint = unpadded(hashlib.sha256(told.encode()).digest())
        return 201, self._account({})[1]

    def _account(self, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, {"status": "valid", "contact": []}

    def _newOrder(self, asked: dict[str, Any]) -> tuple[int, Any]:  # noqa: N802
        (identifier,) = asked["identifiers"]
        # Each order is proved anew.
        self.name, self.token, self.status = identifier["value"], secrets.token_urlsafe(16), "pending"
        return 201, self._order({})[1]

    def _order(self, _: dict[str, Any]) -> tuple[int, Any]:
        signed = {"certificate": f"{URL}/certificate"} if self.status == "signed" else {}
        return 200, {
            "status": {"pending": "pending", "proved": "ready", "signed": "valid"}[self.status],
            "identifiers": [{"type": "dns", "value": self.name}],
            "authorizations": [f"{URL}/authorization"],
            "finalize": f"{URL}/finalize_order",
            **signed,
        }

    def _authorization(self, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, {
            "status": "pending" if self.status == "pending" else "valid",
            "identifier": {"type": "dns", "value": self.name},
            "challenges": [self._challenge_now()],
        }

    def _challenge_now(self) -> dict[str, Any]:
        status = "pending" if self.status == "pending" else "valid"
        return {"type": "http-01", "url": f"{URL}/challenge", "token": self.token, "status": status}

    def _challenge(self, _: dict[str, Any]) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=10)
        connection.request("GET", f"/.well-known/acme-challenge/{self.token}", headers={"Host": self.name})
        if connection.getresponse().read().decode().strip() == f"{self.token}.{self.thumbprint}":
            self.status = "proved"
        connection.close()
        return 200, self._challenge_now()

    def _finalize_order(self, asked: dict[str, Any]) -> tuple[int, Any]:
        assert self.status == "proved"
        (self.directory / "request.der").write_bytes(unpacked(asked["csr"]))
        (self.directory / "names").write_text(
            f"subjectAltName=DNS:{self.name}\nextendedKeyUsage=serverAuth\n", encoding="utf-8"
        )
        command = (
            "openssl x509 -req -inform DER -in request.der -CA authority.pem -CAkey authority.key -CAcreateserial"
            " -days 90 -extfile names -out signed.pem"
        )
        subprocess.run(command.split(), cwd=self.directory, check=True, capture_output=True)
        self.status = "signed"
        return self._order({})

    def _certificate(self, _: dict[str, Any]) -> tuple[int, Any]:
        return 200, "".join((self.directory / name).read_text() for name in ("signed.pem", "authority.pem"))
