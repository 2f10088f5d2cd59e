"""A page read as a browser would: nesting, ids, words."""

import html.parser

VOID = {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source"}


class Reader(html.parser.HTMLParser):
    """Checks nesting while reading; collects ids, attributes and visible text."""

    def __init__(self, source):
        super().__init__()
        self.open, self.ids, self.attributes, self.words, self.tags = [], [], [], [], []
        self.anchors = []
        self.feed(source)
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "a":
            self.anchors.append(attrs)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data):
        if self.open[-1:] != ["script"]:
            self.words.append(data)

    def links(self):
        """The attributes of every link, as one dict each."""
        return [dict(attrs) for attrs in self.anchors]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def files(folder):
    """Bytes of everything a build writes, by relative path."""
    kept = [p for p in folder.rglob("*") if p.is_file()
            and p.relative_to(folder).parts[0] in ("tables", "figures", "report.html",
                                                   "summary.csv")]
    return {str(p.relative_to(folder)): p.read_bytes() for p in kept}
