// Uses the API by the types that openapi-typescript makes of its document: from sign-up to deletion.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type Lead = components["schemas"]["Lead"];

const baseUrl = process.env["API_URL"];
assert(baseUrl);
const api = createClient<paths>({ baseUrl });
const account = { email: "typescript@example.com", password: "correct horse battery" };

const signedUp = await api.POST("/authentication/signup", { body: account });
assert.equal(signedUp.data?.email, account.email);
const session = await api.POST("/authentication/login", { body: account });
assert(session.data);
const token = session.data.access_token;
api.use({
  onRequest({ request }) {
    request.headers.set("Authorization", `Bearer ${token}`);
  },
});

const given = { firstName: "Ada", lastName: "Lovelace", email: "ada+typescript@example.com" };
const created = await api.POST("/leads", { body: given });
assert(created.data && "version" in created.data, JSON.stringify(created.error));
const lead: Lead = created.data;
const path = { id: lead.id };

const again = await api.POST("/leads", { body: given });
assert(again.error && again.error.code === "duplicate-lead");
assert.equal(again.error.leadId, lead.id);

const listed = await api.GET("/leads", { params: { query: { email: given.email, limit: 10 } } });
const leads: Lead[] = listed.data ?? [];
assert.deepEqual(leads, [lead]);

const changed = await api.PATCH("/leads/{id}", {
  params: { path, header: { "If-Match": `"${lead.version}"` } },
  body: { city: "Paris", state: null, status: "contacted" },
});
assert(changed.data && "version" in changed.data, JSON.stringify(changed.error));
assert.deepEqual([changed.data.city, changed.data.version], ["Paris", 2]);

const summarised = await api.POST("/leads/{id}/summary", { params: { path } });
assert(summarised.data && "version" in summarised.data, JSON.stringify(summarised.error));
const summary: string | null = summarised.data.summary;
assert(summary);

const batch = await api.POST("/leads/batch", { body: { leads: [given] } });
assert.equal(batch.data?.results[0]?.error?.code, "duplicate-lead");

const deleted = await api.DELETE("/leads/{id}", { params: { path } });
assert.equal(deleted.response.status, 204);
const gone = await api.GET("/leads/{id}", { params: { path } });
assert.equal(gone.error?.code, "lead-not-found");
console.log("TypeScript: a client by openapi-typescript has done everything");
