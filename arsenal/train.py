"""`python -m arsenal.train +experiment=NAME key=value ...`: train in the run folder that the config names."""

from arsenal.cli import report_errors
from arsenal.config import Config, instantiate, main


def train(config: Config) -> None:
    """Begin, resume or extend the run, and say what came of it; with `preflight=true` say what it would be."""
    if config.settings.preflight:
        from arsenal.preflight import preflight

        for line in preflight(config):
            print(line)
        return
    from arsenal.road import fit
    from arsenal.runs.terminal import terminal

    def here(config: Config) -> None:
        with terminal(config.settings.run.progress) as listener:
            fit(config, listener=listener)

    instantiate(config.settings.launcher, "launcher").launch(config, here)


if __name__ == "__main__":
    main(train, "arsenal.train", report_errors)
