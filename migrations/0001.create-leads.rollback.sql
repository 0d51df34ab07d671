DROP TABLE leads.sync_run;
DROP TABLE leads.dead_letter;
DROP TABLE leads.event;
DROP TABLE leads.lead;
DROP SCHEMA leads;
