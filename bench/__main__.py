"""`bench`, and `python -m bench`: signals are heard before anything is imported that takes a while."""

from bench.interruption import ending_on_signals


def main() -> None:
    """Entry point."""
    with ending_on_signals():
        from bench.cli import main as run

        run()


if __name__ == "__main__":
    main()
