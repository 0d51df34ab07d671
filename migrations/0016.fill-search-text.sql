-- transactional: false

-- The text of leads that have none yet, and of those whose letters are folded otherwise since 0013:
-- its value and their places in indexes. Nothing that clients see of a lead changes.
UPDATE leads.lead SET search_text = leads.search_text(first_name, last_name, email, city, country)
WHERE id BETWEEN current_setting('chunk.first')::uuid AND current_setting('chunk.last')::uuid
  AND search_text IS DISTINCT FROM
      leads.search_text(first_name, last_name, email, city, country);

-- With a constraint that is valid, SET NOT NULL has nothing to look at. What is dropped is from this
-- migration, or from an earlier try of it.
-- squawk-ignore ban-drop-constraint
ALTER TABLE leads.lead DROP CONSTRAINT IF EXISTS lead_has_search_text;
ALTER TABLE leads.lead ADD CONSTRAINT lead_has_search_text CHECK (search_text IS NOT NULL) NOT VALID;
ALTER TABLE leads.lead VALIDATE CONSTRAINT lead_has_search_text;
-- squawk-ignore prefer-robust-stmts
ALTER TABLE leads.lead ALTER COLUMN search_text SET NOT NULL;
-- squawk-ignore ban-drop-constraint
ALTER TABLE leads.lead DROP CONSTRAINT IF EXISTS lead_has_search_text;
