"""`arsenal study +experiment=NAME splits=NAME 'grid={KEY: [...]}'`: candidates over many splits, with intervals and tests."""

from arsenal.config import Config


def study(config: Config) -> None:
    """Begin, resume or extend the study, and say what came of it: the best candidates, how sure that is, the page."""
    from arsenal.search.studies import study

    found = study(config, lambda text: print(text, flush=True))
    for line in found.summary():
        print(line)
