"""Who is calling: Supabase's accounts and the tokens they are given."""
