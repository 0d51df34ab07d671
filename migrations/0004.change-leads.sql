-- Leads can be changed and deleted: which fields a person edited, and what remains of a lead
-- that was deleted.

-- Names of columns. What a person edited no source overwrites.
ALTER TABLE leads.lead ADD COLUMN edited_fields text[] NOT NULL DEFAULT '{}';

-- A lead that was deleted stays so: no sync, import or replay brings it back. The keys are
-- kept as SHA-256, and go when a person makes a lead under them anew; the id stays.
CREATE TABLE leads.tombstone (
    lead_id          uuid        PRIMARY KEY,
    external_id_hash bytea,
    email_key_hash   bytea,
    version          bigint      NOT NULL,
    deleted_at       timestamptz NOT NULL
);

CREATE INDEX tombstone_external_id ON leads.tombstone (external_id_hash);
CREATE INDEX tombstone_email_key ON leads.tombstone (email_key_hash);
