"""Trains the chat model from scratch for a given time, writing checkpoints on the way.

    python train.py --out FOLDER --minutes 60 [--tales FOLDER_OF_TXT] [--resume]

The learning rate follows the share of the time that has passed, so a slower machine sees fewer steps and still ends cooled
down. Matrices are trained with Muon, the rest with AdamW; what is written is a running average of the weights.
"""

import argparse
import json
import math
import time
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F

from corpus import Corpus
from model import Config, Llama
from tokenizer import CONTROL, Tokenizer, train_merges

HELD_OUT_SEED = 1_000_003
TOKENIZER_SEED = 17


def batch_of(rows, count: int):
    """Ids [count, length] and weights [count, length]."""
    ids, weights = zip(*(next(rows) for _ in range(count)))
    return torch.tensor(ids), torch.tensor(weights)


def weighted_loss(model: Llama, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats, weighted by what each predicted id counts."""
    logits = model(ids[:, :-1])
    losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    weights = weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


@torch.no_grad()
def held_out_loss(model: Llama, held_out) -> float:
    """Loss over the model's own part of conversations that training never draws."""
    total = count = 0.0
    for ids, weights in held_out:
        own = (weights == 1.0).float()
        total += weighted_loss(model, ids, own).item() * own[:, 1:].sum().item()
        count += own[:, 1:].sum().item()
    return total / count


def rate(share: float) -> float:
    """Warm up over 2 % of the time, hold, and cool down linearly over the last half."""
    return min(1.0, share / 0.02, max(0.0, (1.0 - share) / 0.5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--tales", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--layers", type=int, default=Config.layers)
    parser.add_argument("--vocab", type=int, default=Config.vocab)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out; give another --seed, or its data repeats")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(options.seed)
    torch.set_num_threads(options.threads)

    if options.resume:
        saved = torch.load(options.out / "model.pt", map_location="cpu")
        tokenizer = Tokenizer.load(options.out / "merges.json")
        config = Config(**saved["config"])
    else:
        saved = None
        texts = Corpus(TOKENIZER_SEED, options.tales)
        tokenizer = Tokenizer(train_merges((texts.text() for _ in range(6000)), options.vocab - 256 - len(CONTROL)))
        tokenizer.save(options.out / "merges.json")
        config = Config(vocab=len(tokenizer.tokens), layers=options.layers)
    model = Llama(config)
    if saved:
        model.load_state_dict(saved["weights"], strict=True)
    before = saved["record"] if saved else dict(step=0, tokens=0, minutes=0.0)
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, {config}", flush=True)

    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "token_embd" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "token_embd" in name]
    optimisers = (
        torch.optim.Muon(matrices, lr=0.006, momentum=0.95, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=0.004, betas=(0.9, 0.98), weight_decay=0.0),
    )
    peaks = [optimiser.param_groups[0]["lr"] for optimiser in optimisers]

    rows = Corpus(options.seed, options.tales).rows(tokenizer, options.length)
    unseen = Corpus(HELD_OUT_SEED, options.tales).rows(tokenizer, options.length)
    held_out = [batch_of(unseen, options.rows) for _ in range(8)]

    began, written, step, recent = time.monotonic(), 0.0, 0, 0.0

    def checkpoint(final: bool) -> None:
        kept = {name: p.detach().clone() for name, p in model.named_parameters()}
        model.load_state_dict(average, strict=True)
        loss = held_out_loss(model, held_out)
        elapsed = (time.monotonic() - began) / 60
        tokens = step * options.rows * options.length
        record = dict(
            step=before["step"] + step, tokens=before["tokens"] + tokens, minutes=round(before["minutes"] + elapsed, 1), parameters=parameters, train_loss=round(recent, 4), held_out_loss=round(loss, 4), final=final,
        )
        torch.save({"config": asdict(config), "weights": average, "record": record}, options.out / "model.pt")
        with open(options.out / "log.jsonl", "a") as log:
            log.write(json.dumps(record) + "\n")
        print(record, flush=True)
        model.load_state_dict(kept, strict=True)

    while True:
        share = (time.monotonic() - began) / (60 * options.minutes)
        if share >= 1.0:
            break
        for optimiser, peak in zip(optimisers, peaks):
            for group in optimiser.param_groups:
                group["lr"] = peak * rate(share)
        loss = weighted_loss(model, *batch_of(rows, options.rows))
        if not math.isfinite(loss.item()):
            raise SystemExit(f"the loss is {loss.item()} at step {step}: lower the learning rates")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        model.zero_grad(set_to_none=True)
        step += 1
        keep = min(0.99, step / (step + 20))
        for name, p in model.named_parameters():
            average[name].lerp_(p.detach(), 1 - keep)
        recent = loss.item() if step == 1 else 0.98 * recent + 0.02 * loss.item()
        if step % 20 == 0:
            print(f"step {step} loss {loss.item():.3f} mean {recent:.3f} minutes {(time.monotonic() - began) / 60:.1f}", flush=True)
        if time.monotonic() - written > 240:
            checkpoint(final=False)
            written = time.monotonic()
    checkpoint(final=True)


if __name__ == "__main__":
    main()
