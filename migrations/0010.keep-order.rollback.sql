DROP FUNCTION leads.fence(text, integer, uuid, integer[], text[]);
DROP TABLE leads.held_entry;
DROP TABLE leads.partition;
DROP TABLE leads.member;
DROP TABLE leads.layout;
ALTER TABLE leads.event DROP COLUMN changed, DROP COLUMN accepted;
DROP FUNCTION leads.partition_key(leads.lead);
ALTER TABLE leads.lead DROP COLUMN partition_key;
