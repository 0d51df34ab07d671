"""Start a syncer: `python -m services.syncer`."""

from services.syncer.app import main
from shared.lifecycle import run_service

if __name__ == "__main__":
    run_service(main)
