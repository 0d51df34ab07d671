"""Start a summarizer: `python -m services.summarizer`."""

from services.summarizer.app import main
from shared.lifecycle import run_service

if __name__ == "__main__":
    run_service(main)
