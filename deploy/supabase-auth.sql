-- What Supabase's auth server needs of a PostgreSQL that is not Supabase's: run by compose.yaml before
-- each of its starts, as a superuser. Its tables it makes itself.
\set ON_ERROR_STOP on
\getenv password PGPASSWORD

-- One of its migrations grants rights to this role, which there is on every server of Supabase's.
SELECT 'CREATE ROLE postgres NOLOGIN'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'postgres') \gexec
SELECT 'CREATE ROLE supabase_auth_admin LOGIN NOINHERIT CREATEROLE'
WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'supabase_auth_admin') \gexec

ALTER ROLE supabase_auth_admin PASSWORD :'password';
-- Its statements name no schema.
ALTER ROLE supabase_auth_admin SET search_path = auth;
CREATE SCHEMA IF NOT EXISTS auth AUTHORIZATION supabase_auth_admin;
SELECT format('GRANT CREATE ON DATABASE %I TO supabase_auth_admin', current_database()) \gexec
