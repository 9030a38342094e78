//! Traces of steps, as Chrome's trace viewer and Perfetto read them.

use std::path::{Path, PathBuf};

use firecrest::engine::engine::StepTrace;
use serde_json::{Value, json};

use super::{Outcome, output};

/// Writes steps one after the other: a process each, the host's time in one thread, the device's in another.
pub(crate) fn write(path: &Path, inputs: &[PathBuf], steps: &[(&str, StepTrace)]) -> Outcome {
    let mut events: Vec<Value> = Vec::new();
    for (pid, (name, step)) in (1..).zip(steps) {
        let shape = step.shape;
        let title = format!("{name}: {} prompt + {} generated rows", shape.prompt_rows, shape.generated_rows);
        let microseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e6;
        events.push(json!({ "ph": "M", "pid": pid, "name": "process_name", "args": { "name": title } }));
        for (tid, thread) in [(1, "host: compose, issue, wait, read"), (2, "device")] {
            events.push(json!({ "ph": "M", "pid": pid, "tid": tid, "name": "thread_name", "args": { "name": thread } }));
        }
        events.push(json!({ "ph": "X", "pid": pid, "tid": 1, "name": "step", "cat": "host", "ts": 0.0, "dur": microseconds(step.took) }));
        for call in &step.calls {
            // An op's number, its name, and everything else.
            let words: Vec<&str> = call.what.split_whitespace().filter(|word| word.parse::<u32>().is_err()).take(2).collect();
            events.push(json!({
                "ph": "X", "pid": pid, "tid": 2, "name": words.join(" "), "cat": "device",
                "ts": microseconds(call.began), "dur": microseconds(call.took), "args": { "call": call.what },
            }));
        }
    }
    let text = json!({ "traceEvents": events, "displayTimeUnit": "ms" }).to_string();
    output::write(path, inputs, text.as_bytes())
}
