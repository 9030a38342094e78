//! The command line as a person or a script meets it: real processes, real files.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

fn firecrest(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_firecrest")).args(arguments).output().expect("the binary starts")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("UTF-8 output")
}

fn json(arguments: &[&str]) -> Value {
    let output = text(&firecrest(arguments));
    serde_json::from_str(&output).unwrap_or_else(|e| panic!("{arguments:?} printed no JSON ({e}): {output}"))
}

/// A failed command's message.
fn error(arguments: &[&str]) -> String {
    let output = firecrest(arguments);
    assert!(!output.status.success(), "{arguments:?} should fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A file of this process's own.
fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("temporary folder");
    folder.join(name)
}

/// stories260K and what a float64 forward pass says of it.
fn stories() -> Option<(String, Value)> {
    let folder = firecrest_tests::shared_data_or_skip("the command line on stories260K")?.join("models");
    let expected = std::fs::read_to_string(folder.join("stories260K.expected.json")).expect("expected.json");
    Some((folder.join("stories260K.gguf").display().to_string(), serde_json::from_str(&expected).expect("JSON")))
}

fn ids(value: &Value) -> Vec<u64> {
    value.as_array().map(|a| a.iter().filter_map(Value::as_u64).collect()).unwrap_or_default()
}

#[test]
fn chat_answers_from_the_model_that_ships() {
    let answer = text(&firecrest(&["chat", "Tell me a story", "--temperature", "0", "--max-tokens", "48", "--backend", "cpu"]));
    assert!(answer.split_whitespace().count() >= 10, "no story: {answer:?}");
    let object = json(&["chat", "Hello", "--temperature", "0", "--max-tokens", "16", "--backend", "cpu", "--json"]);
    assert!(object["usage"]["prompt_tokens"].as_u64().is_some_and(|n| n > 0), "{object}");
}

#[test]
fn generate_gives_the_oracle_s_ids() {
    let Some((model, expected)) = stories() else { return };
    for case in expected["cases"].as_array().expect("cases") {
        let (prompt, greedy) = (ids(&case["prompt_ids"]), ids(&case["greedy_ids"]));
        let list = prompt.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let n = (greedy.len() - prompt.len()).to_string();
        let object = json(&[
            "generate",
            "--model",
            &model,
            "--tokens",
            &list,
            "--max-tokens",
            &n,
            "--temperature",
            "0",
            "--seed",
            "1",
            "--ignore-eos",
            "--backend",
            "cpu",
            "--threads",
            "1",
            "--json",
        ]);
        assert_eq!(ids(&object["prompt_tokens"]), prompt);
        assert_eq!(ids(&object["tokens"]), greedy[prompt.len()..]);
        assert_eq!(object["stop_reason"], "max_tokens");
        assert_eq!(object["backend"], "cpu");
        for timing in ["load_s", "prefill_tps", "decode_tps"] {
            assert!(object["timings"][timing].is_number(), "{object}");
        }
    }
}

#[test]
fn generate_reads_text_and_stops_at_strings() {
    let Some((model, _)) = stories() else { return };
    let arguments =
        ["generate", "--model", &model, "--prompt", "Once upon a time", "--max-tokens", "40", "--temperature", "0", "--backend", "cpu"];
    let whole = text(&firecrest(&arguments));
    assert!(whole.starts_with(','), "{whole:?}");
    let stop = [&arguments[..], &["--stop", " girl"]].concat();
    let cut = text(&firecrest(&stop));
    assert_eq!(cut.trim_end_matches('\n'), whole.split(" girl").next().unwrap_or_default());
    let seeded =
        ["generate", "--model", &model, "--prompt", "Once", "--max-tokens", "20", "--temperature", "1", "--seed", "7", "--backend", "cpu"];
    assert_eq!(text(&firecrest(&seeded)), text(&firecrest(&seeded)), "the same seed gives the same text");
}

#[test]
fn logits_are_written_as_safetensors() {
    let Some((model, _)) = stories() else { return };
    let output = scratch("logits.safetensors");
    let path = output.display().to_string();
    let object = json(&["logits", "--model", &model, "--tokens", "1,403,407", "--output", &path, "--backend", "cpu", "--json"]);
    assert_eq!(object["shape"], serde_json::json!([3, 512]));
    let bytes = std::fs::read(&output).expect("the file");
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let logits = tensors.tensor("logits").expect("a tensor `logits`");
    assert_eq!(logits.shape(), [3, 512]);
    assert_eq!(logits.dtype(), safetensors::Dtype::F32);
}

#[test]
fn an_int8_cache_is_taken_on_and_others_are_refused() {
    let ask = ["generate", "--prompt", "Once", "--max-tokens", "8", "--temperature", "0", "--backend", "cpu", "--json", "--kv-type"];
    let object = json(&[&ask[..], &["int8"]].concat());
    assert!(!ids(&object["tokens"]).is_empty(), "{object}");
    let refused = error(&[&ask[..], &["q4"]].concat());
    assert!(refused.contains("q4") && refused.contains("f16, int8"), "{refused}");
    let bytes = |kv| {
        let measured = json(&["bench", "--prompt", "8", "--gen", "2", "--sequences", "1", "--backend", "cpu", "--json", "--kv-type", kv]);
        let shown = json(&["inspect", "--json", "--kv-type", kv]);
        let bytes = |value: &Value| value.as_f64().expect("bytes");
        assert_eq!(measured[0]["kv_type"], kv);
        (bytes(&measured[0]["kv_bytes"]), bytes(&shown["memory"]["kv_bytes_per_position"]))
    };
    let (f16, int8) = (bytes("f16"), bytes("int8"));
    assert_eq!((int8.0 / f16.0, int8.1 / f16.1), (66.0 / 128.0, 66.0 / 128.0));
}

#[test]
fn tokenize_takes_files_byte_for_byte() {
    let Some((model, _)) = stories() else { return };
    let file = scratch("text.txt");
    std::fs::write(&file, "Once upon a time\n").expect("temporary file");
    let path = file.display().to_string();
    let from_file = json(&["tokenize", "--model", &model, "--file", &path, "--json"]);
    let from_text = json(&["tokenize", "--model", &model, "--text", "Once upon a time\n", "--json"]);
    assert_eq!(from_file, from_text);
    assert!(!ids(&from_file["tokens"]).contains(&1), "no BOS unless --special: {from_file}");
    let special = json(&["tokenize", "--model", &model, "--text", "Once", "--special", "--json"]);
    assert_eq!(ids(&special["tokens"])[0], 1, "{special}");
    std::fs::write(&file, [b'a', 0xff]).expect("temporary file");
    assert!(error(&["tokenize", "--model", &model, "--file", &path]).contains("byte 1 begins no UTF-8 character"));
}

#[test]
fn template_renders_a_context() {
    let (template, context) = (scratch("t.jinja"), scratch("c.json"));
    std::fs::write(&template, "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}").expect("temporary file");
    std::fs::write(&context, r#"{"messages":[{"role":"user","content":"hi"}]}"#).expect("temporary file");
    let (t, c) = (template.display().to_string(), context.display().to_string());
    assert_eq!(text(&firecrest(&["template", "--template", &t, "--context", &c])), "<user>hi");
    std::fs::write(&template, "{% for m in messages %}\n{{ raise_exception('no system please') }}{% endfor %}").expect("temporary file");
    assert!(error(&["template", "--template", &t, "--context", &c]).contains("no system please"));
}

#[test]
fn embed_gives_a_unit_vector() {
    let Some((model, _)) = stories() else { return };
    let object = json(&["embed", "--model", &model, "--text", "a small bird", "--backend", "cpu", "--json"]);
    let vector: Vec<f64> = object["embedding"].as_array().expect("a vector").iter().filter_map(Value::as_f64).collect();
    assert_eq!(vector.len(), 64);
    let length = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
}

#[test]
fn inspect_devices_and_bench_speak_json() {
    let Some((model, _)) = stories() else { return };
    let inspected = json(&["inspect", "--model", &model, "--json"]);
    assert_eq!(inspected["architecture"], "llama");
    assert!(inspected["tensors"].as_array().is_some_and(|t| t.iter().any(|t| t["name"] == "token_embd.weight")), "{inspected}");
    assert!(inspected["memory"]["weights_bytes"].as_u64().is_some_and(|n| n > 500_000), "{inspected}");

    let devices = json(&["devices", "--json"]);
    assert!(devices.as_array().is_some_and(|d| d.iter().any(|d| d["backend"] == "cpu" && d["rung"].is_string())), "{devices}");

    let bench = json(&["bench", "--model", &model, "--prompt", "8", "--gen", "4", "--sequences", "1,3", "--backend", "cpu", "--json"]);
    let rows = bench.as_array().expect("an array");
    assert_eq!(rows.iter().map(|r| r["sequences"].as_u64()).collect::<Vec<_>>(), [Some(1), Some(3)]);
    assert!(rows.iter().all(|r| r["prefill_tps"].as_f64().is_some_and(|t| t > 0.0) && r["decode_tps"].as_f64().is_some_and(|t| t > 0.0)));

    let load = ["bench", "--model", &model, "--prompt", "8", "--gen", "4", "--backend", "cpu", "--json"];
    let load = json(&[&load[..], &["--concurrency", "1,4", "--shared-prefix", "64"]].concat());
    let rows = load.as_array().expect("an array");
    // The first computes the 64; the others take them.
    assert_eq!(rows.iter().map(|r| r["cached_tokens"].as_u64()).collect::<Vec<_>>(), [Some(0), Some(3 * 64)], "{load}");
    assert!(
        rows.iter().all(|r| r["first_token_p99_s"].as_f64() >= r["first_token_p50_s"].as_f64() && r["aggregate_tps"].as_f64() > Some(0.0))
    );
}

#[test]
fn errors_say_what_to_do() {
    assert!(
        error(&["generate", "--model", "no/such.gguf", "--prompt", "x"]).contains("error[source]: no/such.gguf: there is no such file")
    );
    assert!(error(&["pull", "nonsense"]).contains("write hf:owner/repo"));
    assert!(error(&["generate", "--prompt", "x", "--adapter", "no such adapter"]).contains("no such adapter"));
    let file = scratch("not-a-model.gguf");
    std::fs::write(&file, b"hello, this is no model at all").expect("temporary file");
    let message = error(&["inspect", "--model", &file.display().to_string()]);
    assert!(message.contains("error[malformed]") && message.contains("not-a-model.gguf"), "{message}");
    let Some((model, _)) = stories() else { return };
    let message = error(&["generate", "--model", &model, "--tokens", "99999", "--backend", "cpu"]);
    assert!(message.contains("99999") && message.contains("512"), "{message}");
}

#[test]
fn a_prompt_of_any_length_may_be_the_first() {
    let Some((model, _)) = stories() else { return };
    let tokens = |count: usize| vec!["30"; count].join(",");
    for (count, most) in [(512, "2"), (513, "2"), (1, "0"), (513, "0")] {
        let (prompt, common) =
            (tokens(count), ["generate", "--model", &model, "--context", "1024", "--backend", "cpu", "--json", "--tokens"]);
        let answer = json(&[&common[..], &[&prompt, "--max-tokens", most]].concat());
        assert_eq!(answer["prompt_tokens"].as_array().map(Vec::len), Some(count));
        assert!(answer["tokens"].as_array().is_some_and(|tokens| tokens.len() as u64 <= most.parse().expect("a number")), "{answer}");
    }
}

#[test]
fn a_text_that_begins_twice_is_told_of() {
    let Some((model, _)) = stories() else { return };
    let twice = firecrest(&["tokenize", "--model", &model, "--special", "--text", "<s>Once"]);
    assert!(text(&twice).lines().count() > 2);
    let note = String::from_utf8_lossy(&twice.stderr).into_owned();
    assert!(note.contains("begins with <s>"), "{note}");
    let once = firecrest(&["tokenize", "--model", &model, "--special", "--text", "Once"]);
    assert!(once.status.success() && once.stderr.is_empty());
}

#[test]
fn colours_are_off_when_piped() {
    let message = error(&["generate", "--model", "no/such.gguf", "--prompt", "x"]);
    assert!(!message.contains('\u{1b}'), "{message:?}");
}

#[test]
fn an_adapter_changes_the_answer_and_is_told_of() {
    use firecrest_tests::random_adapters::RandomAdapter;
    let Some((model, _)) = stories() else { return };
    let file = pollster::block_on(firecrest::open(&model)).expect("stories260K opens");
    let folder = scratch("peft");
    std::fs::create_dir_all(&folder).expect("a folder");
    let adapter = RandomAdapter::of(&file, 1, 4, false, |name| name.contains("ffn"));
    for (name, bytes) in adapter.peft(serde_json::json!({})) {
        std::fs::write(folder.join(name), bytes).expect("a file");
    }
    let gguf = scratch("adapter.gguf");
    std::fs::write(&gguf, adapter.gguf(firecrest::engine::quant::GgmlType::F32).finish()).expect("a file");
    let (folder, gguf) = (folder.display().to_string(), gguf.display().to_string());
    let common =
        ["generate", "--model", &model, "--tokens", "1,403,407", "--max-tokens", "12", "--temperature", "0", "--backend", "cpu", "--json"];
    let with = |more: &[&str]| json(&[&common[..], more].concat());
    let plain = with(&[]);
    assert_eq!(plain["loras"], serde_json::json!([]));
    let (one, other) = (with(&["--lora", &folder]), with(&["--lora", &gguf]));
    assert_eq!(one["tokens"], other["tokens"], "PEFT and GGUF of one adapter");
    assert_ne!(one["tokens"], plain["tokens"]);
    assert_eq!(one["loras"][0]["used"], true, "{one}");
    assert_eq!((one["loras"][0]["rank"].as_u64(), one["loras"][0]["strength"].as_f64()), (Some(4), Some(1.0)));
    assert_eq!(with(&["--lora", &folder, "--use-lora", "none"])["tokens"], plain["tokens"]);
    assert_eq!(with(&["--lora", &format!("{gguf}=0")])["tokens"], plain["tokens"], "a strength of nothing");
    let both = with(&["--lora", &format!("{folder}=0.5"), "--lora", &gguf, "--use-lora", "adapter.gguf"]);
    assert_eq!(both["tokens"], other["tokens"]);
    let failed = |more: &[&str]| error(&[&common[..], more].concat());
    assert!(failed(&["--lora", "no/such.gguf"]).contains("no/such.gguf: there is no such file"));
    assert!(failed(&["--lora", &model]).contains("not an adapter"));
    assert!(failed(&["--lora", &gguf, "--use-lora", "other"]).contains("--use-lora other"));
}

#[cfg(unix)]
#[test]
fn outputs_go_where_a_shell_would_write_them() {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let logits =
        |output: &str, model: &str| firecrest(&["logits", "--tokens", "1,2", "--backend", "cpu", "--model", model, "--output", output]);
    // A device stays a device. `/dev/null` itself is never put at risk: as root, a replaced one would stay replaced.
    let device = scratch("null");
    let made = Command::new("mknod").args([device.to_str().unwrap(), "c", "1", "3"]).output();
    if made.is_ok_and(|made| made.status.success()) {
        text(&logits(device.to_str().unwrap(), "embedded"));
        assert!(device.metadata().expect("still there").file_type().is_char_device());
    }
    // A symbolic link is followed, and a plain file gets the umask's permissions.
    let (target, link) = (scratch("target.safetensors"), scratch("link.safetensors"));
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(&target, &link).expect("a link");
    text(&logits(link.to_str().unwrap(), "embedded"));
    assert!(link.symlink_metadata().expect("a link").file_type().is_symlink());
    let plain = scratch("plain");
    std::fs::write(&plain, "x").expect("written");
    assert_eq!(target.metadata().expect("made").mode(), plain.metadata().expect("made").mode());
    // A pipe is written into.
    let pipe = scratch("pipe");
    if Command::new("mkfifo").arg(&pipe).status().is_ok_and(|status| status.success()) {
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).expect("what was written").len()
        });
        text(&logits(pipe.to_str().unwrap(), "embedded"));
        assert_eq!(reader.join().expect("a reader") as u64, target.metadata().expect("made").len());
        let _ = std::fs::remove_file(&pipe);
    }
}

#[test]
fn a_model_is_never_written_over() {
    let model = scratch("model.gguf");
    let bytes = std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../models/chat.gguf")).expect("the model that ships");
    std::fs::write(&model, &bytes).expect("a copy");
    let (name, link) = (model.to_str().expect("a path"), scratch("same.gguf"));
    let _ = std::fs::remove_file(&link);
    std::fs::hard_link(&model, &link).expect("a hard link");
    for output in [name, link.to_str().expect("a path")] {
        assert!(error(&["logits", "--tokens", "1,2", "--model", name, "--output", output]).contains("which the command reads"));
        assert!(error(&["bench", "--prompt", "4", "--gen", "2", "--model", name, "--trace", output]).contains("which the command reads"));
    }
    assert_eq!(std::fs::read(&model).expect("the model"), bytes);
}

#[test]
fn a_bad_message_does_not_end_a_conversation() {
    use std::io::Write;
    let mut arguments = vec!["chat", "--context", "256", "--backend", "cpu", "--max-tokens", "4", "--json"];
    let run = |arguments: &[&str], input: &[u8]| {
        let mut child = Command::new(env!("CARGO_BIN_EXE_firecrest"));
        child.args(arguments).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = child.spawn().expect("the binary starts");
        child.stdin.take().expect("a pipe").write_all(input).expect("written");
        let output = child.wait_with_output().expect("it ends");
        let lines: Vec<Value> = text(&output).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        lines
    };
    let long = "word ".repeat(600);
    let input = [b"My name is Bob.\n".as_slice(), long.as_bytes(), b"\n\xff\xfe\nWhat is my name?\n"].concat();
    let lines = run(&arguments, &input);
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0]["text"].is_string() && lines[3]["text"].is_string(), "{lines:?}");
    assert!(lines[1]["error"]["message"].as_str().is_some_and(|m| m.contains("256")), "{lines:?}");
    assert!(lines[2]["error"]["message"].as_str().is_some_and(|m| m.contains("UTF-8")), "{lines:?}");
    // The bad messages are gone, and what was said before them is not.
    let tokens = |lines: &[Value], at: usize| lines[at]["usage"]["prompt_tokens"].as_u64().expect("a count");
    let without = run(&arguments, b"My name is Bob.\nWhat is my name?\n");
    assert!(tokens(&lines, 3) >= tokens(&without, 1).saturating_sub(8), "{lines:?} {without:?}");
    // A template that raises.
    let template = scratch("raises.jinja");
    std::fs::write(
        &template,
        "{% if messages[-1].content == 'no' %}{{ raise_exception('not this') }}{% endif %}{{ messages[-1].content }}",
    )
    .expect("written");
    arguments.extend(["--template", template.to_str().expect("a path")]);
    let lines = run(&arguments, b"no\nyes\n");
    assert!(lines[0]["error"]["message"].as_str().is_some_and(|m| m.contains("not this")) && lines[1]["text"].is_string(), "{lines:?}");
}

#[test]
fn threads_are_bounded_and_hyphens_are_text() {
    for threads in ["1025", "100000000", "18446744073709551615"] {
        assert!(error(&["generate", "--prompt", "x", "--threads", threads, "--backend", "cpu"]).contains("at most 1024"), "{threads}");
    }
    text(&firecrest(&["generate", "--prompt", "x", "--max-tokens", "2", "--threads", "1024", "--backend", "cpu"]));
    let rest = ["--max-tokens", "1", "--backend", "cpu"];
    for arguments in [
        &["generate", "--prompt", "- a list item", "--stop", "-"][..],
        &["generate", "--prompt", "-1", "--frequency-penalty", "-0.5", "--presence-penalty", "-1"],
        &["chat", "- a list item"],
        &["chat", "-1", "--system", "--"],
    ] {
        text(&firecrest(&[arguments, &rest].concat()));
    }
    text(&firecrest(&["tokenize", "--text", "-1"]));
    // A misspelt option is not a message.
    assert!(error(&["chat", "--temprature"]).contains("no such option"));
    assert!(error(&["chat", "--temprature", "0"]).contains("unexpected argument"));
    assert!(error(&["chat", "-x"]).contains("no such option"));
}
