"""Supabase Auth under `/auth/v1`: password sign-up and log-in, refresh, log-out and the admin API.

The data directory keeps the accounts, the signing key and the project's two API keys; the files
`service_key` and `anon_key` hold what goes into `SUPABASE_KEY`. Users confirm their e-mail address
by signing up, as no mail is sent; with `STANDIN_AUTOCONFIRM=false` only the admin API confirms.

`POST /_control/keys/add-standby`, `/rotate` and `/revoke` change the signing keys, as the owner of
a project does in the dashboard.
"""

from devstack.standins.supabase_auth.app import create_app
from devstack.standins.supabase_auth.settings import SupabaseAuthSettings

__all__ = ["SupabaseAuthSettings", "create_app"]
