// Syncs with the external source of leads: what each has brought, and one more at once.

import { ago, count, moment } from "../format.js";
import { Chip } from "../ui/chip.js";
import { html, useTitle } from "../ui/html.js";
import { Empty, Failure, Skeleton } from "../ui/states.js";
import { useState } from "../vendor/hooks.js";
import { forOperators, operate, useReading } from "./operator.js";

/** @typedef {import("../schema").components["schemas"]["Sync"]} Sync */

const PATH = "/admin/sync";
const SHOWN = 50;
const [OFTEN, SELDOM] = [1500, 10_000];
// What no syncer has taken by then is not carried out any more.
const EXPIRES = 90_000;

/** @type {Record<Sync["state"], [string, string]>} */
const STATES = {
  pending: ["waiting", "waiting"],
  running: ["running", "running"],
  succeeded: ["qualified", "done"],
  failed: ["failed", "failed"],
};

export const Syncs = forOperators("Syncs", List);

function List() {
  useTitle("Syncs");
  const [asked, setAsked] = useState(/** @type {{id: string, at: number} | null} */ (null));
  const [busy, setBusy] = useState(false);
  const [refused, setRefused] = useState(/** @type {unknown} */ (null));
  const waits = (/** @type {readonly Sync[]} */ syncs) =>
    asked && !syncs.some(({ id }) => id === asked.id) && Date.now() - asked.at < EXPIRES + SELDOM;
  const { data, error, reload } = useReading(
    async (signal) => {
      const { data: syncs } = await operate("GET", PATH, { query: { limit: SHOWN }, signal });
      return /** @type {Sync[]} */ (syncs);
    },
    {
      every: (syncs) =>
        syncs && (waits(syncs) || syncs.some(({ state }) => state === "running")) ? OFTEN : SELDOM,
    },
  );
  const run = async () => {
    if (busy) return;
    setBusy(true);
    setRefused(null);
    try {
      const { data: accepted } = await operate("POST", PATH, {
        headers: { Prefer: "respond-async" },
      });
      setAsked({ id: /** @type {{id: string}} */ (accepted).id, at: Date.now() });
      reload();
    } catch (problem) {
      setRefused(problem);
    }
    setBusy(false);
  };
  return html`<div class="page wide">
    <div class="page-head">
      <h1>Syncs</h1>
      <button type="button" class="button primary" disabled=${busy} onClick=${run}>
        ${busy ? "Asking…" : "Run now"}
      </button>
    </div>
    ${refused && html`<${Failure} title="No sync was begun." error=${refused} retry=${run} />`}
    ${error &&
    html`<${Failure} title="The syncs could not be read." error=${error} retry=${reload} />`}
    <div role="status">${data && waits(data) && html`<${Waiting} since=${asked?.at ?? 0} />`}</div>
    ${data
      ? data.length
        ? html`<${Table} syncs=${data} mine=${asked?.id} />`
        : html`<${Empty} title="There has been no sync">
            <p>The syncer fetches leads on its schedule, and when it is asked to.</p>
          <//>`
      : !error && html`<${Skeleton} lines=${8} label="Loading syncs" />`}
  </div>`;
}

/** @param {{since: number}} props */
function Waiting({ since }) {
  const isLate = Date.now() - since > EXPIRES;
  if (isLate) return html`<p class="failure">No syncer has taken it up: is one running?</p>`;
  return html`<p><${Chip} kind="waiting">asked for, and not begun yet<//></p>`;
}

/** @param {{syncs: readonly Sync[], mine: string | undefined}} props */
function Table({ syncs, mine }) {
  const figures = /** @type {const} */ ([
    ["fetched", "Fetched"],
    ["created", "New"],
    ["duplicate", "Known"],
    ["invalid", "Invalid"],
    ["unknown", "Unknown"],
  ]);
  return html`<table class="sheet">
    <caption class="visually-hidden">The latest syncs, newest first</caption>
    <thead>
      <tr>
        <th scope="col">Begun</th>
        <th scope="col">Asked for by</th>
        <th scope="col">State</th>
        ${figures.map(([name, label]) => html`<th key=${name} scope="col" class="number">${label}</th>`)}
        <th scope="col" class="reason">Reason</th>
      </tr>
    </thead>
    <tbody>
      ${syncs.map((one) => {
        const [kind, word] = STATES[one.state];
        return html`<tr key=${one.id} class=${one.id === mine ? "open" : ""}>
          <th scope="row">
            ${one.startedAt
              ? html`<time datetime=${one.startedAt} title=${moment(one.startedAt)}
                  >${moment(one.startedAt)} <span class="note">${ago(one.startedAt)}</span></time
                >`
              : "—"}
          </th>
          <td>${one.requestedBy ?? "—"}</td>
          <td><${Chip} kind=${kind}>${word}<//></td>
          ${figures.map(
            ([name, label]) => html`<td key=${name} class="number" data-label=${label}>
              ${count(one[name])}
            </td>`,
          )}
          <td class="reason"><bdi>${one.error ?? ""}</bdi></td>
        </tr>`;
      })}
    </tbody>
  </table>`;
}
