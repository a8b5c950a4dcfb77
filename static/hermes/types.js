/** Types: the shapes that the modules share, for people and for tsc. No module loads this one. */

/**
 * @typedef {object} Position where a page stands in its room's history
 * @property {string} epoch names one life of the history
 * @property {number} seq of the last entry handled; 0 before the first
 * @property {string} id that entry's id; empty when seq is 0
 */

/**
 * @typedef {object} Entry a message with its place in the room's history
 * @property {string} id
 * @property {string} epoch
 * @property {number} seq
 * @property {any} data as the producer made it; by custom `{type, data}`
 * @property {string | number} user_id who it came from
 * @property {string} room_id
 */

/**
 * @typedef {{ kind: "entry", entry: Entry }
 *   | { kind: "control", type: string, data: Record<string, any> }
 *   | { kind: "other" }} Frame
 */

/**
 * @typedef {object} Pass a token, with what its issuer says about it
 * @property {string} token
 * @property {string} [url] of the socket, when the issuer names it
 * @property {number} [expires_in] seconds
 * @property {string} [stage]
 * @property {string} [room_id]
 * @property {string | number} [user_id]
 */

/** @typedef {string | (() => string | Pass | Promise<string | Pass>)} TokenSource */

/** @typedef {"idle" | "connecting" | "open" | "waiting" | "offline" | "closed"} State */

/**
 * @typedef {object} StateChange
 * @property {State} state
 * @property {number} [code] the close code that led here
 * @property {string} [reason]
 * @property {number} [retry_in_ms]
 */

/**
 * @typedef {object} Subscriber
 * @property {string} type
 * @property {(data: any, entry?: any, missed?: any) => void} callback
 */

/**
 * @typedef {Position & { status: "fresh" | "recovered" | "lost", reason?: string, replayed: number }} Resumed
 * @typedef {Resumed & { ping_s: number, expires_in_s: number, connection_id: string, user_id: any, room_id: string }} Greeting
 * @typedef {Position & { reason: string, from: number, to: number }} Loss
 * @typedef {{ "hermes.hello": Greeting, "hermes.recovered": Greeting, "hermes.lost": Loss, "hermes.gap": Loss }} Resuming
 * @typedef {{ "hermes.sent": { id: string }, "hermes.error": { code: string, message: string } }} Answers
 * @typedef {{ "hermes.state": StateChange, "hermes.goodbye": Position & { retry_after_ms: number } }} Changes
 */

/** @typedef {{ "*": any } & Resuming & Answers & Changes} Events what may be listened to beside the messages */

/**
 * How to listen. The callback gets the message's data (with `*` the whole message), its entry, and whether that was
 * missed: it comes after an absence. Returns what ends it.
 * @template {Record<string, any>} Messages
 * @typedef {<Type extends keyof (Events & Messages) & string>(type: Type, callback: (data: (Events & Messages)[Type], entry: Entry, missed: boolean) => void) => () => void} Listen
 */

/** @typedef {Pick<Storage, "getItem" | "setItem">} Store where a position is kept */

/**
 * The part of the browser's window that a connection needs; tests hand in their own.
 * @typedef {object} Host
 * @property {(handler: () => void, ms: number) => any} setTimeout
 * @property {(timer: any) => void} clearTimeout
 * @property {{ now(): number }} Date
 * @property {{ random(): number }} Math
 * @property {{ onLine?: boolean, locks?: Pick<LockManager, "request"> }} [navigator]
 * @property {typeof BroadcastChannel} [BroadcastChannel]
 * @property {{ visibilityState?: string, hasFocus?(): boolean }} [document]
 * @property {Store} [localStorage]
 * @property {(type: string, listener: (event: any) => void, options?: { capture: boolean }) => void} [addEventListener]
 * @property {(type: string, listener: (event: any) => void, options?: { capture: boolean }) => void} [removeEventListener]
 */

/**
 * @typedef {object} Options
 * @property {string} [url] ws(s)://host or http(s)://host; without it the token's issuer names it, or it is the page's host
 * @property {string} stage
 * @property {TokenSource} token a token, or a function that fetches one and throws `Refused` when it is of no use to
 *   ask again
 * @property {string} [room] whose notifications these are, where the token does not say it; with `user`, tabs that follow
 *   another one need no token
 * @property {string | number} [user]
 * @property {boolean} [share] false: a socket of its own for each tab
 * @property {Position | null} [position] of the room when the page was rendered
 * @property {Store | null} [storage] where the position is kept; sessionStorage unless given, null for nowhere
 * @property {typeof WebSocket} [WebSocket]
 * @property {Host} [host] the window
 */

/**
 * What a connection is given by its owner.
 * @typedef {object} Wiring
 * @property {typeof WebSocket} WebSocket
 * @property {Host} host
 * @property {{ get(fresh?: boolean): Promise<Pass>, expire(seconds?: number): void, refuse(): void }} credentials
 * @property {(pass: Partial<Pass>) => string[]} member stage, room and user; empty where nobody has named them yet
 * @property {() => Position | null} position where this tab stands
 * @property {(pass: Partial<Pass>) => string} address of the socket; from here on we stand where the pass's member did
 * @property {(frame: Frame) => void} onframe called for every frame
 * @property {(change: StateChange) => void} onstate
 */

/**
 * What a page talks through: a connection of its own, or one that the tabs share.
 * @typedef {object} Line
 * @property {State} state
 * @property {() => void} start connect, and stay connected until `stop`
 * @property {() => void} stop
 * @property {(frame: object) => boolean} send
 * @property {{ name: string, leads: boolean } | null} [sharing] under which name tabs share, and whether the socket is
 *   this tab's
 */

export {};
