// Keys for those who work without a mouse: one list, which the help shows too.

import { signal } from "./vendor/signals-core.js";

/** @typedef {Record<string, () => boolean | void>} Keys returns false to leave the key alone */

const STORED = "leads.keys";

/** Whether single keys do anything: they are in the way of speech input (WCAG 2.1.4). */
export const isOn = signal(readSwitch());

function readSwitch() {
  try {
    return localStorage.getItem(STORED) !== "off";
  } catch {
    return true;
  }
}

/** @param {boolean} on */
export function switchKeys(on) {
  isOn.value = on;
  try {
    localStorage.setItem(STORED, on ? "on" : "off");
  } catch {
    // Then it holds for this page.
  }
}

/** The newest first: what is opened last hears a key first. @type {Keys[]} */
const bound = [];

/** Binds keys until the returned function is called. @param {Keys} keys */
export function bind(keys) {
  bound.unshift(keys);
  return () => {
    const at = bound.indexOf(keys);
    if (at >= 0) bound.splice(at, 1);
  };
}

/** Whether a key belongs to what has the focus. @param {EventTarget | null} target */
function isField(target) {
  if (!(target instanceof HTMLElement)) return false;
  if (target instanceof HTMLInputElement) return target.type !== "checkbox";
  return target.isContentEditable || ["TEXTAREA", "SELECT"].includes(target.tagName);
}

/** Listens for keys in the whole page. */
export function listen() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.isComposing || document.querySelector("dialog[open]")) return;
    const isEscape = event.key === "Escape";
    if (!isEscape && (!isOn.value || isField(event.target))) return;
    const name = event.shiftKey && event.key.length === 1 && /[a-z]/i.test(event.key)
      ? `Shift+${event.key.toLowerCase()}`
      : event.key;
    for (const keys of bound) {
      const act = keys[name];
      if (act && act() !== false) {
        event.preventDefault();
        return;
      }
    }
  });
}
