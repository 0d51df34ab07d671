// How values are written for people.

/** @typedef {import("./schema").components["schemas"]["Lead"]} Lead */

const number = new Intl.NumberFormat("en");
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "narrow" });
const absolute = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });

/** @type {[number, Intl.RelativeTimeFormatUnit][]} */
const UNITS = [
  [60, "second"],
  [60, "minute"],
  [24, "hour"],
  [7, "day"],
  [4.35, "week"],
  [12, "month"],
  [Infinity, "year"],
];

export const STATUSES = /** @type {const} */ ([
  "new",
  "contacted",
  "qualified",
  "unqualified",
  "converted",
]);

export const SOURCES = /** @type {const} */ (["manual", "randomuser", "import"]);

/** The fields that a person gives, in the order of forms. */
export const FIELDS = /** @type {const} */ ([
  { name: "firstName", label: "First name", max: 50, required: true },
  { name: "lastName", label: "Last name", max: 50, required: true },
  { name: "email", label: "E-mail", max: 100, required: true, type: "email" },
  { name: "phone", label: "Phone", max: 20, type: "tel" },
  { name: "cell", label: "Mobile", max: 20, type: "tel" },
  { name: "dob", label: "Date of birth", max: 50, hint: "Such as 1815-12-10" },
  { name: "city", label: "City", max: 50 },
  { name: "state", label: "State", max: 50 },
  { name: "country", label: "Country", max: 50 },
  { name: "picture", label: "Picture", max: 255, hint: "An address: pictures are not loaded here" },
  { name: "externalId", label: "External id", max: 36, hint: "A UUID of your own system" },
]);

/** @typedef {typeof FIELDS[number]["name"]} FieldName */

/** @param {string} name */
export function labelOf(name) {
  return FIELDS.find((field) => field.name === name)?.label ?? name;
}

/** @param {Pick<Lead, "firstName" | "lastName">} lead */
export function nameOf(lead) {
  return `${lead.firstName} ${lead.lastName}`;
}

/** @param {number} value */
export function count(value) {
  return number.format(value);
}

/**
 * @param {number} value
 * @param {string} one
 * @param {string} [many]
 */
export function counted(value, one, many = `${one}s`) {
  return `${count(value)} ${value === 1 ? one : many}`;
}

/** How long ago, such as `2 min. ago`. @param {string} time @param {number} [now] */
export function ago(time, now = Date.now()) {
  let value = (new Date(time).getTime() - now) / 1000;
  if (value > -10) return "just now";
  for (const [size, unit] of UNITS) {
    if (Math.abs(value) < size) return relative.format(Math.round(value), unit);
    value /= size;
  }
  return "";
}

/** @param {string} time */
export function moment(time) {
  return absolute.format(new Date(time));
}

/** @param {number} bytes */
export function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  const kib = bytes / 1024;
  return kib < 1024 ? `${kib.toFixed(0)} KiB` : `${(kib / 1024).toFixed(1)} MiB`;
}

/** Begins with a capital. @param {string} text */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
