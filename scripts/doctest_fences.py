"""A Griffe extension for the API pages: examples in docstrings become blocks of code, also where no blank line is before them."""

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)>>> .*(?:\n\1(?! *$).+)*", re.MULTILINE)


class Fences(griffe.Extension):
    """Fences around `>>>` and what follows it, up to the next empty line."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Change the docstring of everything that is collected."""
        if obj.docstring is not None:
            obj.docstring.value = EXAMPLE.sub(r"\n\1```pycon\n\g<0>\n\1```", obj.docstring.value)
