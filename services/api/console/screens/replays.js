// Replays: past events put back for one group, how far each has come, and what came of it.

import { ago, count, counted, moment } from "../format.js";
import { address } from "../router.js";
import { Chip } from "../ui/chip.js";
import { html, useTitle } from "../ui/html.js";
import { asProblem, Empty, Failure, Skeleton } from "../ui/states.js";
import { useLayoutEffect, useRef, useState } from "../vendor/hooks.js";
import { forOperators, operate, useReading } from "./operator.js";
import { Order } from "./replay-form.js";

/** @typedef {import("../schema").components["schemas"]["Replay"]} Replay */

const PATH = "/admin/replays";
const LOOKED_AT_EVERY = 2000;
const LISTED_EVERY = 5000;
// So long without progress, the process that ran it may be gone.
const STALLED_AFTER = 20_000;

/** @type {Record<Replay["state"], [string, string]>} */
const STATES = {
  adding: ["running", "putting back"],
  added: ["running", "waiting for results"],
  finished: ["qualified", "finished"],
  cancelled: ["unqualified", "cancelled"],
};

export const Replays = forOperators("Replays", ({ params }) => {
  const [id] = params;
  if (id === "new") return html`<${Order} />`;
  return id ? html`<${One} key=${id} id=${id} />` : html`<${List} />`;
});

/** @param {{replay: Replay}} props */
function State({ replay }) {
  const [kind, word] = STATES[replay.state];
  return html`<${Chip} kind=${kind}>${word}<//>`;
}

/** @param {Replay} replay */
function isOver({ state, outstanding }) {
  return state === "finished" || (state === "cancelled" && !outstanding);
}

/** What a replay puts back. @param {Replay} replay */
function subject({ types, stream }) {
  return types.length ? types.join(", ") : `all of ${stream}`;
}

function List() {
  useTitle("Replays");
  const { data, error, reload } = useReading(
    async (signal) => {
      const { data: replays } = await operate("GET", PATH, { signal });
      return /** @type {Replay[]} */ (replays);
    },
    { every: () => LISTED_EVERY },
  );
  return html`<div class="page wide">
    <div class="page-head">
      <h1>Replays</h1>
      <a class="button primary" href=${address("/replays/new")}>+ New replay</a>
    </div>
    ${error &&
    html`<${Failure} title="The replays could not be read." error=${error} retry=${reload} />`}
    ${data
      ? data.length
        ? html`<${Table} replays=${data} />`
        : html`<${Empty} title="There has been no replay">
            <p>A replay puts past events back, to repair what was lost or is wrong.</p>
          <//>`
      : !error && html`<${Skeleton} lines=${6} label="Loading replays" />`}
  </div>`;
}

/** @param {{replays: readonly Replay[]}} props */
function Table({ replays }) {
  return html`<table class="sheet">
    <caption class="visually-hidden">The latest replays, newest first</caption>
    <thead>
      <tr>
        <th scope="col">Events</th>
        <th scope="col">Group</th>
        <th scope="col">State</th>
        <th scope="col" class="number">Put back</th>
        <th scope="col" class="number">Applied</th>
        <th scope="col" class="number">Dead</th>
        <th scope="col">Ordered</th>
      </tr>
    </thead>
    <tbody>
      ${replays.map(
        (one) => html`<tr key=${one.id}>
          <th scope="row">
            <a class="name" href=${address(`/replays/${one.id}`)}><bdi>${subject(one)}</bdi></a>
          </th>
          <td data-label="Group"><bdi>${one.group}</bdi></td>
          <td><${State} replay=${one} /></td>
          <td class="number" data-label="Put back">${count(one.added)}</td>
          <td class="number" data-label="Applied">${count(one.applied)}</td>
          <td class="number" data-label="Dead">${count(one.dead)}</td>
          <td><time datetime=${one.orderedAt} title=${moment(one.orderedAt)}>${ago(one.orderedAt)}</time></td>
        </tr>`,
      )}
    </tbody>
  </table>`;
}

/** @param {{id: string}} props */
function One({ id }) {
  const { data, error, reload } = useReading(
    async (signal) => {
      const { data: replay } = await operate("GET", `${PATH}/${id}`, { signal });
      return /** @type {Replay} */ (replay);
    },
    { every: (replay) => (replay && isOver(replay) ? null : LOOKED_AT_EVERY) },
  );
  const heading = useRef(/** @type {HTMLElement | null} */ (null));
  useTitle("Replay");
  useLayoutEffect(() => heading.current?.focus(), []);
  const isUnknown = Boolean(error) && asProblem(error).status === 404;
  return html`<div class="page">
    <p><a href=${address("/replays")}>‹ All replays</a></p>
    <h1 ref=${heading} tabindex="-1">
      ${data ? html`Replay to <bdi>${data.group}</bdi>` : "Replay"}
    </h1>
    ${isUnknown
      ? html`<p class="empty">There is no such replay: the latest hundred are kept.</p>`
      : error &&
        html`<${Failure} title="The replay could not be read." error=${error} retry=${reload} />`}
    ${data
      ? html`<${Progress} replay=${data} reload=${reload} /> <${Ordered} replay=${data} />`
      : !error && html`<${Skeleton} lines=${8} label="Loading the replay" />`}
  </div>`;
}

/** @param {{replay: Replay, reload: () => void}} props */
function Progress({ replay, reload }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(/** @type {unknown} */ (null));
  const isStalled = useStalled(replay);
  const act = async (/** @type {"cancel" | "resume"} */ word) => {
    if (busy) return;
    setBusy(true);
    setError(null);
    try {
      await operate("POST", `${PATH}/${replay.id}/${word}`);
    } catch (problem) {
      setError(problem);
    }
    reload();
    setBusy(false);
  };
  const { state, added, planned, outstanding } = replay;
  const settled = added - outstanding;
  const canResume = state === "cancelled" || isStalled;
  return html`<section class="outcome" aria-label="Progress">
    <div class="drawer-line">
      <${State} replay=${replay} />
      <span role="status">
        ${planned === null
          ? `${counted(settled, "result")}, ${count(added)} put back`
          : `${count(settled)} of ${count(planned)}`}
      </span>
      <span class="grow" />
      ${canResume &&
      html`<button type="button" class="button" disabled=${busy} onClick=${() => act("resume")}>
        Resume
      </button>`}
      ${state === "adding" &&
      html`<button type="button" class="button" disabled=${busy} onClick=${() => act("cancel")}>
        Cancel
      </button>`}
    </div>
    ${planned !== null &&
    planned > 0 &&
    html`<progress class="long" max=${planned} value=${settled} aria-label="Results" />`}
    ${isStalled &&
    html`<p class="note">
      Nothing has moved for a while. Nobody may read for the group, or the process that ran the replay
      has ended.
    </p>`}
    ${error && html`<${Failure} error=${error} />`}
    <${Report} replay=${replay} />
  </section>`;
}

/** Whether a replay that should go on does not. @param {Replay} replay */
function useStalled({ state, examined, added, outstanding }) {
  const mark = `${state} ${examined} ${added} ${outstanding}`;
  const since = useRef({ mark, at: Date.now() });
  if (since.current.mark !== mark) since.current = { mark, at: Date.now() };
  return state === "adding" && Date.now() - since.current.at > STALLED_AFTER;
}

/** @param {{replay: Replay}} props */
function Report({ replay }) {
  const figures = /** @type {const} */ ([
    ["applied", "changed something", "created"],
    ["alreadyApplied", "changed nothing", ""],
    ["refused", "refused: others are in the way", "refused"],
    ["dead", "became dead letters", "invalid"],
    ["outstanding", "without a result", ""],
  ]);
  return html`<dl class="counts">
      ${figures.map(
        ([name, label, kind]) => html`<div key=${name} class=${replay[name] ? kind : ""}>
          <dt>${label}</dt>
          <dd>${count(replay[name])}</dd>
        </div>`,
      )}
    </dl>
    ${replay.dead > 0 &&
    html`<p>
      <a href=${address("/dead-letters", { group: replay.group })}>Dead letters of the group</a>
    </p>`}`;
}

/** @param {{replay: Replay}} props */
function Ordered({ replay }) {
  const time = (/** @type {string | null} */ value) => (value ? moment(value) : "");
  /** @type {[string, string][]} */
  const facts = [
    ["Ordered", `${moment(replay.orderedAt)} by ${replay.requestedBy}`],
    ["Read from", `${replay.origin}, ${replay.stream}`],
    ["Since", time(replay.since)],
    ["Until", time(replay.until)],
    ["Events", replay.types.join(", ")],
    ["Leads", replay.leadIds.join(", ")],
    ["Correlation", replay.correlationId ?? ""],
    ["Entries", [replay.first ?? "", replay.last ?? ""].join(" to ").trim()],
    ["At most", replay.rate === null ? "" : `${counted(replay.rate, "event")} a second`],
    ["Model", replay.withModel ? "may be called" : "is not called"],
    ["Examined", counted(replay.examined, "event")],
  ];
  return html`<h2>What was ordered</h2>
    <dl class="values">
      ${facts
        .filter(([, value]) => value && value !== "to")
        .map(
          ([label, value]) => html`<div key=${label}>
            <dt>${label}</dt>
            <dd><bdi>${value}</bdi></dd>
          </div>`,
        )}
      <div>
        <dt>Id</dt>
        <dd><code>${replay.id}</code></dd>
      </div>
    </dl>`;
}
