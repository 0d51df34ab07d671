"""Start a summarizer: `python -m services.summarizer`."""

from shared.lifecycle import start_service

if __name__ == "__main__":
    start_service("services.summarizer.app")
