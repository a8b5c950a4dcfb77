/** Strings: every word that toasts and bell say, in one object that a page replaces to speak its reader's language. Pure. */
/** @import { Plural } from "./toast_types.js" */

export const STRINGS = {
  /** of these words: for plurals, numbers and times */
  locale: "en",
  region: "Notifications",
  info: "Information",
  success: "Success",
  warning: "Warning",
  danger: "Danger",
  custom: "Notification",
  close: "Close",
  open: "Open",
  clear: "Clear all",
  list: "Show all",
  /** @type {Plural} */ away: { other: "{n} while you were away" },
  /** @type {Plural} */ more: { other: "{n} more" },
  /** @type {Plural} */ flood: { one: "{n} more notification", other: "{n} more notifications" },
};

/** A number of things, in the words for it. @param {any} strings @param {string} name @param {number} n */
export function count(strings, name, n) {
  const { locale, [name]: forms } = strings;
  return (forms[new Intl.PluralRules(locale).select(n)] ?? forms.other).replace("{n}", n.toLocaleString(locale));
}
