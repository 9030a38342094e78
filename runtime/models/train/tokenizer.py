"""Byte-level byte-pair encoding: trained here, written as a `gpt2` vocabulary with the `gpt-2` pre-tokeniser.

Ids: 256 bytes, then merges in order of rank, then the control tokens. Merges never join digits, so that numbers are
spelled one digit at a time and sums can be learnt.
"""

import json
import re
from collections import Counter, defaultdict
from pathlib import Path

# GPT-2's pattern. In Python's `re` a letter is a word character that is neither digit nor underscore.
PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d| ?[^\W\d_]+| ?\d+| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+")
START, END, DOCUMENT = "<|im_start|>", "<|im_end|>", "<|endoftext|>"
CONTROL = (START, END, DOCUMENT)


def byte_characters() -> list[str]:
    """GPT-2's printable stand-in for each byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    table, spare = [""] * 256, 256
    for byte in range(256):
        if byte in printable:
            table[byte] = chr(byte)
        else:
            table[byte], spare = chr(spare), spare + 1
    return table


BYTES = byte_characters()


def train_merges(texts, count: int) -> list[tuple[str, str]]:
    """The `count` most frequent merges, each chosen after the ones before; ties go to the lesser pair."""
    pieces = Counter(p for text in texts for p in PIECES.findall(text))
    words = [([BYTES[b] for b in piece.encode()], n) for piece, n in sorted(pieces.items()) if not any(c.isdigit() for c in piece)]
    totals, where = Counter(), defaultdict(set)
    for index, (symbols, n) in enumerate(words):
        for pair in zip(symbols, symbols[1:]):
            totals[pair] += n
            where[pair].add(index)
    merges = []
    while len(merges) < count and totals:
        best = max(totals, key=lambda pair: (totals[pair], pair))
        if totals[best] < 2:
            break
        merges.append(best)
        for index in where.pop(best):
            symbols, n = words[index]
            for pair in zip(symbols, symbols[1:]):
                totals[pair] -= n
            merged, i = [], 0
            while i < len(symbols):
                if tuple(symbols[i : i + 2]) == best:
                    merged.append(symbols[i] + symbols[i + 1])
                    i += 2
                else:
                    merged.append(symbols[i])
                    i += 1
            symbols[:] = merged
            for pair in zip(symbols, symbols[1:]):
                totals[pair] += n
                where[pair].add(index)
        totals += Counter()  # drops what fell to zero
    return merges


class Tokenizer:
    """Text to ids and back."""

    def __init__(self, merges: list[tuple[str, str]]) -> None:
        self.merges = merges
        self.tokens = BYTES + [a + b for a, b in merges] + list(CONTROL)
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.rank = {pair: i for i, pair in enumerate(merges)}
        self.start, self.end, self.document = (self.ids[t] for t in CONTROL)
        self.known: dict[str, list[int]] = {}

    def piece(self, piece: str) -> list[int]:
        """Ids of one piece, remembered."""
        if piece not in self.known:
            symbols = [BYTES[b] for b in piece.encode()]
            while len(symbols) > 1:
                at = min(range(len(symbols) - 1), key=lambda i: self.rank.get((symbols[i], symbols[i + 1]), len(self.rank)))
                if (symbols[at], symbols[at + 1]) not in self.rank:
                    break
                symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
            self.known[piece] = [self.ids[s] for s in symbols]
        return self.known[piece]

    def encode(self, text: str) -> list[int]:
        """Ids of plain text; control tokens are not read from it."""
        return [i for piece in PIECES.findall(text) for i in self.piece(piece)]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self.merges, ensure_ascii=False))

    @staticmethod
    def load(path: Path) -> "Tokenizer":
        return Tokenizer([tuple(pair) for pair in json.loads(path.read_text())])
