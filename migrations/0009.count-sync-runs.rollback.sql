DROP VIEW leads.sync_report;
ALTER TABLE leads.sync_run DROP COLUMN event_ids, DROP COLUMN counted_until;
