DROP TABLE leads.tombstone;
ALTER TABLE leads.lead DROP COLUMN edited_fields;
