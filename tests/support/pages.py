"""Pages of reports, read back."""

from html.parser import HTMLParser

PNG = b"\x89PNG\r\n\x1a\n"
VOID = {"meta", "img", "br", "hr"}


class Reader(HTMLParser):
    """Parser of the tags in order, each closed if necessary, and of the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data.strip())


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader
