DROP TABLE leads.admin_action;
