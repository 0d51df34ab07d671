"""Start an API process: `python -m services.api`."""

from services.api.app import main
from shared.lifecycle import run_service

if __name__ == "__main__":
    run_service(main)
