-- A trigger keeps the text that leads are searched by, in place of a generated column: so it can be
-- filled, and computed otherwise, in chunks while services run. Where it was generated its values stay
-- as they are; nothing is rewritten.

-- It begins with a space, so that every word does: short words are looked for at beginnings.
CREATE FUNCTION leads.search_text(
    first_name text, last_name text, email text, city text, country text
) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN ' ' || leads.folded(first_name || ' ' || last_name || ' ' || email
        || ' ' || coalesce(city, '') || ' ' || coalesce(country, ''));

CREATE FUNCTION leads.set_search_text() RETURNS trigger
    LANGUAGE plpgsql
    AS $$
    BEGIN
        NEW.search_text := leads.search_text(
            NEW.first_name, NEW.last_name, NEW.email, NEW.city, NEW.country);
        RETURN NEW;
    END $$;

-- The trigger goes on with what it did.
-- squawk-ignore ban-drop-generated-expression
ALTER TABLE leads.lead ALTER COLUMN search_text DROP EXPRESSION IF EXISTS;

CREATE TRIGGER set_search_text
    BEFORE INSERT OR UPDATE OF first_name, last_name, email, city, country ON leads.lead
    FOR EACH ROW EXECUTE FUNCTION leads.set_search_text();
