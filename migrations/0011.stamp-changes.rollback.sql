DROP FUNCTION leads.stamp();
ALTER TABLE leads.event DROP COLUMN applied_at;
