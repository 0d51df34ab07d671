// What may be done with a lead, said in messages: by key, by button, and by what ends later.

import { Problem } from "../api.js";
import { nameOf } from "../format.js";
import { address, navigate, place } from "../router.js";
import { changeLead, leadOf, summarise, writingOf } from "../store.js";
import { asProblem } from "../ui/states.js";
import { toast } from "../ui/toast.js";
import { signal } from "../vendor/signals-core.js";

/**
 * @typedef {import("../store.js").Lead} Lead
 * @typedef {object} Conflict a change that met another one
 * @property {Lead} before as it was when the change was made
 * @property {Record<string, any>} changes
 * @property {() => void} [done] called once it is settled
 */

/** @type {import("../vendor/signals-core.js").Signal<Conflict | null>} */
export const conflict = signal(/** @type {Conflict | null} */ (null));

/** What a create that failed later had been given, for another try. */
export const returned = signal(/** @type {{draft: Record<string, any>, problem: Problem} | null} */ (null));

const WORDS = {
  create: "created",
  update: "changed",
  delete: "deleted",
  summary: "summarised",
};

/** The address of a lead over the list that is shown. @param {string} id */
export function addressOf(id) {
  return address(`/leads/${id}`, new URLSearchParams(place.peek().search));
}

/**
 * Changes a lead's status at once, with a way back.
 * @param {string} id
 * @param {string} status
 */
export async function setStatus(id, status) {
  const before = leadOf(id).peek();
  if (!before || before.status === status) return;
  try {
    const after = await changeLead(before, { status });
    toast({
      text: after
        ? `${nameOf(before)} is ${status}`
        : `${nameOf(before)} will be ${status} once that can be stored`,
      time: 8000,
      ...(after && {
        action: {
          label: "Undo",
          run: () => void undo(after, before.status),
        },
      }),
    });
  } catch (error) {
    report(error, before, { status });
  }
}

/**
 * @param {Lead} after
 * @param {string} status
 */
async function undo(after, status) {
  const now = leadOf(after.id).peek() ?? after;
  try {
    await changeLead(now, { status });
  } catch (error) {
    report(error, now, { status });
  }
}

/**
 * Says why a change was refused, or shows what it met.
 * @param {unknown} error
 * @param {Lead} before
 * @param {Record<string, any>} changes
 */
export function report(error, before, changes) {
  const problem = asProblem(error);
  if (problem.code === "version-mismatch") {
    conflict.value = { before, changes };
    return;
  }
  const id = problem.requestId ? ` (request ${problem.requestId})` : "";
  toast({ kind: "error", text: `${nameOf(before)} was not changed: ${problem.detail}${id}` });
}

/** Summarises a lead, and says what its row cannot. @param {string} id @param {boolean} [anew] */
export async function summariseLead(id, anew = false) {
  const end = await summarise(id, anew);
  const lead = leadOf(id).peek();
  const name = lead ? nameOf(lead) : "The lead";
  if (end === "current") toast({ text: `${name}: the summary is still current` });
  if (end === "failed") {
    const problem = writingOf(id).peek()?.problem;
    toast({
      kind: "error",
      text: `${name} was not summarised: ${problem?.detail ?? ""}`,
      action: { label: "Retry", run: () => void summariseLead(id, anew) },
    });
  }
}

/**
 * Says how an operation ended that was accepted before.
 * @param {import("../store.js").Pending} pending
 * @param {import("../store.js").Operation} operation
 */
export function reportEnd(pending, operation) {
  const name = pending.name || "The lead";
  if (operation.status === "succeeded") {
    const leadId = operation.leadId ?? pending.leadId;
    toast({
      text: `${name} is ${WORDS[pending.kind]}`,
      ...(leadId &&
        pending.kind !== "delete" && {
          action: { label: "Open", run: () => navigate(addressOf(leadId)) },
        }),
    });
    return;
  }
  const { code = "operation-failed", detail, field, leadId } = operation.error ?? {};
  const problem = new Problem({
    code,
    detail: detail ?? (field ? `The ${field} is another lead's` : "It could not be carried out"),
    members: { field, leadId },
  });
  const isDraft = pending.kind === "create";
  toast({
    kind: "error",
    text: `${name} was not ${WORDS[pending.kind]}: ${problem.detail}`,
    ...(isDraft && {
      action: {
        label: "Edit and try again",
        run: () => {
          returned.value = { draft: pending.draft, problem };
          navigate(address("/leads/new", new URLSearchParams(place.peek().search)));
        },
      },
    }),
  });
}
