//! llama.cpp's own adapters beside ours (`cargo xtask test --full`).

use std::process::Command;

use firecrest_engine::batch::Class;
use firecrest_engine::model::{Config, PlanKind};
use firecrest_engine::quant::{Format, GgmlType};
use firecrest_tests::backends::backends;
use firecrest_tests::interpreter::{largest_error, nmse};
use firecrest_tests::random_adapters::{RandomAdapter, open_gguf};
use firecrest_tests::random_models::{RandomModel, VOCAB, open_bytes};
use firecrest_tests::runner::Session;
use firecrest_tests::{oracle, repository};

use super::prompt;

#[test]
fn llama_cpp_gives_the_same_logits() {
    let Some(python) = oracle("LoRA beside llama.cpp") else { return };
    let folder = std::env::temp_dir().join(format!("firecrest-lora-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for (family, format) in
        [("llama", Format::F32), ("llama", Format::Q8_0), ("qwen2", Format::F32), ("phi3", Format::F32), ("gemma2", Format::F32)]
    {
        let architecture = family;
        let base = RandomModel::of(family, format, false)
            .str("tokenizer.ggml.model", "none")
            .u32(&format!("{architecture}.vocab_size"), VOCAB as u32)
            .finish();
        let file = open_bytes(family, base.clone()).unwrap();
        // llama.cpp takes an adapter of a head only where the file has one of its own.
        let adapter = RandomAdapter::of(&file, 6, 8, true, |_| true).gguf(GgmlType::F32);
        let (base_path, adapter_path, output) = (folder.join("base.gguf"), folder.join("adapter.gguf"), folder.join("logits"));
        std::fs::write(&base_path, base).unwrap();
        std::fs::write(&adapter_path, adapter.clone().finish()).unwrap();
        let tokens = prompt().iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        let run = Command::new(&python)
            .arg(repository().join("tests/oracle/lora.py"))
            .args([base_path.as_os_str(), adapter_path.as_os_str(), "0.75".as_ref(), tokens.as_ref(), output.as_os_str()])
            .output()
            .unwrap();
        assert!(run.status.success(), "{family}: {}", String::from_utf8_lossy(&run.stderr));
        let theirs: Vec<f64> =
            std::fs::read(&output).unwrap().chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect();
        for backend in backends("LoRA beside llama.cpp") {
            let mut session = Session::open(backend.take(), &file, Config::from_file(&file).unwrap()).unwrap();
            session.adapt(&open_gguf(adapter.clone()).unwrap(), 0.75).unwrap();
            let ours = session.feed(PlanKind::Logits, &prompt(), Class::Prompt).unwrap();
            backend.give_back(session.into_runner());
            let (error, largest) = (nmse(&ours, &theirs), largest_error(&ours, &theirs));
            println!("{backend:24} {family} {format}: nmse {error:.1e}, largest {largest:.1e}");
            assert!(error <= if format.is_quantised() { 5e-3 } else { 1e-5 }, "{backend} {family} {format}: {error:e}");
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
