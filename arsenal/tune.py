"""`python -m arsenal.tune +experiment=NAME 'space={KEY: ...}' search=NAME key=value ...`: search a space of runs."""

from arsenal.cli import report_errors
from arsenal.config import Config, main


def tune(config: Config) -> None:
    """Begin, resume or extend the sweep, and say what came of it: the best trials, their run folders, the report."""
    from arsenal.search.tuning import tune

    found = tune(config, lambda text: print(text, flush=True))
    for line in found.summary():
        print(line)


if __name__ == "__main__":
    main(tune, "arsenal.tune", report_errors, "tune")
