/** Testing: a server and a window to test pages against, without a network and without waiting. Speaks as sockets do. */

/** @typedef {import("./types.js").Entry} Entry */

/** One of a FakeServer's connections, seen from the server. */
export class FakeConnection {
  /** @type {any[]} what the client has sent, parsed */
  received = [];

  /**
   * @param {FakeServer} server
   * @param {any} socket the client's end
   * @param {string} url
   * @param {string[]} protocols
   */
  constructor(server, socket, url, protocols) {
    this.server = server;
    this.socket = socket;
    this.url = new URL(url);
    this.token = protocols.find((name) => name.startsWith("hermes.token."))?.slice("hermes.token.".length) ?? "";
    this.protocols = protocols;
  }

  /**
   * Send a text as it is.
   * @param {string} text
   */
  send(text) {
    if (this.socket.readyState === 1) this.socket.onmessage?.({ data: text });
  }

  /**
   * Send a control frame.
   * @param {string} name without its `hermes.`
   * @param {object} [data]
   */
  control(name, data = {}) {
    this.send(JSON.stringify({ data: { type: `hermes.${name}`, data } }));
  }

  /**
   * Close it, as the server does.
   * @param {number} code
   * @param {string} [reason]
   */
  close(code, reason = "") {
    if (this.socket.readyState === 3) return;
    this.socket.readyState = 3;
    this.server.connections.delete(this);
    this.socket.onclose?.({ code, reason });
  }
}

/** A room on a server that keeps its history in memory. Hand its `WebSocket` to `new Hermes`. */
export class FakeServer {
  /** @type {Set<FakeConnection>} those open now */
  connections = new Set();
  /** @type {FakeConnection[]} all there ever were */
  all = [];
  epoch = "e1";
  /** @type {Entry[]} */
  history = [];
  /** @type {number[]} close codes for the next connections */
  refusals = [];
  /** false: nobody answers */
  reachable = true;
  /** true: connections open, and then nothing is heard */
  mute = false;
  #next = 1;
  #seq = 0;

  /**
   * @param {object} [about]
   * @param {string} [about.room_id]
   * @param {string} [about.user_id]
   * @param {number} [about.ping_s]
   * @param {number} [about.expires_in_s]
   */
  constructor({ room_id = "acme", user_id = "1", ping_s = 25, expires_in_s = 3600 } = {}) {
    this.about = { room_id, user_id, ping_s, expires_in_s };
    const server = this;
    /** What a page constructs in the place of the browser's WebSocket. */
    this.WebSocket = /** @type {typeof WebSocket} */ (
      /** @type {unknown} */ (
        class {
          readyState = 0;
          /** @type {FakeConnection} */ #connection;
          /** @type {((event: any) => void) | null} */ onopen = null;
          /** @type {((event: any) => void) | null} */ onmessage = null;
          /** @type {((event: any) => void) | null} */ onclose = null;

          /**
           * @param {string} url
           * @param {string[]} protocols
           */
          constructor(url, protocols) {
            this.#connection = new FakeConnection(server, this, url, protocols);
            queueMicrotask(() => this.readyState === 0 && server.#accept(this.#connection));
          }

          /** @param {string} text */
          send(text) {
            server.#hear(this.#connection, JSON.parse(text));
          }

          close(code = 1005) {
            this.#connection.close(code);
          }
        }
      )
    );
  }

  /** The newest connection. */
  get last() {
    return /** @type {FakeConnection} */ (this.all.at(-1));
  }

  /**
   * Put a message into the history and deliver it.
   * @param {any} data by custom `{type, data}`
   * @param {Partial<Entry>} [extra]
   * @returns {Entry}
   */
  publish(data, extra = {}) {
    const { room_id, user_id } = this.about;
    this.#seq += 1;
    const entry = { user_id, data, room_id, id: `m${this.#next++}`, epoch: this.epoch, seq: this.#seq, ...extra };
    this.history.push(entry);
    for (const connection of this.connections) connection.send(JSON.stringify(entry));
    return entry;
  }

  /**
   * Begin another life of the history, as after a restart without its data.
   * @param {Entry[]} [kept] what is put into it again
   */
  beginAgain(kept = []) {
    this.epoch = `e${Number(this.epoch.slice(1)) + 1}`;
    this.#seq = 0;
    this.history = [];
    for (const { data, id } of kept) this.publish(data, { id });
  }

  /** The position of somebody who has everything. */
  get head() {
    return { epoch: this.epoch, seq: this.#seq, id: this.history.at(-1)?.id ?? "" };
  }

  /**
   * Close every connection.
   * @param {number} [code]
   */
  drop(code = 1006) {
    for (const connection of [...this.connections]) connection.close(code);
  }

  /** @param {FakeConnection} connection */
  #accept(connection) {
    this.all.push(connection);
    if (!this.reachable) return connection.close(1006);
    connection.socket.readyState = 1;
    this.connections.add(connection);
    connection.socket.onopen?.({});
    const refusal = this.refusals.shift();
    if (refusal) return connection.close(refusal, "refused");
    if (!this.mute) this.#greet(connection);
  }

  /** @param {FakeConnection} connection */
  #greet(connection) {
    const { epoch, seq, id } = Object.fromEntries(connection.url.searchParams);
    const { head, history } = this;
    const oldest = history[0]?.seq ?? head.seq + 1;
    let [status, reason, after] = ["recovered", "", Number(seq)];
    if (epoch === undefined) [status, after] = ["fresh", head.seq];
    else {
      const known = after === 0 ? "" : history.find((entry) => entry.seq === after)?.id;
      if (epoch !== head.epoch) reason = "epoch";
      else if (after < oldest - 1) reason = "trimmed";
      else if (after > head.seq || (known !== undefined && known !== id)) reason = "fork";
      if (reason) [status, after] = ["lost", oldest - 1];
    }
    const entries = history.filter((entry) => entry.seq > after);
    const at = history.find((entry) => entry.seq === after)?.id ?? (after === Number(seq) ? id : "");
    const position = { epoch: head.epoch, seq: after, id: at };
    connection.control("hello", {
      status,
      ...position,
      replayed: entries.length,
      ...this.about,
      connection_id: `c${this.all.length}`,
      ...(reason && { reason }),
    });
    for (const entry of entries) connection.send(JSON.stringify(entry));
  }

  /**
   * @param {FakeConnection} connection
   * @param {any} frame
   */
  #hear(connection, frame) {
    connection.received.push(frame);
    const { expires_in_s } = this.about;
    const ref = frame.ref && { ref: frame.ref };
    if (frame.action === "sendMessage") connection.control("sent", { id: this.publish(frame.data).id, ...ref });
    else if (frame.action === "refresh") connection.control("refreshed", { expires_in_s });
    else if (frame.action === "recent") connection.control("recent", { ...ref, entries: this.history.slice(-frame.limit) });
    else connection.control("error", { code: "unknown_action", message: "The action is unknown.", ...ref });
  }
}

/** A window whose time stands still until told to go on. Hand it to `new Hermes` as `host`. */
export class FakeHost extends EventTarget {
  /** @type {{ at: number, order: number, handler: () => void }[]} */ #timers = [];
  #now = 1_000_000;
  #order = 0;
  Date = { now: () => this.#now };
  Math = { random: () => 0.5 };
  document = { visibilityState: "visible", hasFocus: () => false };
  navigator = { onLine: true };

  /**
   * @param {() => void} handler
   * @param {number} ms
   */
  setTimeout(handler, ms) {
    // Browsers take what is longer than 24 days for 0.
    const timer = { at: this.#now + (ms < 2 ** 31 ? ms : 0), order: this.#order++, handler };
    this.#timers.push(timer);
    return timer;
  }

  /** @param {any} timer */
  clearTimeout(timer) {
    this.#timers = this.#timers.filter((each) => each !== timer);
  }

  /** How many timers are set. */
  get pending() {
    return this.#timers.length;
  }

  /**
   * Let time pass, and everything happen that is due in it.
   * @param {number} [ms]
   */
  async pass(ms = 0) {
    const end = this.#now + ms;
    await settle();
    for (;;) {
      const [due] = this.#timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at || a.order - b.order);
      if (!due) break;
      this.clearTimeout(due);
      this.#now = Math.max(this.#now, due.at);
      due.handler();
      await settle();
    }
    this.#now = end;
  }

  /**
   * Let the clock run on while no timer fires, as in a sleeping machine.
   * @param {number} ms
   */
  sleep(ms) {
    this.#now += ms;
  }

  /**
   * Tell those who listen.
   * @param {string} type
   * @param {object} [about]
   */
  notice(type, about = {}) {
    this.dispatchEvent(Object.assign(new Event(type), about));
  }
}

/** Let every promise that can be kept be kept. */
async function settle() {
  for (let turn = 0; turn < 20; turn += 1) await Promise.resolve();
}

/** A storage that a test can look into. */
export class FakeStorage {
  /** @type {Map<string, string>} */ items = new Map();

  /** @param {string} key */
  getItem(key) {
    return this.items.get(key) ?? null;
  }

  /**
   * @param {string} key
   * @param {string} value
   */
  setItem(key, value) {
    this.items.set(key, `${value}`);
  }
}

