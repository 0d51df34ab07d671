"""Start an API process: `python -m services.api`."""

from shared.lifecycle import start_service

if __name__ == "__main__":
    start_service("services.api.app")
