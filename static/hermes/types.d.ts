// The toolkit's shared types, for people and for tsc. No module loads this file.

/** Where a page stands in its room's history. */
export interface Position {
  /** names one life of the history */
  epoch: string;
  /** of the last entry handled; 0 before the first */
  seq: number;
  /** that entry's id; empty when seq is 0 */
  id: string;
}

/** A message with its place in the room's history. */
export interface Entry {
  id: string;
  epoch: string;
  seq: number;
  /** as the producer made it; by custom `{type, data}` */
  data: any;
  /** who it came from */
  user_id: string | number;
  room_id: string;
}

export type Frame =
  | { kind: "entry"; entry: Entry }
  | { kind: "control"; type: string; data: Record<string, any> }
  | { kind: "other" };

/** A token, with what its issuer says about it. */
export interface Pass {
  token: string;
  /** of the socket, when the issuer names it */
  url?: string;
  /** seconds */
  expires_in?: number;
  stage?: string;
  room_id?: string;
  user_id?: string | number;
}

export type TokenSource = string | (() => string | Pass | Promise<string | Pass>);

export type State = "idle" | "connecting" | "open" | "waiting" | "offline" | "closed";

export interface StateChange {
  state: State;
  /** the close code that led here */
  code?: number;
  reason?: string;
  retry_in_ms?: number;
}

export interface Subscriber {
  type: string;
  callback: (data: any, entry?: any) => void;
}

/** Where a position is kept. */
export type Store = Pick<Storage, "getItem" | "setItem">;

/** The part of the browser's window that a connection needs; tests hand in their own. */
export interface Host {
  setTimeout(handler: () => void, ms: number): any;
  clearTimeout(timer: any): void;
  Date: { now(): number };
  Math: { random(): number };
  navigator?: { onLine?: boolean };
  document?: { visibilityState?: string };
  addEventListener?(type: string, listener: (event: any) => void, capture?: boolean): void;
  removeEventListener?(type: string, listener: (event: any) => void, capture?: boolean): void;
}

export interface Options {
  /** ws(s)://host or http(s)://host; without it the token's issuer names it, or it is the page's host */
  url?: string;
  stage: string;
  /** a token, or a function that fetches a fresh one and throws `Refused` when asking again is of no use */
  token: TokenSource;
  room?: string;
  /** of the room when the page was rendered */
  position?: Position | null;
  /** where the position is kept; sessionStorage unless given, null for nowhere */
  storage?: Store | null;
  WebSocket?: typeof WebSocket;
  host?: Host;
}

/** What a connection is given by its owner. */
export interface Wiring {
  WebSocket: typeof WebSocket;
  host: Host;
  credentials: { get(fresh?: boolean): Promise<Pass>; expire(seconds?: number): void; refuse(): void };
  /** of the socket, for this pass */
  address(pass: Pass): string;
  /** called for every frame */
  onframe(frame: Frame): void;
  onstate(change: StateChange): void;
}
