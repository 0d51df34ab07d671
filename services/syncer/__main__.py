"""Start a syncer: `python -m services.syncer`."""

from shared.lifecycle import start_service

if __name__ == "__main__":
    start_service("services.syncer.app")
