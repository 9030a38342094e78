"""The training text as rows of ids: conversations, bare stories, and (where a folder is given) plain old tales."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

from stories import story
from talk import conversation
from tokenizer import Tokenizer

# How much what is not the model's own part of a conversation counts in the loss.
HEARD, READ = 0.1, 0.5


class Corpus:
    """A seeded, endless stream of documents. The same seed and tales give the same documents."""

    def __init__(self, seed: int, tales: Path | None) -> None:
        self.random = Random(seed)
        self.tales = [p.read_text(encoding="utf-8") for p in sorted(tales.glob("*.txt"))] if tales else []

    def plain(self) -> str:
        """A bare story, or a passage of an old tale."""
        if not self.tales or self.random.random() < 0.6:
            return story(self.random)
        tale = self.random.choice(self.tales)
        at = self.random.randrange(max(1, len(tale) - 800))
        return " ".join(tale[at : at + 800].split(" ")[1:-1])

    def text(self) -> str:
        """A document as text, for training the tokenizer."""
        if self.random.random() < 0.1:
            return self.plain()
        return "\n".join(text for _, text in conversation(self.random))

    def document(self, tokenizer: Tokenizer) -> tuple[list[int], list[float]]:
        """A document as ids, and each id's weight in the loss."""
        if self.random.random() < 0.08:
            ids = tokenizer.encode(self.plain()) + [tokenizer.document]
            return ids, [READ] * len(ids)
        ids: list[int] = []
        weights: list[float] = []
        for role, text in conversation(self.random):
            head = [tokenizer.start, *tokenizer.encode(role + "\n")]
            body = [*tokenizer.encode(text), tokenizer.end]
            ids += head + body + tokenizer.encode("\n")
            weights += [HEARD] * len(head) + [1.0 if role == "assistant" else HEARD] * len(body) + [HEARD]
        return ids, weights

    def rows(self, tokenizer: Tokenizer, length: int) -> Iterator[tuple[list[int], list[float]]]:
        """Rows of `length` ids. Each begins with the beginning of a document and is filled up with whole ones but the last."""
        while True:
            ids: list[int] = []
            weights: list[float] = []
            while len(ids) < length:
                more, weigh = self.document(tokenizer)
                ids += more
                weights += weigh
            yield ids[:length], weights[:length]
