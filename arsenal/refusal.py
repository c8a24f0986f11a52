"""What arsenal says when it cannot do what is asked: one line, in a terminal and in a notebook."""


class Refusal(Exception):
    """An error whose message says what, what is allowed and what came, so that no traceback is needed."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in the traceback's place."""
        return [f"{type(self).__name__}: {self}"]
