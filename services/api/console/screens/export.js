// Files of leads: a list as the API writes it, or a selection, made here.

import { Problem, send } from "../api.js";
import { line } from "../csv.js";
import { size } from "../format.js";
import { leadOf, readList } from "../store.js";
import { asProblem } from "../ui/states.js";
import { toast } from "../ui/toast.js";
import { filtersOf } from "./lead-list.js";

/** @typedef {import("../store.js").Lead} Lead */

const TOLD_EVERY = 4 * 1024 * 1024;

/**
 * Saves bytes as a file of this name.
 * @param {BlobPart[]} parts
 * @param {string} name
 * @param {string} type
 */
export function save(parts, name, type) {
  const url = URL.createObjectURL(new Blob(parts, { type }));
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/**
 * Exports all leads that the filters leave, while one goes on working.
 * @param {URLSearchParams} query
 * @param {"csv" | "ndjson"} format
 */
export async function exportList(query, format) {
  const stop = new AbortController();
  const asked = filtersOf(query);
  asked.set("format", format);
  if (format === "csv") asked.set("bom", "true");
  const cancel = { label: "Cancel", run: () => stop.abort() };
  let close = toast({ text: "Exporting…", time: 600_000, action: cancel });
  try {
    const response = await send("GET", "/leads/export", { query: asked, signal: stop.signal });
    const named = /filename="([^"]+)"/.exec(response.headers.get("Content-Disposition") ?? "");
    const { parts, total } = await gather(response, stop.signal, (done) => {
      close();
      close = toast({ text: `Exporting: ${size(done)}`, time: 600_000, action: cancel });
    });
    save(parts, named?.[1] ?? `leads.${format}`, response.headers.get("Content-Type") ?? "");
    close();
    toast({ text: `Exported ${size(total)}` });
  } catch (error) {
    close();
    if (stop.signal.aborted) return;
    const problem = error instanceof Problem ? error : asProblem(new Error("The file broke off"));
    toast({
      kind: "error",
      text: `The export failed: ${problem.detail}`,
      action: { label: "Retry", run: () => void exportList(query, format) },
    });
  }
}

/**
 * @param {Response} response
 * @param {AbortSignal} stop
 * @param {(done: number) => void} tell
 */
async function gather(response, stop, tell) {
  /** @type {Uint8Array<ArrayBuffer>[]} */
  const parts = [];
  let [total, told] = [0, 0];
  const reader = response.body?.getReader();
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true, value: undefined };
    if (stop.aborted) {
      void reader?.cancel();
      throw new DOMException("Cancelled", "AbortError");
    }
    if (done || !value) return { parts, total };
    parts.push(/** @type {Uint8Array<ArrayBuffer>} */ (value));
    total += value.byteLength;
    if (total - told >= TOLD_EVERY) {
      told = total;
      tell(total);
    }
  }
}

/** Exports leads of a selection as CSV. @param {readonly string[]} ids */
export async function exportSelection(ids) {
  await readList(ids.filter((id) => !leadOf(id).peek()));
  const leads = ids.flatMap((id) => leadOf(id).peek() ?? []);
  const columns = /** @type {(keyof Lead & string)[]} */ (Object.keys(leads[0] ?? {}));
  const lines = leads.map((lead) =>
    line(columns.map((name) => (lead[name] === null ? "" : String(lead[name])))),
  );
  const day = new Date().toISOString().slice(0, 10);
  save(["\uFEFF", line(columns), ...lines], `leads-${day}.csv`, "text/csv");
}

