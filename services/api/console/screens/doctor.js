// Doctor: what the system stands on, looked at now, and what to do about what is wrong.

import { counted } from "../format.js";
import { Chip } from "../ui/chip.js";
import { html, useTitle } from "../ui/html.js";
import { Failure, Skeleton } from "../ui/states.js";
import { forOperators, operate, useReading } from "./operator.js";

/** @typedef {import("../schema").components["schemas"]["Finding"]} Finding */

// A check that takes 3 s has failed, and they are made beside each other.
const LONG = 30_000;
/** The worst first. */
const KINDS = /** @type {const} */ ([
  ["failure", "failed", "What is wrong"],
  ["warning", "stale", "What may become wrong"],
  ["ok", "qualified", "What is well"],
]);

const time = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export const Doctor = forOperators("Doctor", Findings);

function Findings() {
  useTitle("Doctor");
  const { data, error, loading, at, reload } = useReading(async (signal) => {
    const { data: findings } = await operate("GET", "/admin/doctor", { signal, deadline: LONG });
    return /** @type {Finding[]} */ (findings);
  });
  return html`<div class="page wide">
    <div class="page-head">
      <h1>Doctor</h1>
      <span class="grow" />
      ${at > 0 && html`<span class="note">As of ${time.format(at)}</span>`}
      <button type="button" class="button primary" disabled=${loading} onClick=${reload}>
        ${loading ? "Checking…" : "Check again"}
      </button>
    </div>
    ${error &&
    html`<${Failure} title="It could not be checked." error=${error} retry=${reload} />`}
    ${data
      ? html`<p role="status">${loading ? "Checking…" : summary(data)}</p>
          ${KINDS.map((kind) => html`<${Part} key=${kind[0]} kind=${kind} findings=${data} />`)}`
      : !error && html`<${Skeleton} lines=${10} label="Checking" />`}
  </div>`;
}

/** @param {readonly Finding[]} findings */
function summary(findings) {
  const number = (/** @type {Finding["severity"]} */ one) =>
    findings.filter(({ severity }) => severity === one).length;
  const [failures, warnings] = [number("failure"), number("warning")];
  if (!failures && !warnings) return `All is well: ${counted(findings.length, "check")}.`;
  return `${counted(failures, "failure")}, ${counted(warnings, "warning")}, of ${counted(findings.length, "check")}.`;
}

/** @param {{kind: typeof KINDS[number], findings: readonly Finding[]}} props */
function Part({ kind: [severity, chip, title], findings }) {
  const mine = findings.filter((one) => one.severity === severity);
  if (!mine.length) return null;
  return html`<section aria-label=${title}>
    <h2 class="apart">${title}</h2>
    <ul class="findings">
      ${mine.map(
        ({ check, detail, advice }, at) => html`<li key=${at}>
          <${Chip} kind=${chip}><strong>${check}</strong><//>
          <span><bdi>${detail}</bdi></span>
          ${advice && html`<p class="advice"><bdi>${advice}</bdi></p>`}
        </li>`,
      )}
    </ul>
  </section>`;
}
