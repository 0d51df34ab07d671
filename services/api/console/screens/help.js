// The keys, and the switch that turns them off.

import { isOn, switchKeys } from "../keyboard.js";
import { Dialog } from "../ui/dialog.js";
import { html, useValue } from "../ui/html.js";

const KEYS = [
  ["/", "Search"],
  ["n", "New lead"],
  ["j  k", "Next, previous row"],
  ["Enter", "Open it"],
  ["e", "Edit it"],
  ["s", "Summarise the lead, or all that are selected"],
  ["x", "Select it"],
  ["Shift+x", "Select all from the last one to it"],
  ["Esc", "Close, then clear the selection"],
  ["Ctrl+Enter", "Save a form"],
  ["?", "This help"],
];

/** @param {{close: () => void}} props */
export function Help({ close }) {
  const on = useValue(isOn);
  return html`<${Dialog} title="Keyboard shortcuts" close=${close} kind="small">
    <dl class="keys">
      ${KEYS.map(
        ([key, what]) => html`<div key=${key}>
          <dt><kbd>${key}</kbd></dt>
          <dd>${what}</dd>
        </div>`,
      )}
    </dl>
    <label class="switch">
      <input
        type="checkbox"
        checked=${on}
        onChange=${(/** @type {any} */ event) => switchKeys(event.target.checked)}
      />
      Single keys are on
    </label>
    <div class="actions"><button type="button" class="button" onClick=${close}>Close</button></div>
  <//>`;
}
