DROP TABLE leads.summary;
