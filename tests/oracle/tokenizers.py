"""llama.cpp's tokeniser on vocabularies made for the purpose.

For each name: writes a vocab-only GGUF and strings, tokenises the strings with llama.cpp, and prints the name when its files are there:
NAME.gguf, NAME.strings (per string: length, bytes), NAME.ids (per string: count, ids), all numbers u32 little-endian.

The BPE is trained on pieces that no pre-tokeniser cut, so that it has merges across every border: a border in the wrong place
changes ids.

usage: tokenizers.py TEXT_FOLDER OUT_FOLDER STRINGS SEED NAME...
NAME is a pre-tokeniser's, or `spm`, `spm-no-prefix`, `bert`.
"""

import ctypes
import pathlib
import random
import re
import struct
import sys
import unicodedata
from collections import Counter

import gguf
import llama_cpp

# Where llama.cpp only comes near the pattern of the model's own tokenizer.json, strings stay where both agree.
# It tells upper from lower case only in ASCII, and leaves marks out of words:
ASCII_CASE = {"tekken", "gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2", "granite-embed-multi-97m"}
# It doesn't tell case at all:
NO_CASE = {"youtu", "kimi-k2", "tiny_aya", "cohere2moe"}
# Its numbers of these are ASCII's:
ASCII_DIGITS = {"superbpe"}
# It leaves what stands before a number in one piece with the number's first digits:
NUMBERS_UNCUT = {"tiny_aya", "cohere2moe", "afmoe"}

SPECIAL = ["<|im_start|>", "<|im_end|>", "<s>", "<tool>"]
USER_DEFINED = ["<user>", "  \n", "[[x]]", "user>x"]


def alphabets():
    ranges = {
        "lower": "az", "upper": "AZ", "digit": "09", "ascii": "!~", "latin": "ÀÿĀž", "greek": "Αω", "cyrillic": "Ая",
        "han": "一与龠龥", "kana": "ぁゖァヺ", "hangul": "가각", "arabic": "اي٠٩", "devanagari": "अहािीु०९", "thai": "กฮ",
        "fraction": "¼¾⅐⅞Ⅰⅿ²³", "symbol": "€€™™∀∏→⇿©©", "punctuation": "‐‧、。！／「】", "emoji": "😀😏🦀🦙",
        "mark": "̀ͯ", "format": "\u200b\u200f",
    }
    sets = {"space": list(" \u00a0\u3000\u2003\u0085\u2028\t\v\f"), "newline": ["\n", "\r", "\r\n"]}
    for name, text in ranges.items():
        pairs = zip(text[0::2], text[1::2])
        sets[name] = [chr(c) for a, b in pairs for c in range(ord(a), ord(b) + 1) if unicodedata.category(chr(c)) != "Cn"]
    return sets


SETS = alphabets()
CONTRACTIONS = ["'s", "'T", "'re", "'VE", "'m", "'lL", "'d", "'x", "’s"]


class Strings:
    def __init__(self, folder, seed, name):
        self.random = random.Random(f"{seed} {name}")
        texts = sorted(pathlib.Path(folder).rglob("*.txt"))
        self.tales = [t.read_text(encoding="utf-8", errors="ignore") for t in texts[:12]] or ["once upon a time "]
        self.keep = lambda c: True
        ascii_only = lambda c: ord(c) < 128
        if name in ASCII_CASE | NO_CASE:
            case = {"Lu", "Ll", "Lt"}
            marks = {"Mn", "Mc", "Me"}
            self.keep = lambda c: unicodedata.category(c) not in marks and (ascii_only(c) or unicodedata.category(c) not in case)
        if name == "bert":
            # BERT drops \v, \f and NEL and keeps spacing marks; llama.cpp splits at the first and drops the others. Its "▁" begins words.
            self.keep = lambda c: c not in "\v\f\x85▁" and unicodedata.category(c) not in {"Mc", "Me"}
        if name == "deepseek-llm":
            # A punctuation mark of its pattern, which llama.cpp reads as white space.
            self.keep = lambda c: c != "\u3000"
        if name in ASCII_DIGITS:
            self.keep = lambda c: ascii_only(c) or not unicodedata.category(c).startswith("N")
        self.lower = name in NO_CASE
        self.numbers_uncut = name in NUMBERS_UNCUT

    def piece(self):
        r = self.random
        kind = r.randrange(12)
        if kind < 3:
            tale = r.choice(self.tales)
            start = r.randrange(len(tale))
            return tale[start : start + r.randrange(1, 16)]
        if kind == 3:
            return " " * r.randrange(1, 6) + r.choice(["", "\n", "x"])
        if kind == 4:
            return r.choice(CONTRACTIONS)
        if kind == 5:
            return "".join(r.choice("0123456789") for _ in range(r.randrange(1, 9)))
        if kind == 6:
            return r.choice(SPECIAL + USER_DEFINED + ["<|im_", "user", "[[", "▁"])
        letters = SETS[r.choice(list(SETS))]
        return "".join(r.choice(letters) for _ in range(r.randrange(1, 5)))

    def next(self):
        text = "".join(self.piece() for _ in range(self.random.randrange(1, 9)))
        if self.lower:
            text = text.lower()
        text = "".join(c for c in text if self.keep(c))
        return re.sub(r"[\W_]+(?=[\d¼-¾²³¹⅐-ⅿ])", "", text) if self.numbers_uncut else text


def byte_alphabet():
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def train(sequences, merges):
    """The most frequent pair, again and again; returns pairs in the order they were merged."""
    sequences = [list(s) for s in sequences]
    done = []
    for _ in range(merges):
        pairs = Counter(pair for s in sequences for pair in zip(s, s[1:]))
        if not pairs:
            break
        left, right = min(pairs, key=lambda p: (-pairs[p], p))
        done.append((left, right))
        for s in sequences:
            i = 0
            while i + 1 < len(s):
                if s[i] == left and s[i + 1] == right:
                    s[i : i + 2] = [left + right]
                i += 1
    return done


def training_texts(strings, n):
    return [text for text in (strings.next()[:24] for _ in range(n)) if text]


def add(tokens, types, name, kind):
    if name not in tokens:
        tokens[name] = len(tokens)
        types.append(kind)


def write_bpe(path, name, strings, cache):
    escaped = name in {"gemma4", "granite-embed-multi-311m", "sarvam-moe"}
    if escaped not in cache:
        table = byte_alphabet()
        texts = training_texts(strings, 1500)
        spelled = [t.replace(" ", "▁") for t in texts] if escaped else ["".join(table[b] for b in t.encode()) for t in texts]
        cache[escaped] = (train(spelled, 500), sorted({c for s in spelled for c in s}) if escaped else list(table.values()))
    merges, characters = cache[escaped]
    tokens, types = {}, []
    if escaped:
        for b in range(256):
            add(tokens, types, f"<0x{b:02X}>", 6)
    for c in characters:
        add(tokens, types, c, 1)
    kept = []
    for left, right in merges:
        # A newline-made token of a pre-tokeniser that cuts at lines would never be met.
        add(tokens, types, left + right, 1)
        kept.append((left, right))
    for text in SPECIAL:
        add(tokens, types, text, 3)
    for text in USER_DEFINED:
        add(tokens, types, text, 4)
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre(name)
    w.add_token_list(list(tokens))
    w.add_token_types(types)
    w.add_token_merges([f"{left} {right}" for left, right in kept])
    w.add_bos_token_id(tokens["<s>"])
    w.add_eos_token_id(tokens["<|im_end|>"])
    finish(w)


def write_spm(path, name, strings, cache):
    if "spm" not in cache:
        texts = [t.replace(" ", "▁") for t in training_texts(strings, 1500)]
        cache["spm"] = (train(texts, 500), [c for c, n in Counter("".join(texts)).most_common(220)])
    merges, characters = cache["spm"]
    tokens, types, scores = {}, [], []

    def push(text, kind, score):
        if text not in tokens:
            add(tokens, types, text, kind)
            scores.append(score)

    for text, kind in [("<unk>", 2), ("<s>", 3), ("</s>", 3)]:
        push(text, kind, 0.0)
    for b in range(256):
        push(f"<0x{b:02X}>", 6, 0.0)
    known = set(characters)
    rank = 0
    for left, right in merges:
        # llama.cpp makes control tokens of plain text where pieces lead there; Firecrest never does. None lead there.
        if left in known and right in known and "<" not in left + right:
            known.add(left + right)
            push(left + right, 1, -float(rank))
            rank += 1
    for c in characters:
        push(c, 1, -float(rank))
        rank += 1
    for text in SPECIAL:
        push(text, 3, 0.0)
    for text in USER_DEFINED:
        push(text, 4, 0.0)
    w = gguf.GGUFWriter(path, "llama")
    w.add_tokenizer_model("llama")
    w.add_token_list(list(tokens))
    w.add_token_types(types)
    w.add_token_scores(scores)
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    w.add_unk_token_id(0)
    if name == "spm-no-prefix":
        w.add_add_space_prefix(False)
    finish(w)


def write_bert(path, name, strings, cache):
    words = Counter(word.lower() for tale in strings.tales for word in tale.split() if word.isalpha())
    tokens, types = {}, []
    for text in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]:
        add(tokens, types, text, 3)
    for word, _ in words.most_common(300):
        add(tokens, types, "▁" + word, 1)
    for letters in SETS.values():
        for c in letters:
            if not c.isspace():
                add(tokens, types, "▁" + c, 1)
                if len(tokens) % 3:
                    add(tokens, types, c, 1)
    for word, _ in words.most_common(200):
        for end in (word[1:], word[-3:]):
            if end:
                add(tokens, types, end, 1)
    w = gguf.GGUFWriter(path, "bert")
    w.add_tokenizer_model("bert")
    w.add_token_list(list(tokens))
    w.add_token_types(types)
    w.add_unk_token_id(1)
    w.add_bos_token_id(2)
    w.add_sep_token_id(3)
    w.add_pad_token_id(0)
    w.add_mask_token_id(4)
    finish(w)


def finish(writer):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class LlamaCpp:
    def __init__(self, path):
        parameters = llama_cpp.llama_model_default_params()
        parameters.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self.model:
            sys.exit(f"llama.cpp refused {path}")
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.room = (llama_cpp.llama_token * 8192)()

    def tokenize(self, text, add_special, parse_special):
        n = llama_cpp.llama_tokenize(self.vocab, text, len(text), self.room, len(self.room), add_special, parse_special)
        if n < 0:
            sys.exit("a string has too many tokens")
        return self.room[:n]

    def close(self):
        llama_cpp.llama_model_free(self.model)


def main():
    folder, out, count, seed, *names = sys.argv[1:]
    out = pathlib.Path(out)
    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    cache = {}
    for name in names:
        strings = Strings(folder, seed, name)
        write = {"bert": write_bert, "spm": write_spm, "spm-no-prefix": write_spm}.get(name, write_bpe)
        path = out / f"{name}.gguf"
        write(str(path), name, strings, cache)
        oracle = LlamaCpp(path)
        with open(out / f"{name}.strings", "wb") as texts, open(out / f"{name}.ids", "wb") as ids:
            for i in range(int(count)):
                text = strings.next().encode()
                found = oracle.tokenize(text, i % 2 == 0, i % 4 < 2)
                texts.write(struct.pack("<I", len(text)) + text)
                ids.write(struct.pack(f"<I{len(found)}I", len(found), *found))
        oracle.close()
        print(name, flush=True)


main()
