//! Adapters made by chance, most of them nearly right, then damaged: GGUF's and PEFT's, opened and read against a model.

use firecrest_engine::ErrorCode;
use firecrest_engine::file::ModelFile;
use firecrest_engine::model::{Config, Model};
use firecrest_engine::quant::{Format, GgmlType};
use firecrest_tests::interpreter::{Inputs, KvPrecision};
use firecrest_tests::random::Random;
use firecrest_tests::random_adapters::{RandomAdapter, open_adapter};
use firecrest_tests::random_models::{RandomModel, open_bytes};
use firecrest_tests::runner::Reference;
use serde_json::json;

use crate::mutate::{damage, damage_json};
use crate::sweep;

/// What adapters are made for: once a thread, for sources don't cross threads.
fn base() -> &'static (ModelFile, Model) {
    thread_local! {
        static BASE: &'static (ModelFile, Model) = Box::leak(Box::new({
            let file = open_bytes("base", RandomModel::of("llama", Format::F32, false).finish()).unwrap();
            let mut target = Reference::new(KvPrecision::F64, Inputs::Exact);
            let config = Config::from_file(&file).unwrap();
            let model = pollster::block_on(Model::load_configured(config, &file, &mut target, &mut |_, _| {})).unwrap();
            (file, model)
        }));
    }
    BASE.with(|base| *base)
}

/// Opens an adapter and reads it as a model would.
fn open_and_read(files: Vec<(String, Vec<u8>)>) -> Result<(), String> {
    let read = || {
        let file = open_adapter(files)?;
        let weights = pollster::block_on(base().1.read_adapter(&file, 1.0))?;
        for part in &weights.parts {
            assert_eq!((part.a.len(), part.b.len()), ((part.rank * part.columns) as usize, (part.rows * part.rank) as usize));
            assert!(part.a.iter().chain(&part.b).all(|v| v.is_finite()), "{}: a value that is not finite", part.name);
        }
        Ok(())
    };
    read().map_err(|error: firecrest_engine::Error| {
        assert!(error.code() != ErrorCode::Internal, "an internal error: {error}");
        assert!(!error.message().is_empty() && error.message().len() < 4096, "no message for a person: {error}");
        assert!(!error.message().chars().any(|c| c.is_control()), "a message with control characters: {error:?}");
        error.message().to_owned()
    })
}

fn adapter(random: &mut Random) -> RandomAdapter {
    let part = *random.pick(&["attn_q", "attn_v", "ffn_up", "ffn_down"]);
    let rank = 1 + random.below(3);
    RandomAdapter::of(&base().0, random.bits(), rank, rank > 1, |name| name.contains(part))
}

#[test]
fn damaged_gguf_adapters_are_refused() {
    sweep("GGUF adapters", |case| {
        let random = &mut Random::new(case as u64);
        let mut bytes = adapter(random).gguf(*random.pick(&[GgmlType::F32, GgmlType::F16, GgmlType::BF16])).finish();
        for _ in 0..random.below(3) {
            damage(&mut bytes, 600, random);
        }
        open_and_read(vec![("adapter.gguf".into(), bytes)])
    });
}

#[test]
fn damaged_peft_folders_are_refused() {
    const MORE: [&str; 6] = [
        "{}",
        r#"{"use_rslora": true, "alpha_pattern": {"q_proj": 3.5, "layers\\.0\\..*": 2}}"#,
        r#"{"target_modules": ["a", "b"], "exclude_modules": null, "modules_to_save": []}"#,
        r#"{"r": null, "rank_pattern": null, "lora_alpha": 16}"#,
        r#"{"init_lora_weights": "gaussian", "eva_config": {"rho": 2.0}}"#,
        r#"{"bias": "all"}"#,
    ];
    sweep("PEFT adapters", |case| {
        let random = &mut Random::new(case as u64);
        let more = serde_json::from_str(random.pick::<&str>(&MORE)).unwrap_or(json!({}));
        let mut files = adapter(random).peft(more);
        if random.one_in(2) {
            let mut text = String::from_utf8(std::mem::take(&mut files[0].1)).unwrap();
            damage_json(&mut text, random);
            files[0].1 = text.into_bytes();
        }
        if random.one_in(3) {
            damage(&mut files[1].1, 500, random);
        }
        if random.one_in(40) {
            files.remove(random.below(2));
        }
        open_and_read(files)
    });
}

#[test]
fn every_truncation_is_refused() {
    let random = &mut Random::new(1);
    let whole = adapter(random).gguf(GgmlType::F32).finish();
    for length in (0..whole.len() - 32).step_by(7) {
        assert!(open_and_read(vec![("adapter.gguf".into(), whole[..length].to_vec())]).is_err(), "{length} of {}", whole.len());
    }
    let folder = adapter(random).peft(json!({}));
    for (file, (_, bytes)) in folder.iter().enumerate() {
        for length in 0..bytes.len() {
            let mut cut = folder.clone();
            cut[file].1.truncate(length);
            assert!(open_and_read(cut).is_err(), "{length} of {} bytes of file {file}", bytes.len());
        }
    }
}
