DROP INDEX leads.event_recorded;
DROP TABLE leads.admin_action;
