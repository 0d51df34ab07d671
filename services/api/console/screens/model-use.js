// The language model: what is taken of it beside what may be, and whether it is called at all.

import { count, counted } from "../format.js";
import { Chip } from "../ui/chip.js";
import { html } from "../ui/html.js";

/** @typedef {import("../schema").components["schemas"]["Model"]} Model */

const UNKNOWN = "unknown";

/** What was taken in a minute, of what may be. @param {number | null} taken @param {number | null} most */
function share(taken, most) {
  if (most === null) return taken === null ? "no limit" : `${count(taken)}, no limit`;
  return `${taken === null ? UNKNOWN : count(taken)} of ${count(most)}`;
}

/** The use of tokens, or of calls where those have no limit. @param {Model} model */
export function inShort({ calls, mostCalls, tokens, mostTokens }) {
  if (mostTokens !== null) return `${share(tokens, mostTokens)} tokens a minute`;
  return mostCalls === null ? "no limit" : `${share(calls, mostCalls)} calls a minute`;
}

/** @param {{models: readonly Model[] | null}} props null while it is unknown */
export function Models({ models }) {
  return html`<section aria-label="Model">
    <h2 class="apart">Model</h2>
    ${models === null
      ? html`<p class="note">What is taken of the model is ${UNKNOWN}.</p>`
      : models.length
        ? models.map((one) => html`<${Use} key=${`${one.provider} ${one.model}`} model=${one} />`)
        : html`<p class="note">No summarizer runs.</p>`}
  </section>`;
}

/** @param {{model: Model}} props */
function Use({ model }) {
  const open = model.summarizers.filter(({ circuitOpen }) => circuitOpen).length;
  const all = model.summarizers.length;
  return html`<div class="node model">
    <div class="node-head">
      <strong><bdi>${model.model}</bdi></strong> <span class="note"><bdi>${model.provider}</bdi></span>
      <span>
        ${model.pausedFor !== null
          ? html`<${Chip} kind="stale">paused for ${Math.ceil(model.pausedFor)} s<//>`
          : open
            ? html`<${Chip} kind="failed">${count(open)} of ${counted(all, "summarizer")} do not call it<//>`
            : html`<${Chip} kind="qualified">${counted(all, "summarizer")}<//>`}
      </span>
    </div>
    <dl class="uses">
      <${Minute} label="Calls a minute" taken=${model.calls} most=${model.mostCalls} />
      <${Minute} label="Tokens a minute" taken=${model.tokens} most=${model.mostTokens} />
      <div>
        <dt>Calls that wait</dt>
        <dd>${count(model.waiting)}</dd>
      </div>
      <div>
        <dt>Today</dt>
        <dd>${counted(model.callsToday, "call")}, ${counted(model.tokensToday, "token")}</dd>
      </div>
      <div>
        <dt>Summaries a day for a user</dt>
        <dd>${model.mostSummaries === null ? "no limit" : count(model.mostSummaries)}</dd>
      </div>
    </dl>
  </div>`;
}

/** @param {{label: string, taken: number | null, most: number | null}} props */
function Minute({ label, taken, most }) {
  return html`<div>
    <dt>${label}</dt>
    <dd>
      ${share(taken, most)}
      ${taken !== null && most !== null && html`<progress max=${most} value=${Math.min(taken, most)} aria-label=${label} />`}
    </dd>
  </div>`;
}
