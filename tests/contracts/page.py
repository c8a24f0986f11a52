"""A page as tests read it."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """What a page holds: its text, its tags, its addresses; and whether every tag that opens closes."""

    VOID = frozenset(("meta", "link", "img", "source", "br"))

    def __init__(self, path):
        """Read the page."""
        super().__init__()
        self.words, self.tags, self.addresses, self.open = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "srcset", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)
