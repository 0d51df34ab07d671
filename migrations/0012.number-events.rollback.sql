ALTER TABLE leads.event DROP COLUMN position;
