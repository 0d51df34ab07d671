"""Leads as their archived events made them: what replays bring back."""
