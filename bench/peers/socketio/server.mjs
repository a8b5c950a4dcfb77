// Socket.IO as its documentation has it: a JWT check before a socket is let in, a room, and the Redis adapter.
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import jwt from "jsonwebtoken";
import { createClient } from "redis";
import { Server } from "socket.io";

const { PORT, SECRET, REDIS_URL } = process.env;

const publisher = createClient({ url: REDIS_URL });
const subscriber = publisher.duplicate();
await Promise.all([publisher.connect(), subscriber.connect()]);

const http = createServer();
const io = new Server(http, { adapter: createAdapter(publisher, subscriber), serveClient: false });

io.use((socket, next) => {
  jwt.verify(socket.handshake.auth.token, SECRET, { algorithms: ["HS512"] }, (error, claims) => {
    if (error) {
      next(error);
      return;
    }
    socket.data.user = claims.sub;
    socket.data.room = claims.room;
    next();
  });
});
io.on("connection", (socket) => {
  socket.join(socket.data.room);
});

process.on("SIGTERM", () => process.exit(0));
http.listen(Number(PORT), "127.0.0.1", 4096);
