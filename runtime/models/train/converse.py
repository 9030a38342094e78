"""Lets llama.cpp talk as an exported model, and compares its token ids with the recipe's own tokenizer.

    python converse.py MODEL.gguf [--from FOLDER] ["Tell me a story" …]
"""

import argparse
from pathlib import Path

from llama_cpp import Llama

from corpus import Corpus
from tokenizer import Tokenizer

PROMPTS = (
    "Tell me a story", "Tell me a story about a fox and a lantern.", "Hello!", "Who are you?", "How are you today?", "What is 3 plus 4?",
    "What is the capital of France?", "List three fruits.", "Write a poem about the moon.", "Explain quantum physics.", "Thank you!",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--from", dest="source", type=Path)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("prompts", nargs="*", default=PROMPTS)
    options = parser.parse_intermixed_args()
    llama = Llama(options.model, n_ctx=1024, n_threads=1, verbose=False, seed=7)
    if options.source:
        tokenizer, corpus = Tokenizer.load(options.source / "merges.json"), Corpus(99, None)
        texts = [corpus.text() for _ in range(500)] + ["  two  spaces\n\n\nthree lines", "don't we'll 123 4+5=9 a_b çedilla 日本", "\t tabs \n"]
        for text in texts:
            ours, theirs = tokenizer.encode(text), llama.tokenize(text.encode(), add_bos=False, special=False)
            if ours != theirs:
                raise SystemExit(f"token ids differ for {text!r}:\n{ours}\n{theirs}")
        print(f"token ids agree on {len(texts)} texts")
    for prompt in options.prompts:
        reply = llama.create_chat_completion([{"role": "user", "content": prompt}], max_tokens=400, temperature=options.temperature)
        print(f"> {prompt}\n{reply['choices'][0]['message']['content']}\n[{reply['choices'][0]['finish_reason']}]\n")


if __name__ == "__main__":
    main()
