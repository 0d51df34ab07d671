// Chips: a state as dot, shape and word, so that no meaning hangs on a colour.

import { html } from "./html.js";

const SHAPES = {
  new: "●",
  contacted: "◐",
  qualified: "▲",
  unqualified: "○",
  converted: "★",
  stale: "⚠",
  failed: "✗",
  running: "⟳",
  waiting: "◌",
};

/** @param {{kind: string, children?: import("../vendor/preact.js").ComponentChildren}} props */
export function Chip({ kind, children }) {
  const shape = SHAPES[/** @type {keyof typeof SHAPES} */ (kind)] ?? "●";
  return html`<span class=${`chip ${kind}`}>
    <span aria-hidden="true">${shape}</span> ${children ?? kind}
  </span>`;
}
