// CSV as spreadsheets write it: a preview of a file's first rows, and rows to give back.

const SEPARATORS = [",", ";", "\t", "|"];

/**
 * @typedef {object} Table
 * @property {string} separator
 * @property {string[]} header
 * @property {string[][]} rows with those that are blank: the API counts them too
 */

/**
 * Reads CSV; with `most`, that many rows.
 * @param {string} text
 * @param {number} [most]
 * @returns {Table}
 */
export function parse(text, most = Infinity) {
  let rest = text.replace(/^\uFEFF/, "");
  const told = /^sep=(.)\r?\n/i.exec(rest);
  if (told) rest = rest.slice(told[0].length);
  const separator = told?.[1] ?? likely(rest);
  /** @type {string[]} */
  let header = [];
  /** @type {string[][]} */
  const rows = [];
  for (const record of recordsOf(rest, separator)) {
    if (header.length) rows.push(record);
    else if (record.some((cell) => cell.trim())) header = record.map((title) => title.trim());
    if (rows.length >= most) break;
  }
  return { separator, header, rows };
}

/** @param {string} text */
function likely(text) {
  const first = text.slice(0, 5000).split(/\r?\n/).find((line) => line.trim()) ?? "";
  const counts = SEPARATORS.map((one) => first.split(one).length);
  return SEPARATORS[counts.indexOf(Math.max(...counts))] ?? ",";
}

/**
 * @param {string} text
 * @param {string} separator
 * @returns {Generator<string[], void, void>}
 */
function* recordsOf(text, separator) {
  /** @type {string[]} */
  let record = [];
  let cell = "";
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const one = text.charAt(at);
    if (quoted) {
      if (one !== '"') cell += one;
      else if (text[at + 1] === '"') {
        cell += one;
        at += 1;
      } else quoted = false;
    } else if (one === '"' && !cell) quoted = true;
    else if (one === separator) {
      record.push(cell);
      cell = "";
    } else if (one === "\n" || one === "\r") {
      if (one === "\r" && text[at + 1] === "\n") at += 1;
      yield [...record, cell];
      record = [];
      cell = "";
    } else cell += one;
  }
  if (cell || record.length) yield [...record, cell];
}

/** A cell that no spreadsheet runs as a formula. @param {string} text */
function harmless(text) {
  return /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
}

/** @param {readonly (string | null)[]} cells */
export function line(cells) {
  const quoted = cells.map((cell) => {
    const text = harmless(cell ?? "");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  });
  return `${quoted.join(",")}\r\n`;
}
