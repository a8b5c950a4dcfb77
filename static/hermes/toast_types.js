/**
 * Toast types: the shapes that toasts and bell share, for people and for tsc. No module loads this one, and it names none
 * but types.js: hashed file names cannot go in a circle.
 */

/** @typedef {"info" | "success" | "warning" | "danger" | "custom"} Kind */

/**
 * @typedef {object} Action what a toast offers to do
 * @property {string} label
 * @property {string} [link] followed when it is chosen
 * @property {string} [name] otherwise told to `toasts.onaction`
 * @property {(() => unknown) | undefined} [onclick] otherwise called; only a page's own code can give one
 */

/**
 * @typedef {object} Content what a toast says; all of it but `draw` can come from a producer
 * @property {string} [title]
 * @property {string} [text]
 * @property {string} [link] https:, http: to the same host, or relative; anything else is left out
 * @property {string} [link_text] in the place of "Open"
 * @property {Action[]} [actions] at most two
 * @property {string} [icon] a character or two in the place of the drawn one
 * @property {string} [look] a name for the stylesheet: `[data-look="…"]`
 * @property {number} [lasts_ms] how long it stands, a second to a minute; 0 until it is dismissed
 * @property {() => Node} [draw] makes what stands below the text; only a page's own code can give it
 */

/**
 * @typedef {object} Said a Content that was read: text, and harmless links
 * @property {string} title
 * @property {string} text
 * @property {string} link
 * @property {string} link_text
 * @property {Action[]} actions
 * @property {string} icon
 * @property {string} look
 * @property {number | undefined} lasts_ms
 * @property {(() => Node) | undefined} draw
 */

/**
 * @typedef {object} Standing
 * @property {number} id
 * @property {Kind} kind
 * @property {number} times how often it was shown while it stood
 * @property {number} count for how many a digest stands; 0 for a toast that is none
 * @property {boolean} away a digest of what was missed
 * @property {number} lasts_ms 0: until it is dismissed
 * @property {number} left_ms of that, when the clock last stopped
 * @property {number} since when it started
 * @property {any} timer while it runs
 * @property {string} says equal for toasts that say the same
 */

/** @typedef {Said & Standing} Toast */

/**
 * @typedef {object} ToastOptions
 * @property {number} [limit] how many stand at once
 * @property {number} [waitingLimit] how many more wait their turn; when there are more, a digest waits for them all
 * @property {number} [digestFrom] from so many that were missed on, a digest stands for them
 * @property {string} [page] the page's address, for links
 * @property {Pick<import("./types.js").Host, "setTimeout" | "clearTimeout" | "Date">} [host]
 */

/** @typedef {Partial<Record<Intl.LDMLPluralRule, string>> & { other: string }} Plural by the language's own categories */

/**
 * @typedef {object} Strings every word that toasts say
 * @property {string} locale of these words: for plurals, numbers and times
 * @property {string} region what the toasts' region is called
 * @property {string} info
 * @property {string} success
 * @property {string} warning
 * @property {string} danger
 * @property {string} custom
 * @property {string} close
 * @property {string} open a link without words of its own
 * @property {string} clear all toasts
 * @property {string} list what a digest opens
 * @property {Plural} away a digest of what was missed
 * @property {Plural} more how many wait
 * @property {Plural} flood a digest of what there was no room for
 */

/**
 * @typedef {object} BellWords what the bell says besides
 * @property {string} recent the panel, and the button
 * @property {Plural} unread
 * @property {string} read mark all read
 * @property {string} nothing an empty list
 * @property {string} unreachable an empty list without a connection
 */

/**
 * @typedef {object} ViewOptions
 * @property {Partial<Strings>} [strings] in the reader's language
 * @property {string} [hotkey] brings the focus to the toasts, and back; as in `aria-keyshortcuts`, "" for none
 */

/**
 * @typedef {object} BellOptions
 * @property {string} name whose read marks: one for each member of a room, e.g. stage, room and user
 * @property {{ clear(): void }} [toasts] cleared when the list opens
 * @property {Element | null} [place] where the button stands; unless given, the element with `data-hermes-bell`, and on a
 *   page without one there is only the panel
 * @property {Partial<Strings & BellWords>} [strings] in the reader's language
 * @property {number} [limit] how many entries the list holds
 * @property {import("./types.js").Store | null} [storage] where the marks are kept; localStorage unless given
 * @property {string} [styles] the address of bell.css, for pages that have not loaded it
 */

/**
 * @typedef {object} Config what the template tag writes into `#hermes-config`
 * @property {string} url
 * @property {string} token_url
 * @property {string} csrf_cookie the name of the cookie that holds the session's newest CSRF token, if scripts may read it
 * @property {string} csrf_token as it was when the page was rendered
 * @property {string} stage
 * @property {string} room
 * @property {string | number} user_id
 * @property {import("./types.js").Position | null} position
 * @property {import("./types.js").Pass} [pass] the inline token
 */

export {};
