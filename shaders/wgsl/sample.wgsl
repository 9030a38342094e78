// A token drawn from each row of logits, one workgroup a draw: 256 invocations, invocation t taking tokens t, t + 256, …
//
// Bias and penalties, mask, top-k, typical, top-p, min-p, temperature, draw: exact over the whole vocabulary. A filter keeps the shortest beginning of
// an order (by probability, or by distance from the entropy; ties by lowest id) that counts or weighs enough, found by bisecting the order's
// keys two bits at a time. What it leaves out is marked in the row itself. Every sum has a fixed order, so a draw depends on its row only.
struct Params {
    vocab: u32,
    draws: u32,
    first_draw: u32,
    pad: u32,
}

struct Draw {
    output: u32,
    ring: u32, // first cell of the sequence's ring in slots, or NONE
    position: u32, // of the row: the token drawn stands at position + 1
    mask: u32, // first word in masks, or NONE
    seed_low: u32,
    seed_high: u32,
    top_k: u32,
    temperature: f32,
    top_p: f32,
    min_p: f32,
    typical_p: f32,
    repeat: f32,
    presence: f32,
    frequency: f32,
    first_adjustment: u32,
    adjustments: u32,
    in_flight: u32, // tokens at positions up to the row's that count for penalties and only the ring knows
    pad0: u32,
    pad1: u32,
    pad2: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> draws: array<Draw>;
@group(0) @binding(2) var<storage, read> adjustments: array<vec4<u32>>; // token, bias (f32), count
@group(0) @binding(3) var<storage, read> masks: array<u32>; // [mask][vocab / 32]: tokens allowed
@group(0) @binding(4) var<storage, read_write> logits: array<f32>; // [outputs, vocab]
@group(0) @binding(5) var<storage, read_write> slots: array<u32>; // [sequence slots][RING]
@group(0) @binding(6) var<storage, read_write> drawn: array<u32>; // [draws]

override FILTERS: u32 = 0u; // whether a draw may rule tokens out by their probability

const NONE: u32 = 0xffffffffu;
const RING: u32 = 8u;
const NOT_FINITE: u32 = 0xffffffffu;
const NOTHING_ALLOWED: u32 = 0xfffffffeu;
const DROPPED: f32 = -3.4028234e38;
const LOWEST: f32 = -1e30; // what an adjustment may leave at the least, and negated at the most: no infinity comes near
const LEAST_EXPONENT: f32 = -100.0; // e to it is nothing
const LEAST_TEMPERATURE: f32 = 1e-7;
const ID_BITS: u32 = 24u; // what ids take at most, so that f32 counts them exactly

const BY_PROBABILITY: u32 = 0u;
const BY_SURPRISE: u32 = 1u;

var<workgroup> partial: array<vec4<f32>, 256>;
var<workgroup> best: array<vec2<u32>, 256>; // order key, id
var<workgroup> chosen: atomic<u32>;
var<workgroup> seen: array<atomic<u32>, 8>; // of the tokens in flight: those that the list of adjustments names
var<workgroup> shared_word: u32;

var<private> row: u32; // first logit
var<private> largest: f32;
var<private> entropy: f32;
var<private> log_sum: f32;

// The sums over the workgroup, the same in every invocation.
fn sum(t: u32, v: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    partial[t] = v;
    workgroupBarrier();
    if (t < 16u) {
        var s = vec4<f32>(0.0);
        for (var i = 0u; i < 16u; i++) {
            s += partial[t * 16u + i];
        }
        partial[t * 16u] = s;
    }
    workgroupBarrier();
    var s = vec4<f32>(0.0);
    for (var i = 0u; i < 16u; i++) {
        s += partial[i * 16u];
    }
    return s;
}

// A number that is smaller the larger v is. v is finite.
fn descending(v: f32) -> u32 {
    // −0 and 0 are one value.
    let bits = bitcast<u32>(select(v, 0.0, v == 0.0));
    return select(~bits & 0x7fffffffu, bits, (bits & 0x80000000u) != 0u);
}

fn weight(v: f32) -> f32 {
    return exp(max(v - largest, LEAST_EXPONENT));
}

fn key(v: f32, order: u32) -> u32 {
    if (order == BY_SURPRISE) {
        return bitcast<u32>(abs(log_sum + (largest - v) - entropy));
    }
    return descending(v);
}

fn measure(v: f32, by_mass: bool) -> f32 {
    return select(1.0, weight(v), by_mass);
}

// How many of three ascending pivots are too low. What is typical must weigh more than enough, other orders as much.
fn short_of(v: vec4<f32>, enough: f32, order: u32) -> u32 {
    let done = select(v >= vec4<f32>(enough), v > vec4<f32>(enough), order == BY_SURPRISE);
    return select(select(select(3u, 2u, done.z), 1u, done.y), 0u, done.x);
}

// The smallest number of so many bits up to which keys, with what is there before them, measure `enough`; all bits set where none does.
// With `ties` the tokens whose key is `tied` are looked at, and their ids are what is bisected.
fn bisect(t: u32, bits: u32, order: u32, by_mass: bool, before: f32, enough: f32, ties: bool, tied: u32) -> u32 {
    var last = 0u; // as far as it is known
    for (var shift = bits; shift > 0u;) {
        shift -= 2u;
        let below = (1u << shift) - 1u;
        var s = vec4<f32>(0.0);
        for (var id = t; id < params.vocab; id += 256u) {
            let v = logits[row + id];
            if (v != DROPPED) {
                let k = key(v, order);
                if (!ties || k == tied) {
                    let m = measure(v, by_mass);
                    let bisected = vec4<u32>(select(k, id, ties));
                    s += select(vec4<f32>(0.0), vec4<f32>(m), bisected <= vec4<u32>(0u, 1u, 2u, 3u) * (below + 1u) + (last | below));
                }
            }
        }
        last |= short_of(before + sum(t, s), enough, order) << shift;
    }
    return last;
}

// Drops all but the first tokens of the order that measure `enough`, or keeps all where they don't.
fn keep(t: u32, order: u32, by_mass: bool, enough: f32) {
    let last = bisect(t, 32u, order, by_mass, 0.0, enough, false, 0u); // the key of the last that is kept
    var s = vec4<f32>(0.0);
    for (var id = t; id < params.vocab; id += 256u) {
        let v = logits[row + id];
        if (v != DROPPED) {
            let k = key(v, order);
            let m = measure(v, by_mass);
            s += vec4<f32>(select(0.0, m, k < last), select(0.0, 1.0, k == last), 0.0, 0.0);
        }
    }
    let before = sum(t, s);
    // Of those that are equal the lowest ids are kept.
    if (t == 0u) {
        shared_word = u32(before.y);
    }
    var last_id = params.vocab;
    if (workgroupUniformLoad(&shared_word) > 1u) {
        last_id = bisect(t, ID_BITS, order, by_mass, before.x, enough, true, last);
    }
    for (var id = t; id < params.vocab; id += 256u) {
        let v = logits[row + id];
        if (v != DROPPED) {
            let k = key(v, order);
            if (k > last || (k == last && id > last_id)) {
                logits[row + id] = DROPPED;
            }
        }
    }
}

// Whichever of (key, id) comes first.
fn before(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    return select(a, b, b.x < a.x || (b.x == a.x && b.y < a.y));
}

// The most probable token that is left (ties: the lowest id), or NONE; `largest` becomes its logit.
fn most_probable(t: u32) -> u32 {
    var k = NONE;
    var first = NONE;
    for (var id = t; id < params.vocab; id += 256u) {
        let v = logits[row + id];
        if (v != DROPPED) {
            let other = descending(v);
            // Ids ascend, so that the first of equals stays.
            if (other < k || first == NONE) {
                k = other;
                first = id;
            }
        }
    }
    workgroupBarrier();
    best[t] = vec2<u32>(k, first);
    workgroupBarrier();
    if (t < 16u) {
        var found = best[t * 16u];
        for (var i = 1u; i < 16u; i++) {
            found = before(found, best[t * 16u + i]);
        }
        best[t * 16u] = found;
    }
    workgroupBarrier();
    var found = best[0];
    for (var i = 1u; i < 16u; i++) {
        found = before(found, best[i * 16u]);
    }
    largest = 0.0;
    if (found.y != NONE) {
        largest = logits[row + found.y];
    }
    return found.y;
}

fn penalised(v: f32, count: u32, draw: Draw) -> f32 {
    if (count == 0u) {
        return v;
    }
    let repeated = select(v / draw.repeat, v * draw.repeat, v <= 0.0);
    return repeated - f32(count) * draw.frequency - draw.presence;
}

fn finite(v: f32) -> bool {
    return (bitcast<u32>(v) & 0x7f800000u) != 0x7f800000u;
}

// Bias and penalties: of the tokens that the list names, then of those in flight that it does not.
fn adjust(t: u32, draw: Draw) {
    if (t < RING) {
        atomicStore(&seen[t], 0u);
    }
    workgroupBarrier();
    for (var i = t; i < draw.adjustments; i += 256u) {
        let entry = adjustments[draw.first_adjustment + i];
        var count = entry.z;
        for (var j = 0u; j < draw.in_flight; j++) {
            if (slots[draw.ring + (draw.position - j) % RING] == entry.x) {
                count += 1u;
                atomicStore(&seen[j], 1u);
            }
        }
        let at = row + entry.x;
        let bias = bitcast<f32>(entry.y);
        let v = logits[at];
        // What is not finite stays, to be found.
        if (bias <= LOWEST) {
            logits[at] = select(v, DROPPED, finite(v));
        } else if (finite(v)) {
            logits[at] = clamp(penalised(clamp(v + bias, LOWEST, -LOWEST), count, draw), LOWEST, -LOWEST);
        }
    }
    workgroupBarrier();
    if (t < draw.in_flight && atomicLoad(&seen[t]) == 0u) {
        let id = slots[draw.ring + (draw.position - t) % RING];
        var count = 0u;
        var is_first = true;
        for (var j = 0u; j < draw.in_flight; j++) {
            let same = slots[draw.ring + (draw.position - j) % RING] == id;
            count += select(0u, 1u, same);
            is_first = is_first && !(same && j < t);
        }
        if (is_first && id < params.vocab && finite(logits[row + id])) {
            logits[row + id] = clamp(penalised(logits[row + id], count, draw), LOWEST, -LOWEST);
        }
    }
    storageBarrier();
    workgroupBarrier();
}

// Philox4x32-10 (Salmon and others, 2011): two words for (seed, position).
fn high(a: u32, b: u32) -> u32 {
    let a0 = a & 0xffffu;
    let a1 = a >> 16u;
    let b0 = b & 0xffffu;
    let b1 = b >> 16u;
    let middle = a1 * b0 + ((a0 * b0) >> 16u);
    let carried = a0 * b1 + (middle & 0xffffu);
    return a1 * b1 + (middle >> 16u) + (carried >> 16u);
}

fn philox(position: u32, seed_low: u32, seed_high: u32) -> vec2<u32> {
    var c = vec4<u32>(position, 0u, 0u, 0u);
    var k = vec2<u32>(seed_low, seed_high);
    for (var i = 0u; i < 10u; i++) {
        let a = high(c.x, 0xD2511F53u);
        let b = high(c.z, 0xCD9E8D57u);
        c = vec4<u32>(b ^ c.y ^ k.x, c.z * 0xCD9E8D57u, a ^ c.w ^ k.y, c.x * 0xD2511F53u);
        k += vec2<u32>(0x9E3779B9u, 0xBB67AE85u);
    }
    return c.xy;
}

// In [0, 1), a multiple of 2⁻²⁴.
fn uniform_of(word: u32) -> f32 {
    return f32(word >> 8u) * (1.0 / 16777216.0);
}

fn tempered(id: u32, temperature: f32) -> f32 {
    let v = logits[row + id];
    if (v == DROPPED) {
        return 0.0;
    }
    let x = (v - largest) / max(temperature, LEAST_TEMPERATURE);
    return select(0.0, exp(max(x, LEAST_EXPONENT)), x > LEAST_EXPONENT);
}

// What invocations before this one hold of v; `chosen` becomes the last invocation with a share of it at or before u of the whole.
fn choose(t: u32, v: f32, u: f32) -> f32 {
    workgroupBarrier();
    if (t == 0u) {
        atomicStore(&chosen, 0u);
    }
    partial[t] = vec4<f32>(v, 0.0, 0.0, 0.0);
    workgroupBarrier();
    let segment = t / 16u;
    if (t % 16u == 0u) {
        var s = 0.0;
        for (var i = 0u; i < 16u; i++) {
            s += partial[t + i].x;
        }
        partial[t].y = s;
    }
    workgroupBarrier();
    var before = 0.0;
    var total = 0.0;
    for (var i = 0u; i < 16u; i++) {
        if (i == segment) {
            before = total;
        }
        total += partial[i * 16u].y;
    }
    var inside = 0.0;
    for (var i = segment * 16u; i < t; i++) {
        inside += partial[i].x;
    }
    before += inside;
    if (v > 0.0 && before <= u * total) {
        atomicMax(&chosen, t);
    }
    workgroupBarrier();
    return u * total - before;
}

// A token by the weights of those left: first the invocation that holds it, then which of its tokens, each by a random number of its own.
fn pick(t: u32, draw: Draw) -> u32 {
    let random = philox(draw.position + 1u, draw.seed_low, draw.seed_high);
    var s = 0.0;
    for (var id = t; id < params.vocab; id += 256u) {
        s += tempered(id, draw.temperature);
    }
    choose(t, s, uniform_of(random.x));
    let column = atomicLoad(&chosen);
    let each = (params.vocab + 65535u) / 65536u;
    s = 0.0;
    for (var i = t * each; i < (t + 1u) * each; i++) {
        let id = column + 256u * i;
        if (id < params.vocab) {
            s += tempered(id, draw.temperature);
        }
    }
    let left = choose(t, s, uniform_of(random.y));
    if (t == atomicLoad(&chosen)) {
        var before = 0.0;
        for (var i = t * each; i < (t + 1u) * each; i++) {
            let id = column + 256u * i;
            if (id < params.vocab) {
                let w = tempered(id, draw.temperature);
                if (w > 0.0 && before <= left) {
                    shared_word = id;
                }
                before += w;
            }
        }
    }
    return workgroupUniformLoad(&shared_word);
}

@compute @workgroup_size(256)
fn sample(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) t: u32) {
    let index = params.first_draw + workgroup.x;
    let draw = draws[index];
    row = draw.output * params.vocab;
    if (draw.adjustments + draw.in_flight > 0u) {
        adjust(t, draw);
    }
    var faults = 0.0;
    for (var id = t; id < params.vocab; id += 256u) {
        let v = logits[row + id];
        faults += select(1.0, 0.0, finite(v));
        if (draw.mask != NONE && ((masks[draw.mask + id / 32u] >> (id % 32u)) & 1u) == 0u) {
            logits[row + id] = DROPPED;
        }
    }
    var token = NOT_FINITE;
    let all_faults = sum(t, vec4<f32>(faults, 0.0, 0.0, 0.0)).x;
    if (t == 0u) {
        shared_word = select(0u, 1u, all_faults > 0.0);
    }
    if (workgroupUniformLoad(&shared_word) == 0u) {
        token = most_probable(t);
        if (t == 0u) {
            shared_word = token;
        }
        if (workgroupUniformLoad(&shared_word) == NONE) {
            token = NOTHING_ALLOWED;
        } else if (draw.temperature > 0.0 || draw.typical_p < 1.0) {
            if (FILTERS == 1u) {
                // Top-k, typical, top-p, each by what the one before it left.
                for (var stage = 0u; stage < 3u; stage++) {
                    let share = select(draw.top_p, draw.typical_p, stage == 1u);
                    let by_mass = stage > 0u;
                    if ((by_mass && share < 1.0) || (!by_mass && draw.top_k > 0u)) {
                        var s = vec4<f32>(0.0);
                        for (var id = t; id < params.vocab; id += 256u) {
                            let v = logits[row + id];
                            if (v != DROPPED) {
                                let w = weight(v);
                                s += vec4<f32>(w, w * (largest - v), 0.0, 0.0);
                            }
                        }
                        let total = sum(t, s);
                        log_sum = log(total.x);
                        entropy = log_sum + total.y / total.x;
                        let order = select(BY_PROBABILITY, BY_SURPRISE, stage == 1u);
                        keep(t, order, by_mass, select(f32(draw.top_k), share * total.x, by_mass));
                        token = most_probable(t);
                    }
                }
            }
            if (FILTERS == 1u && draw.min_p > 0.0) {
                let least = largest + log(draw.min_p);
                for (var id = t; id < params.vocab; id += 256u) {
                    if (logits[row + id] < least) {
                        logits[row + id] = DROPPED;
                    }
                }
            }
            if (draw.temperature > 0.0) {
                storageBarrier();
                token = pick(t, draw);
            }
        }
    }
    if (t == 0u) {
        drawn[index] = token;
        if (draw.ring != NONE) {
            // What could not be drawn is fed as something that can be looked up, and nobody hears of it.
            slots[draw.ring + (draw.position + 1u) % RING] = select(token, 0u, token >= NOTHING_ALLOWED);
        }
    }
}
