/** Strings: every word that toasts and bell say, in one object that a page replaces to speak its reader's language. Pure. */
/** @import { Strings } from "./toast_types.js" */

/** @type {Strings} */
export const STRINGS = {
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
  away: { other: "{n} while you were away" },
  more: { other: "{n} more" },
  flood: { one: "{n} more notification", other: "{n} more notifications" },
};

/** A number of things, in the words for it. @param {any} strings @param {string} name @param {number} n */
export function count(strings, name, n) {
  const { locale, [name]: forms } = strings;
  return (forms[new Intl.PluralRules(locale).select(n)] ?? forms.other).replace("{n}", n.toLocaleString(locale));
}
