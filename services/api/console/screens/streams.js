// Streams: the flow from clients to PostgreSQL as it is now, and each group's figures.

import { Problem } from "../api.js";
import { count, counted } from "../format.js";
import { address } from "../router.js";
import { Chip } from "../ui/chip.js";
import { html, useTitle } from "../ui/html.js";
import { Spark } from "../ui/spark.js";
import { Failure, Skeleton } from "../ui/states.js";
import { useRef } from "../vendor/hooks.js";
import { inShort, Models } from "./model-use.js";
import { forOperators, operate, useReading } from "./operator.js";

/**
 * @typedef {import("../schema").components["schemas"]["Stream"]} Stream
 * @typedef {import("../schema").components["schemas"]["StreamPartition"]} Partition
 * @typedef {import("../schema").components["schemas"]["ConsumerGroup"]} Group
 * @typedef {import("../schema").components["schemas"]["Model"]} Model
 * @typedef {Map<string, (number | null)[]>} Past of groups and streams, the oldest first
 */

// After an answer, which itself takes a second.
const EVERY = 2000;
const REMEMBERED = 40;
// Who has not asked for entries for so long has probably ended.
const SILENT = 30;

const UNKNOWN = "unknown";
const time = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export const Streams = forOperators("Streams", Flow);

/** @param {number | null | undefined} value */
function known(value) {
  return value === null || value === undefined ? UNKNOWN : count(value);
}

/** @param {number | null | undefined} value */
function rate(value) {
  if (value === null || value === undefined) return UNKNOWN;
  return `${value < 10 && value % 1 ? value.toFixed(1) : count(Math.round(value))}/s`;
}

/** @param {number | null} seconds */
function duration(seconds) {
  if (seconds === null) return "—";
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}

/** A sum of which one part is unknown is unknown. @param {readonly (number | null)[]} values */
function total(values) {
  return values.reduce(
    (all, one) => (all === null || one === null ? null : all + one),
    /** @type {number | null} */ (0),
  );
}

/** A stream's name without what all have in common. @param {string} name */
function short(name) {
  return name.replace(/^stream:/, "");
}

/** Entries that are not dealt with: all, where nobody has ever read. @param {Stream} stream @param {Group | null} group */
function backlog(stream, group) {
  return group ? total([group.undelivered, group.pending, group.retries]) : stream.length;
}

/** Pages follow changes, and operators look after dead letters: no group reads these. */
const WITHOUT_GROUPS = ["changes", "dead-letters"];

/** Each stream with each of its groups; null where there is none yet. @param {readonly Stream[]} streams */
function flowsOf(streams) {
  return streams
    .filter(({ name }) => !WITHOUT_GROUPS.includes(short(name)))
    .flatMap((stream) => {
      const groups = stream.groups.length ? stream.groups : [null];
      return groups.map((group) => ({ stream, group }));
    });
}

function Flow() {
  useTitle("Streams");
  const { data, error, at, reload } = useReading(
    async (signal) => {
      const [streams, models] = await Promise.all([
        operate("GET", "/admin/streams", { signal }),
        readModels(signal),
      ]);
      return { streams: /** @type {Stream[]} */ (streams.data), models };
    },
    { every: () => EVERY },
  );
  const past = usePast(data?.streams ?? null);
  return html`<div class="page wide">
    <div class="page-head">
      <h1>Streams</h1>
      ${at > 0 && html`<span class="note">As of ${time.format(at)}</span>`}
    </div>
    ${error &&
    html`<${Failure}
      title=${data ? "What is shown may be old." : "The streams could not be read."}
      error=${error}
      retry=${reload}
    />`}
    ${data
      ? html`<div class=${error ? "old" : ""}>
          <${Picture} streams=${data.streams} models=${data.models} past=${past} />
          <${Groups} streams=${data.streams} past=${past} />
          <${Models} models=${data.models} />
          <${Others} streams=${data.streams} past=${past} />
        </div>`
      : !error && html`<${Skeleton} lines=${10} label="Loading the streams" />`}
  </div>`;
}

/** Reads what is taken of the model; null while that is unknown, which is no reason to show nothing else. @param {AbortSignal} signal */
async function readModels(signal) {
  try {
    const { data } = await operate("GET", "/admin/model", { signal });
    return /** @type {Model[]} */ (data);
  } catch (error) {
    if (error instanceof Problem && error.status !== 401) return null;
    throw error;
  }
}

/**
 * Returns the rates of the last looks: what was added to each stream, and handled by each group.
 * @param {readonly Stream[] | null} streams as they are now
 */
function usePast(streams) {
  const kept = useRef({
    latest: /** @type {readonly Stream[] | null} */ (null),
    past: /** @type {Past} */ (new Map()),
  });
  if (!streams || kept.current.latest === streams) return kept.current.past;
  const add = (/** @type {string} */ name, /** @type {number | null} */ value) => {
    const values = [...(kept.current.past.get(name) ?? []), value];
    kept.current.past.set(name, values.slice(-REMEMBERED));
  };
  for (const stream of streams) {
    add(stream.name, stream.perSecond);
    for (const group of stream.groups) add(keyOf(stream, group), group.handledPerSecond);
  }
  kept.current.latest = streams;
  return kept.current.past;
}

/** @param {Stream} stream @param {Group | null} group */
function keyOf(stream, group) {
  return `${stream.name} ${group?.name ?? ""}`;
}

/** @param {{values: readonly (number | null)[], what: string}} props */
function Line({ values, what }) {
  const seen = values.filter((value) => value !== null);
  const label = seen.length
    ? `${what} a second: now ${rate(values.at(-1))}, at most ${rate(Math.max(...seen))}`
    : `${what} a second: ${UNKNOWN}`;
  return html`<${Spark} values=${values} length=${REMEMBERED} label=${label} />`;
}

/** @param {{streams: readonly Stream[], models: readonly Model[] | null, past: Past}} props */
function Picture({ streams, models, past }) {
  const flows = flowsOf(streams);
  const asked = total(flows.map(({ stream }) => stream.perSecond));
  return html`<section class="flow" aria-label="The flow">
    <div class="node end">
      <strong>API</strong>
      <span>${asked === null ? UNKNOWN : rate(asked)} in</span>
    </div>
    <ol class="lanes">
      ${flows.map(
        ({ stream, group }) => html`<li key=${keyOf(stream, group)} class="lane">
          <${StreamNode} stream=${stream} group=${group} past=${past} />
          <span class="arrow" aria-hidden="true">→</span>
          <${Service} group=${group} models=${models} />
        </li>`,
      )}
    </ol>
    <div class="node end"><strong>PostgreSQL</strong></div>
  </section>`;
}

/** @param {{stream: Stream, group: Group | null, past: Past}} props */
function StreamNode({ stream, group, past }) {
  const waiting = backlog(stream, group);
  const last = Math.max(0, ...stream.partitions.map(({ layout }) => layout));
  return html`<div class="node stream">
    <div class="node-head">
      <strong>${short(stream.name)}</strong>
      <${Line} values=${past.get(stream.name) ?? []} what="Added" />
      <span>${rate(stream.perSecond)}</span>
    </div>
    <span class=${waiting ? "waits" : "note"}>
      ${waiting === null ? `backlog ${UNKNOWN}` : counted(waiting, "entry", "entries") + " waiting"}
    </span>
    ${stream.partitions.length > 0 &&
    html`<ul class="partitions" aria-label=${`Partitions of ${short(stream.name)}`}>
      ${stream.partitions.map(
        (one) => html`<${PartitionNode} key=${one.name} partition=${one} isOld=${one.layout < last} />`,
      )}
    </ul>`}
  </div>`;
}

/** @param {{partition: Partition, isOld: boolean}} props */
function PartitionNode({ partition, isOld }) {
  const { number, lag, owner, epoch, held } = partition;
  const isAlone = owner === null && epoch !== null;
  const title = [
    owner ?? (isAlone ? "nobody reads it" : `owner ${UNKNOWN}`),
    `epoch ${known(epoch)}`,
    `${known(held)} held`,
    isOld ? "of the division before" : "",
  ];
  return html`<li class=${isAlone ? "alone" : ""} title=${title.filter(Boolean).join(", ")}>
    <code>${isOld ? "old " : ""}{${number}}</code> <strong class=${lag ? "waits" : ""}>${known(lag)}</strong>
    <span class="owner">
      ${isAlone
        ? html`<${Chip} kind="stale">nobody<//>`
        : owner === null
          ? UNKNOWN
          : html`<bdi>${placeOf(owner)}</bdi>`}
    </span>
  </li>`;
}

/** Where a consumer runs: its name without the group and its own number. @param {string} consumer */
function placeOf(consumer) {
  return consumer.replace(/^[^:]+:/, "").replace(/-[^-:]+$/, "");
}

/** @param {{group: Group | null, models: readonly Model[] | null}} props */
function Service({ group, models }) {
  if (!group) {
    return html`<div class="node service"><${Chip} kind="stale">no group reads it yet<//></div>`;
  }
  const running = group.consumers.filter(({ idle }) => idle < SILENT).length;
  return html`<div class="node service">
    <div class="node-head">
      <strong><bdi>${group.name}</bdi></strong> <span>${rate(group.handledPerSecond)}</span>
    </div>
    ${running
      ? html`<span class="note">${running} running</span>`
      : html`<${Chip} kind="stale">none is running<//>`}
    ${group.name === "summarizer" &&
    models?.map(
      (one) => html`<span key=${one.model} class="note">→ model, ${inShort(one)}</span>`,
    )}
  </div>`;
}

/** @param {{streams: readonly Stream[], past: Past}} props */
function Groups({ streams, past }) {
  const rows = streams.flatMap((stream) => stream.groups.map((group) => ({ stream, group })));
  if (!rows.length) return null;
  return html`<h2 class="apart">Groups</h2>
    <table class="sheet">
      <caption class="visually-hidden">What each group has to do, and how fast it does it</caption>
      <thead>
        <tr>
          <th scope="col">Group</th>
          <th scope="col">Stream</th>
          <th scope="col" class="number">Undelivered</th>
          <th scope="col" class="number">Pending</th>
          <th scope="col" class="number">Oldest</th>
          <th scope="col" class="number">Held</th>
          <th scope="col" class="number">Retries</th>
          <th scope="col" class="number">Handled</th>
          <th scope="col"><span class="visually-hidden">Before</span></th>
        </tr>
      </thead>
      <tbody>
        ${rows.map(({ stream, group }) => {
          const key = keyOf(stream, group);
          const held = stream.partitions.length ? total(stream.partitions.map((one) => one.held)) : 0;
          return html`<tr key=${key}>
            <th scope="row"><bdi>${group.name}</bdi></th>
            <td data-label="Stream">${short(stream.name)}</td>
            <td class="number" data-label="Undelivered">${known(group.undelivered)}</td>
            <td class="number" data-label="Pending">${known(group.pending)}</td>
            <td class="number" data-label="Oldest">${duration(group.oldestPending)}</td>
            <td class="number" data-label="Held">${known(held)}</td>
            <td class="number" data-label="Retries">${known(group.retries)}</td>
            <td class="number" data-label="Handled">${rate(group.handledPerSecond)}</td>
            <td><${Line} values=${past.get(key) ?? []} what="Handled" /></td>
          </tr>`;
        })}
      </tbody>
    </table>`;
}

/** Streams that no group reads: changes, which pages follow, and dead letters. @param {{streams: readonly Stream[], past: Past}} props */
function Others({ streams, past }) {
  const rows = streams.filter(({ name }) => WITHOUT_GROUPS.includes(short(name)));
  return html`<h2 class="apart">Streams that no group reads</h2>
    <table class="sheet">
      <caption class="visually-hidden">Streams without groups</caption>
      <thead>
        <tr>
          <th scope="col">Stream</th>
          <th scope="col" class="number">Entries</th>
          <th scope="col" class="number">Added</th>
          <th scope="col"><span class="visually-hidden">Before</span></th>
        </tr>
      </thead>
      <tbody>
        ${rows.map(
          (one) => html`<tr key=${one.name}>
            <th scope="row">${short(one.name)}</th>
            <td class="number" data-label="Entries">${count(one.length)}</td>
            <td class="number" data-label="Added">${rate(one.perSecond)}</td>
            <td><${Line} values=${past.get(one.name) ?? []} what="Added" /></td>
          </tr>`,
        )}
      </tbody>
    </table>
    <p class="note">
      Events that could not be handled are in <a href=${address("/dead-letters")}>dead letters</a>.
    </p>`;
}
