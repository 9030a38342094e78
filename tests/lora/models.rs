use firecrest_engine::file::AdapterFile;
use firecrest_engine::model::Config;
use firecrest_engine::quant::{Format, GgmlType};
use firecrest_tests::backends::{BackendChoice, backends};
use firecrest_tests::full;
use firecrest_tests::interpreter::{Inputs, KvPrecision, largest_error, nmse};
use firecrest_tests::random_adapters::{RandomAdapter, open_adapter, open_gguf};
use firecrest_tests::random_models::{RandomModel, VOCAB, open_bytes};
use firecrest_tests::runner::{Reference, Runner, Session};
use serde_json::json;

use super::{generated, prompt, tiny};

const FAMILIES: [&str; 6] = ["llama", "qwen2", "phi3", "gemma2", "mistral", "qwen3"];

/// Logits of a tiny model, with an adapter or without, and what they were computed on.
fn answer<R: Runner>(runner: R, family: &str, format: Format, adapter: Option<(&AdapterFile, f32)>) -> (Vec<f32>, R) {
    let file = tiny(family, format);
    let mut session = Session::open(runner, &file, Config::from_file(&file).unwrap()).unwrap();
    if let Some((adapter, strength)) = adapter {
        session.adapt(adapter, strength).unwrap();
    }
    let logits = session.logits(&prompt(), &generated(), 19).unwrap();
    (logits, session.into_runner())
}

fn on(backend: &BackendChoice, family: &str, format: Format, adapter: Option<(&AdapterFile, f32)>) -> Vec<f32> {
    let (logits, used) = answer(backend.take(), family, format, adapter);
    backend.give_back(used);
    logits
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|v| f64::from(*v)).collect()
}

#[test]
fn adapted_models_agree_with_the_reference_on_every_backend() {
    let mut failures = Vec::new();
    for backend in backends("adapted models on GPU backends") {
        for family in FAMILIES {
            let formats: &[Format] = if backend == BackendChoice::Cpu || full() {
                &[Format::F32, Format::F16, Format::Q8_0]
            } else {
                &[Format::F16, Format::Q8_0]
            };
            for &format in formats {
                let file = tiny(family, format);
                let adapter = RandomAdapter::of(&file, 1, 8, true, |_| true).with_head(VOCAB, 64);
                let adapter = open_gguf(adapter.gguf(GgmlType::F32)).unwrap();
                let inputs = if format.is_quantised() { Inputs::Int8 } else { Inputs::Exact };
                let want = wide(&answer(Reference::new(KvPrecision::F16, inputs), family, format, Some((&adapter, 0.75))).0);
                let got = on(&backend, family, format, Some((&adapter, 0.75)));
                let without = on(&backend, family, format, None);
                let (error, largest, off) = (nmse(&got, &want), largest_error(&got, &want), nmse(&without, &want));
                println!("{backend:24} {family:12} {format:5} nmse {error:9.2e}  largest {largest:9.2e}  without {off:9.2e}");
                let bound = if format.is_quantised() { 5e-3 } else { 1e-5 };
                if !(error <= bound && (format.is_quantised() || largest <= 3e-3) && off > 10.0 * bound) {
                    failures
                        .push(format!("{backend}: {family} {format}: nmse {error:e}, largest {largest:e}, without the adapter {off:e}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn an_adapter_is_what_its_merged_weights_are() {
    for family in FAMILIES {
        let file = tiny(family, Format::F32);
        let adapter = RandomAdapter::of(&file, 2, 5, true, |_| true);
        let opened = open_gguf(adapter.gguf(GgmlType::F32)).unwrap();
        let merged = open_bytes(family, adapter.merged(RandomModel::of(family, Format::F32, false), 0.5).finish()).unwrap();
        let merged_logits = |kv| {
            let mut session = Session::open(Reference::new(kv, Inputs::Exact), &merged, Config::from_file(&merged).unwrap()).unwrap();
            wide(&session.logits(&prompt(), &generated(), 19).unwrap())
        };
        // Nothing but the rounding of merged weights to f32 lies between these two.
        let exact = answer(Reference::new(KvPrecision::F64, Inputs::Exact), family, Format::F32, Some((&opened, 0.5))).0;
        let error = largest_error(&exact, &merged_logits(KvPrecision::F64));
        let without = largest_error(
            &answer(Reference::new(KvPrecision::F64, Inputs::Exact), family, Format::F32, None).0,
            &merged_logits(KvPrecision::F64),
        );
        println!("{family}: {error:.1e} in f64, {without:.1e} without the adapter");
        assert!(error <= 1e-5, "{family}: {error:e}");
        assert!(without > 1e-2, "{family}: the adapter hardly matters: {without:e}");
        // A backend's f32 may round a key or value to the other side of an f16.
        let want = merged_logits(KvPrecision::F16);
        for backend in backends("merged weights") {
            let error = largest_error(&on(&backend, family, Format::F32, Some((&opened, 0.5))), &want);
            println!("{backend:24} {family}: {error:.1e}");
            assert!(error <= 1e-3, "{backend} {family}: {error:e}");
        }
    }
}

#[test]
fn the_same_adapter_gives_the_same_bits_in_every_form() {
    for backend in backends("forms of adapters") {
        for family in ["llama", "phi3", "qwen2", "gemma2"] {
            let file = tiny(family, Format::F32);
            let adapter = RandomAdapter::of(&file, 3, 4, true, |_| true);
            let bits = |opened: &AdapterFile| -> Vec<u32> {
                on(&backend, family, Format::F32, Some((opened, 1.0))).iter().map(|v| v.to_bits()).collect()
            };
            let gguf = bits(&open_gguf(adapter.gguf(GgmlType::F32)).unwrap());
            assert!(gguf == bits(&open_adapter(adapter.peft(json!({}))).unwrap()), "{backend} {family}: PEFT differs from GGUF");
            if family != "llama" {
                continue;
            }
            // α of 2·√rank under rsLoRA is α of 2·rank without.
            let even = RandomAdapter::of(&file, 4, 4, false, |_| true);
            let plain = RandomAdapter { alpha: 8.0, ..even.clone() };
            let stabilised = RandomAdapter { alpha: 4.0, rank_stabilised: true, ..even.clone() };
            let by_pattern = RandomAdapter { alpha: 3.0, ..even };
            let wanted = bits(&open_gguf(plain.gguf(GgmlType::F32)).unwrap());
            assert!(wanted == bits(&open_adapter(stabilised.peft(json!({}))).unwrap()), "{backend}: rsLoRA");
            let patterns = json!({"alpha_pattern": {"layers\\.[01]\\..*_proj": 8.0}});
            assert!(wanted == bits(&open_adapter(by_pattern.peft(patterns)).unwrap()), "{backend}: alpha_pattern");
        }
    }
}

#[test]
fn every_type_is_taken_as_what_it_means() {
    let file = tiny("llama", Format::F32);
    let backend = BackendChoice::Cpu;
    // Rows of B are as long as the rank: Q8_0 needs whole blocks of it.
    for (ty, rank) in [(GgmlType::F16, 7), (GgmlType::BF16, 7), (GgmlType::Q8_0, 32), (GgmlType::Q4_0, 64)] {
        let adapter = RandomAdapter::of(&file, 5, rank, false, |name| !name.contains("ffn_down"));
        let bits = |writer| -> Vec<u32> {
            let opened = open_gguf(writer).unwrap();
            on(&backend, "llama", Format::F32, Some((&opened, 1.0))).iter().map(|v| v.to_bits()).collect()
        };
        assert!(bits(adapter.gguf(ty)) == bits(adapter.clone().rounded(ty).gguf(GgmlType::F32)), "{ty}");
    }
}
