DROP INDEX leads.dead_letter_subject;
DROP INDEX leads.event_in_the_way;
DROP TABLE leads.tombstone;
ALTER TABLE leads.lead DROP COLUMN edited_fields;
