"""Random documents of rich text, from a grammar of the elements that a message may contain."""

from random import Random

WORDS = ("Hello", "you", "{{ first_name }}", "prices", "a&nbsp;b", "مرحبا", "👍", "x")
STYLES = ("", "color: #c00", "font-size: 20px", "text-align: center", "background-color: #ffe; padding: 4px")
MARKS = ("strong", "em", "u", "del", "b", "i", "s", "sub", "sup", "small", "code", "span", "a")
IMAGE = '<img src="https://shop.example/a.png" alt="A" width="20">'
MAX_DEPTH = 3


class DocumentGrammar:
    """Documents from one seed."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)  # noqa: S311 - test data

    def document(self) -> str:
        return "".join(self.block(0) for _ in range(self.random.randint(1, 4)))

    def style(self, *, always: bool = False) -> str:
        style = self.random.choice(STYLES[1:] if always else STYLES)
        return f' style="{style}"' if style else ""

    def text(self, depth: int) -> str:
        parts = [self.piece(depth) for _ in range(self.random.randint(1, 3))]
        return self.random.choice((" ", "")).join(parts) if depth else " ".join(parts)

    def piece(self, depth: int) -> str:
        kind = self.random.randint(0, 9)
        if kind < 5 and depth < MAX_DEPTH:
            return self.mark(self.random.choice(MARKS), depth)
        word = self.random.choice(WORDS)
        return {5: IMAGE, 6: f"<br>{word}"}.get(kind, word)

    def mark(self, tag: str, depth: int) -> str:
        if tag == "a":
            return f'<a href="https://shop.example/"{self.style()}>{self.text(MAX_DEPTH)}</a>'
        return f"<{tag}{self.style(always=True) if tag == 'span' else ''}>{self.text(depth + 1)}</{tag}>"

    def items(self, depth: int) -> str:
        tag = self.random.choice(("ul", "ol"))
        items = [
            f"<li{self.style()}>{self.text(1)}"
            f"{self.items(depth + 1) if depth < 2 and self.random.random() < 0.3 else ''}</li>"
            for _ in range(self.random.randint(1, 3))
        ]
        return f"<{tag}{self.style()}>{''.join(items)}</{tag}>"

    def block(self, depth: int) -> str:
        word = self.random.choice(WORDS)
        heading = f"h{self.random.randint(1, 6)}"
        kinds = (
            lambda: f"<p{self.style()}>{self.text(0)}</p>",
            lambda: f"<p>{self.text(0)}</p>",
            lambda: f"<{heading}{self.style()}>{self.text(2)}</{heading}>",
            lambda: self.items(0),
            lambda: f"<pre>let a;\n  {word}</pre>",
            lambda: f'<table width="100%"{self.style()}><tbody><tr><td>{self.text(2)}</td></tr></tbody></table>',
            lambda: "<hr>",
            lambda: f"<figure>{IMAGE}<figcaption>{word}</figcaption></figure>",
            lambda: self.box(depth),
            lambda: self.box(depth),
        )
        return self.random.choice(kinds)()

    def box(self, depth: int) -> str:
        if depth >= MAX_DEPTH:
            return f"<p>{self.text(0)}</p>"
        tag = self.random.choice(("div", "div", "blockquote", "center"))
        inner = "".join(self.block(depth + 1) for _ in range(self.random.randint(1, 3)))
        return f"<{tag}{self.style(always=True)}>{inner}</{tag}>"
