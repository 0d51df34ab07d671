// Work on many leads at once: some at a time, with progress, a stop, and what failed.

import { pause, Problem } from "../api.js";
import { capital, count, counted, nameOf, STATUSES } from "../format.js";
import { changeLead, deleteLead, leadOf, readLead, readList, summarise, writingOf } from "../store.js";
import { Confirm, Dialog } from "../ui/dialog.js";
import { html, useValue } from "../ui/html.js";
import { asProblem } from "../ui/states.js";
import { toast } from "../ui/toast.js";
import { useState } from "../vendor/hooks.js";
import { signal } from "../vendor/signals-core.js";
import { exportSelection } from "./export.js";
import { addressOf } from "./lead-actions.js";
import { allLeads, clearSelection, page, removeRow, selection, total } from "./lead-list.js";

/**
 * @typedef {import("../store.js").Seen} Seen
 * @typedef {object} Run
 * @property {string} label such as `Summarise`
 * @property {number} of
 * @property {number} done
 * @property {readonly {id: string, name: string, reason: string}[]} failures
 * @property {AbortController} stop
 * @property {boolean} over
 *
 * @typedef {(id: string, stop: AbortSignal) => Promise<void>} Work throws `Problem`
 */

const AT_A_TIME = 4;
const TYPED_FROM = 10;

export const run = signal(/** @type {Run | null} */ (null));

/**
 * @param {string} label
 * @param {readonly string[]} ids
 * @param {Work} work
 */
export async function runAll(label, ids, work) {
  const stop = new AbortController();
  run.value = { label, of: ids.length, done: 0, failures: [], stop, over: false };
  const queue = [...ids];
  const change = (/** @type {Partial<Run>} */ more) => {
    if (run.peek()?.stop === stop) run.value = { .../** @type {Run} */ (run.peek()), ...more };
  };
  const worker = async () => {
    for (let id = queue.shift(); id && !stop.signal.aborted; id = queue.shift()) {
      const reason = await attempt(work, id, stop.signal);
      const now = /** @type {Run} */ (run.peek());
      if (reason !== null) {
        const lead = leadOf(id).peek();
        const failure = { id, name: lead ? nameOf(lead) : id, reason };
        change({ failures: [...now.failures, failure] });
      }
      change({ done: now.done + 1 });
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, worker));
  const end = /** @type {Run} */ (run.peek());
  if (end.failures.length || stop.signal.aborted) change({ over: true });
  else {
    run.value = null;
    toast({ text: `${label}: ${counted(end.done, "lead")} done` });
  }
}

/**
 * Returns why one failed, or null; a server that asks to wait is given the time.
 * @param {Work} work
 * @param {string} id
 * @param {AbortSignal} stop
 */
async function attempt(work, id, stop) {
  for (let tries = 0; ; tries += 1) {
    try {
      await work(id, stop);
      return null;
    } catch (error) {
      const problem = asProblem(error);
      const waits = problem.status === 429 || problem.status === 503;
      if (!waits || tries >= 5 || stop.aborted) return problem.detail;
      await pause((problem.retryAfter ?? 2) * 1000, stop);
      if (stop.aborted) return "Stopped";
    }
  }
}

/** @param {string} status @returns {Work} */
function statusWork(status) {
  return async (id) => {
    for (let tries = 0; ; tries += 1) {
      const lead = tries ? await readLead(id) : (leadOf(id).peek() ?? (await readLead(id)));
      if (!lead) throw new Problem({ code: "lead-not-found", detail: "It was deleted meanwhile" });
      try {
        if (lead.status !== status) await changeLead(lead, { status });
        return;
      } catch (error) {
        // What else was changed meanwhile has nothing to do with the status that all are to have.
        if (!(error instanceof Problem && error.code === "version-mismatch") || tries >= 2) throw error;
      }
    }
  };
}

/** @type {Work} */
async function summaryWork(id) {
  if ((await summarise(id)) !== "failed") return;
  throw writingOf(id).peek()?.problem ?? new Problem({ code: "operation-failed", detail: "It failed" });
}

/** Deletes leads as they were when that was asked for. @param {readonly Seen[]} seen @returns {Work} */
function deleteWork(seen) {
  const leads = new Map(seen.map((lead) => [lead.id, lead]));
  return async (id) => {
    try {
      await deleteLead(/** @type {Seen} */ (leads.get(id)));
    } catch (error) {
      if (!(error instanceof Problem && error.code === "version-mismatch")) throw error;
      throw new Problem({ ...error, detail: "It has changed since it was selected, and is kept" });
    }
    removeRow(id);
  };
}

/** Selected leads as they are shown; those that are not known any more are read. @param {readonly string[]} ids */
async function seenOf(ids) {
  await readList(ids.filter((id) => !leadOf(id).peek()));
  return ids.flatMap((id) => leadOf(id).peek() ?? []);
}

/** @param {readonly Seen[]} leads */
function idsOf(leads) {
  return leads.map(({ id }) => id);
}

/** @param {readonly Seen[]} leads */
function exportChosen(leads) {
  return exportSelection(idsOf(leads));
}

/** @param {{query: URLSearchParams}} props */
export function BulkBar({ query }) {
  const { ids, all } = useValue(selection);
  const known = useValue(total);
  const shown = useValue(page);
  const working = useValue(run);
  const [asks, setAsks] = useState(/** @type {readonly Seen[] | null} */ (null));
  const [gathering, setGathering] = useState(false);
  const number = all ? (known ?? ids.size) : ids.size;
  if (working) return html`<${Progress} run=${working} />`;
  if (!number) return null;
  const withChosen = async (/** @type {(chosen: readonly Seen[]) => unknown} */ act) => {
    if (gathering) return;
    setGathering(all);
    try {
      await act(all ? await allLeads(query, new AbortController().signal) : await seenOf([...ids]));
    } catch (error) {
      toast({ kind: "error", text: asProblem(error).detail });
    }
    setGathering(false);
  };
  const start = (/** @type {string} */ label, /** @type {Work} */ work) =>
    withChosen((chosen) => {
      clearSelection();
      void runAll(label, idsOf(chosen), work);
    });
  const isWholePage = shown.ids.length > 0 && shown.ids.every((id) => ids.has(id));
  return html`<section class="bulk" aria-label="Selected leads">
    <strong role="status">${gathering ? "Reading…" : `${count(number)} selected`}</strong>
    ${!all &&
    isWholePage &&
    known !== null &&
    known > ids.size &&
    html`<button
      type="button"
      class="link"
      onClick=${() => {
        selection.value = { ids, all: true };
      }}
    >
      Select all ${count(known)} that match
    </button>`}
    <span class="grow" />
    <details class="menu up">
      <summary class="button">Status ▾</summary>
      <div class="menu-body">
        ${STATUSES.map(
          (status) => html`<button
            key=${status}
            type="button"
            class="item"
            onClick=${() => start(`Status ${status}`, statusWork(status))}
          >
            ${capital(status)}
          </button>`,
        )}
      </div>
    </details>
    <button
      id="bulk-summarise"
      type="button"
      class="button"
      onClick=${() => start("Summarise", summaryWork)}
    >
      Summarise
    </button>
    <button type="button" class="button" onClick=${() => withChosen(exportChosen)}>Export</button>
    <button type="button" class="button danger" onClick=${() => withChosen(setAsks)}>Delete</button>
    <button type="button" class="icon" aria-label="Clear the selection" onClick=${clearSelection}>
      ✕
    </button>
    ${asks && html`<${DeleteMany} leads=${asks} close=${() => setAsks(null)} />`}
  </section>`;
}

/** @param {{leads: readonly Seen[], close: () => void}} props */
function DeleteMany({ leads, close }) {
  const number = counted(leads.length, "lead");
  return html`<${Confirm}
    title=${`Delete ${number}?`}
    action="Delete"
    typed=${leads.length >= TYPED_FROM ? String(leads.length) : undefined}
    close=${close}
    run=${() => {
      close();
      clearSelection();
      void runAll("Delete", idsOf(leads), deleteWork(leads));
    }}
  >
    <p>What is known of these people is erased everywhere. That cannot be undone.</p>
  <//>`;
}

/** @param {{run: Run}} props */
function Progress({ run: working }) {
  const [lists, setLists] = useState(false);
  const { label, of, done, failures, stop, over } = working;
  const close = () => {
    run.value = null;
  };
  return html`<section class="bulk" aria-label="Progress">
    <strong role="status">
      ${label}: ${count(done)} of ${count(of)}${stop.signal.aborted ? ", stopped" : ""}
    </strong>
    <progress max=${of} value=${done} aria-label=${label} />
    <span class="grow" />
    ${failures.length > 0 &&
    html`<button type="button" class="link" onClick=${() => setLists(true)}>
      ${count(failures.length)} failed · Show
    </button>`}
    ${over
      ? html`<button type="button" class="button" onClick=${close}>Close</button>`
      : html`<button type="button" class="button" onClick=${() => stop.abort()}>Stop</button>`}
    ${lists &&
    html`<${Dialog} title=${`${label}: what failed`} close=${() => setLists(false)}>
      <ul class="failures">
        ${failures.map(
          ({ id, name, reason }) => html`<li key=${id}>
            <a href=${addressOf(id)} onClick=${() => setLists(false)}><bdi>${name}</bdi></a>:
            <bdi> ${reason}</bdi>
          </li>`,
        )}
      </ul>
      <div class="actions">
        <button type="button" class="button" onClick=${() => setLists(false)}>Close</button>
      </div>
    <//>`}
  </section>`;
}
