// A change that met another one: what differs, side by side, and a choice for each.

import { capital, labelOf, nameOf } from "../format.js";
import { changeLead, leadOf, readLead } from "../store.js";
import { Dialog } from "../ui/dialog.js";
import { html, useValue } from "../ui/html.js";
import { asProblem, Failure, Skeleton } from "../ui/states.js";
import { toast } from "../ui/toast.js";
import { useEffect, useState } from "../vendor/hooks.js";
import { conflict } from "./lead-actions.js";
import { shownValue } from "./lead-form.js";

/**
 * @typedef {import("../store.js").Lead} Lead
 * @typedef {Record<string, any>} Fields
 */

export function ConflictDialog() {
  const found = useValue(conflict);
  if (!found) return null;
  const { before, changes, done } = found;
  return html`<${Compare} key=${before.id} before=${before} changes=${changes} done=${done} />`;
}

/** Fields that differ between the three, of those that were to be changed or were changed. */
function differing(/** @type {Fields} */ before, /** @type {Fields} */ now, /** @type {Fields} */ mine) {
  return Object.keys(mine).filter((name) => mine[name] !== now[name] || before[name] !== now[name]);
}

/** @param {{before: Lead, changes: Fields, done?: () => void}} props */
function Compare({ before, changes, done }) {
  const [now, setNow] = useState(/** @type {Lead | null} */ (null));
  const [choices, setChoices] = useState(/** @type {Record<string, "now" | "mine">} */ ({}));
  const [failed, setFailed] = useState(/** @type {unknown} */ (null));
  const [busy, setBusy] = useState(false);
  const close = () => {
    conflict.value = null;
  };
  const read = async () => {
    setFailed(null);
    try {
      const lead = await readLead(before.id);
      if (!lead) {
        toast({ kind: "error", text: `${nameOf(before)} was deleted meanwhile` });
        return close();
      }
      setNow(lead);
      // Where only one side has changed a field there is nothing to choose.
      setChoices((made) => {
        const known = { ...made };
        for (const name of differing(before, lead, changes)) {
          const theirs = /** @type {Fields} */ (lead)[name];
          if (theirs === /** @type {Fields} */ (before)[name]) known[name] = "mine";
        }
        return known;
      });
    } catch (error) {
      setFailed(error);
    }
  };
  useEffect(() => void read(), []);
  if (!now) {
    return html`<${Dialog} title="Changed meanwhile" close=${close}>
      ${failed ? html`<${Failure} error=${failed} retry=${read} />` : html`<${Skeleton} />`}
    <//>`;
  }
  const names = differing(before, now, changes);
  const open = names.filter((name) => !choices[name]);
  const save = async (/** @type {Event} */ event) => {
    event.preventDefault();
    if (busy || open.length) return;
    const kept = names.filter((name) => choices[name] === "mine");
    setBusy(true);
    try {
      if (kept.length) {
        await changeLead(
          leadOf(before.id).peek() ?? now,
          Object.fromEntries(kept.map((name) => [name, changes[name]])),
        );
      }
      toast({ text: `${nameOf(now)} is saved` });
      close();
      done?.();
    } catch (error) {
      const problem = asProblem(error);
      if (problem.code === "version-mismatch") await read();
      else setFailed(problem);
      setBusy(false);
    }
  };
  return html`<${Dialog} title=${`Changed meanwhile: v${before.version} → v${now.version}`} close=${close}>
    <form onSubmit=${save}>
      <p>Somebody has changed <bdi>${nameOf(now)}</bdi> since you opened it. What is to be kept?</p>
      ${failed && html`<${Failure} error=${failed} />`}
      <table class="compare">
        <thead>
          <tr>
            <th scope="col">Field</th>
            <th scope="col">Before</th>
            <th scope="col">Now</th>
            <th scope="col">Yours</th>
          </tr>
        </thead>
        <tbody>
          ${names.map(
            (name) => html`<tr key=${name}>
              <th scope="row">${capital(labelOf(name))}</th>
              <td data-label="Before"><bdi>${shownValue(before, name)}</bdi></td>
              ${/** @type {const} */ (["now", "mine"]).map(
                (side) => html`<td key=${side} data-label=${side === "now" ? "Now" : "Yours"}>
                  <label class="choice">
                    <input
                      type="radio"
                      name=${name}
                      checked=${choices[name] === side}
                      onChange=${() => setChoices({ ...choices, [name]: side })}
                    />
                    <bdi>${shownValue(side === "now" ? now : changes, name)}</bdi>
                  </label>
                </td>`,
              )}
            </tr>`,
          )}
        </tbody>
      </table>
      <div class="actions">
        ${open.length > 0 && html`<p class="note grow">Choose for each: both sides changed it</p>`}
        <button type="button" class="button" onClick=${close}>Cancel</button>
        <button type="submit" class="button primary" disabled=${busy || open.length > 0}>
          ${busy ? "Saving…" : "Save"}
        </button>
      </div>
    </form>
  <//>`;
}
