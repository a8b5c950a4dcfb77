"""The article's system beside a Hermes: API Gateway is played here, what it calls is migration.md's. Made by moving.

It knows what the article's parts know: the tokens table, whose rows it shares with Hermes, and a connections table of
its own. `$connect`, `$disconnect` and the authorizer are a few lines each; `sendMessage` is the document's.
"""

from __future__ import annotations

import asyncio
import json
import threading
import urllib.parse
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any, Self

import bcrypt
import jwt
import websockets
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from hermes_site.engines import HOST
from tests.processes import Hermes
from tests.waiting import eventually

STAGE = "production"
TABLE = "hermesConnections"
POST_SECONDS = 10


class _Post(BaseHTTPRequestHandler):
    """postToConnection: `POST /<stage>/@connections/<id>`."""

    protocol_version = "HTTP/1.1"
    server: _Management
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        connection = urllib.parse.unquote(self.path.rpartition("/@connections/")[2])
        is_there = self.server.gateway.post(connection, body.decode())
        self.send_response_only(200 if is_there else 410)
        if not is_there:
            self.send_header("x-amzn-ErrorType", "GoneException")
        self.send_header("Content-Length", "0")
        self.end_headers()
        self.wfile.flush()

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Management(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, gateway: OldSystem) -> None:
        super().__init__((HOST, 0), _Post)
        self.gateway = gateway


class OldSystem:
    """The article's system; an asynchronous context that runs until its end.

    Args:
        hermes: whose AWS endpoint and secrets it shares.
        queue: the name of the queue that triggers `sendMessage`.
    """

    def __init__(self, hermes: Hermes, queue: str) -> None:
        self.sender: ModuleType | None = None
        self._hermes = hermes
        self._queue = queue
        self._sockets: dict[str, ServerConnection] = {}
        self._claims: dict[ServerConnection, dict[str, Any]] = {}
        self._management = _Management(self)
        self._thread = threading.Thread(target=self._management.serve_forever, args=(0.05,), daemon=True)
        self._trigger: asyncio.Task[None] | None = None
        self._is_finishing = False
        self._server: Server | None = None

    @property
    def management_url(self) -> str:
        """What `sendMessage` is given as ENDPOINT."""
        return f"http://{HOST}:{self._management.server_address[1]}/{STAGE}"

    @property
    def ws_url(self) -> str:
        """Where the article's pages connect."""
        assert self._server is not None
        return f"ws://{HOST}:{next(iter(self._server.sockets)).getsockname()[1]}/{STAGE}"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        self._server = await serve(self._live, HOST, 0, process_request=self._authorize, compression=None)
        self._trigger = asyncio.create_task(self._run_trigger(), name="trigger")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        await self.finish()
        self._server.close()
        await self._server.wait_closed()
        await asyncio.to_thread(self._management.shutdown)
        self._management.server_close()

    async def finish(self) -> None:
        """Let the trigger finish what it has in hand; a receipt that nobody waits for would hide messages."""
        self._is_finishing = True
        if self._trigger is not None:
            await self._trigger

    def rows(self) -> list[dict[str, str]]:
        """Return the rows of its connections table, as plain values."""
        return [{name: value["S"] for name, value in item.items()} for item in self._hermes.items(TABLE)]

    def post(self, connection: str, text: str) -> bool:
        """Send to one connection, from a thread of the management API; returns whether it was there."""
        socket = self._sockets.get(connection)
        if socket is None:
            return False
        try:
            asyncio.run_coroutine_threadsafe(socket.send(text), self._loop).result(POST_SECONDS)
        except websockets.ConnectionClosed:
            return False
        return True

    # ── What API Gateway calls ───────────────────────────────────────────────────────────────────────────────────────
    async def _authorize(self, connection: ServerConnection, request: Request) -> Response | None:
        """The authorizer: the JWT, the row, and the row's hash."""
        (token,) = urllib.parse.parse_qs(urllib.parse.urlsplit(request.path).query)["token"]
        claims = jwt.decode(token, self._hermes.env["HERMES_JWT_SECRET"], algorithms=["HS512"])
        key = {name: {"S": str(claims[name])} for name in ("user_id", "room_id")}
        dynamodb = self._hermes.client("dynamodb")
        row = (await asyncio.to_thread(dynamodb.get_item, TableName="hermesTokens", Key=key)).get("Item")
        if row is None or not bcrypt.checkpw(claims["token"].encode(), row["token"]["S"].encode()):
            return connection.respond(403, "Forbidden")
        self._claims[connection] = claims
        return None

    async def _live(self, connection: ServerConnection) -> None:
        """One connection: `$connect`, the route `sendMessage`, `$disconnect`."""
        identifier = uuid.uuid4().hex
        claims = self._claims.pop(connection)
        dynamodb = self._hermes.client("dynamodb")
        key = {"connection_id": {"S": identifier}}
        item = key | {name: {"S": str(claims[name])} for name in ("user_id", "room_id")}
        # Posted to only when it can be: what comes between a row and its socket would be 410 and cost the row.
        self._sockets[identifier] = connection
        await asyncio.to_thread(dynamodb.put_item, TableName=TABLE, Item=item)
        try:
            async for text in connection:
                event = {"requestContext": {"connectionId": identifier}, "body": text}
                await asyncio.to_thread(self._call, event)
        finally:
            del self._sockets[identifier]
            await asyncio.to_thread(dynamodb.delete_item, TableName=TABLE, Key=key)

    # ── What SQS triggers ────────────────────────────────────────────────────────────────────────────────────────────
    async def _run_trigger(self) -> None:
        """Hand what is on the queue to `sendMessage`, ten at a time, and delete what it does not name as failed."""
        sqs = self._hermes.client("sqs")
        url = await asyncio.to_thread(self._hermes.queue_url, self._queue)
        while not self._is_finishing:
            answer = await asyncio.to_thread(
                sqs.receive_message, QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1
            )
            messages = answer.get("Messages", [])
            if not messages:
                continue
            event = {"Records": [{"messageId": each["MessageId"], "body": each["Body"]} for each in messages]}
            outcome = await asyncio.to_thread(self._call, event)
            failed = {each["itemIdentifier"] for each in outcome["batchItemFailures"]}
            for each in messages:
                if each["MessageId"] not in failed:
                    await asyncio.to_thread(sqs.delete_message, QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])

    def _call(self, event: dict[str, Any]) -> Any:
        assert self.sender is not None
        return self.sender.handler(event, None)


class OldPage:
    """A page with the article's script: one WebSocket, never opened again; an asynchronous context."""

    def __init__(self, old: OldSystem, token: str) -> None:
        self.frames: list[dict[str, Any]] = []
        self._old, self._token = old, token
        self._socket: ClientConnection | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        claims = jwt.decode(self._token, options={"verify_signature": False})
        before = self._rows_of(claims)
        url = f"{self._old.ws_url}?token={self._token}"
        self._socket = await connect(url, compression=None, proxy=None)
        self._task = asyncio.create_task(self._read(self._socket))
        # The sending function knows it from here on.
        await eventually(lambda: self._rows_of(claims) > before, what="$connect has written its row")
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.leave()

    async def leave(self) -> None:
        """Close the page."""
        assert self._socket is not None
        assert self._task is not None
        await self._socket.close()
        await self._task

    async def say(self, data: Any) -> None:
        """Send as the article's browsers do."""
        assert self._socket is not None
        await self._socket.send(json.dumps({"action": "sendMessage", "data": data}))

    @property
    def received(self) -> list[Any]:
        """What its handler would have dispatched, in the order in which it came."""
        return [frame["data"] for frame in self.frames]

    def _rows_of(self, claims: dict[str, Any]) -> int:
        return sum(row["user_id"] == str(claims["user_id"]) for row in self._old.rows())

    async def _read(self, socket: ClientConnection) -> None:
        async for text in socket:
            self.frames.append(json.loads(text))
