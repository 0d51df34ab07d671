"""`python -m devstack.standins.supabase_auth`."""

from devstack.standins.serving import serve, settings_or_exit
from devstack.standins.supabase_auth.app import create_app
from devstack.standins.supabase_auth.settings import SupabaseAuthSettings

if __name__ == "__main__":
    settings = settings_or_exit(SupabaseAuthSettings)
    serve("Supabase Auth", create_app(settings), listen=settings)
