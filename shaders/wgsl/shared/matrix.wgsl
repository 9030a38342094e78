// What matvec and matmul share: parameters, the choice of epilogue, activations.
struct Params {
    columns: u32,
    outputs: u32,
    rows: u32,
    first_row: u32,
    x_stride: u32,
    y_stride: u32,
    y_offset: u32,
    gather: u32,
    planes: vec4<u32>,
    eps: f32,
    softcap: f32,
    delta_stride: u32,
    pad: u32,
}

override EPILOGUE: u32 = 0u;
override ACTIVATION: u32 = 0u;
override HAS_BIAS: u32 = 0u;
override HAS_DELTA: u32 = 0u;

const STORE: u32 = 0u;
const ADD: u32 = 1u;
const GATED: u32 = 2u;

// Abramowitz and Stegun 7.1.26: |error| ≤ 1.5e-7.
fn erf(x: f32) -> f32 {
    let a = abs(x);
    let t = 1.0 / fma(0.3275911, a, 1.0);
    let p = t * fma(t, fma(t, fma(t, fma(t, 1.061405429, -1.453152027), 1.421413741), -0.284496736), 0.254829592);
    return sign(x) * (1.0 - p * exp(-a * a));
}

fn activate(v: f32) -> f32 {
    if (ACTIVATION == 0u) {
        return v / (1.0 + exp(-v));
    }
    if (ACTIVATION == 1u) {
        // tanh overflows in some drivers where its argument is large.
        let inner = clamp(0.7978845608028654 * fma(0.044715 * v * v, v, v), -15.0, 15.0);
        return 0.5 * v * (1.0 + tanh(inner));
    }
    return 0.5 * v * (1.0 + erf(v * 0.7071067811865476));
}

// Row of x that batch row r of this dispatch reads; rows past the end read the last one and are not stored.
fn source_row(r: u32) -> u32 {
    let row = params.first_row + min(r, params.rows - 1u);
    if (params.gather == 1u) {
        return indices[row];
    }
    return row;
}

fn biased(v: f32, n: u32) -> f32 {
    if (HAS_BIAS == 1u) {
        return v + bias[params.y_offset + n];
    }
    return v;
}

// v with what the row's adapter adds to output n. A row that has none is left alone: not even a zero is added.
fn adapted(v: f32, r: u32, n: u32) -> f32 {
    if (HAS_DELTA == 1u) {
        let at = (params.first_row + r) * params.delta_stride;
        if (delta[at] > 0.0) {
            return v + delta[at + 4u + params.y_offset + n];
        }
    }
    return v;
}

// Joins the product v of output n, or with GATED the gate v and its partner up, to batch row r of y.
fn finish(r: u32, n: u32, v: f32, up: f32) {
    if (r >= params.rows || n >= params.outputs) {
        return;
    }
    let at = (params.first_row + r) * params.y_stride + params.y_offset + n;
    let b = adapted(biased(v, n), r, n);
    if (EPILOGUE == STORE) {
        if (params.softcap > 0.0) {
            y[at] = params.softcap * tanh(clamp(b / params.softcap, -15.0, 15.0));
        } else {
            y[at] = b;
        }
    } else if (EPILOGUE == ADD) {
        y[at] += b;
    } else if (EPILOGUE == GATED) {
        y[at] = activate(b) * adapted(biased(up, params.outputs + n), r, params.outputs + n);
    } else {
        y[at] = activate(b);
    }
}
