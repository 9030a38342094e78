//! Turns `variants.toml` and `wgsl/` into the table: links each row's text, validates it with naga under exactly the row's
//! capabilities, lints its control flow, reflects it, and writes what was found as Rust.

mod link;
mod lint;
mod reflect;

use naga::valid::{Capabilities, ValidationFlags, Validator};
use reflect::{BindingKind, Reflection};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// One row of `variants.toml`.
struct Row {
    name: String,
    kernel: String,
    format: Option<String>,
    kv: Option<String>,
    rung: String,
    constants: Vec<(String, u32)>,
}

fn main() {
    println!("cargo:rerun-if-changed=build");
    println!("cargo:rerun-if-changed=wgsl");
    println!("cargo:rerun-if-changed=variants.toml");
    if let Err(message) = build() {
        eprintln!("{message}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").map_err(|e| e.to_string())?);
    let out = PathBuf::from(std::env::var("OUT_DIR").map_err(|e| e.to_string())?);
    let toml = std::fs::read_to_string(root.join("variants.toml")).map_err(|e| format!("variants.toml: {e}"))?;
    let rows = rows(&toml)?;
    let mut table = String::from("&[\n");
    for (i, row) in rows.iter().enumerate() {
        if rows[..i].iter().any(|other| other.name == row.name) {
            return Err(format!("variants.toml: two rows are called `{}`", row.name));
        }
        let (text, found) = make(&root, row).map_err(|e| format!("variant `{}`: {e}", row.name))?;
        write_row(&mut table, row, &text, &found).map_err(|e| e.to_string())?;
    }
    table += "]\n";
    std::fs::write(out.join("table.rs"), table).map_err(|e| e.to_string())
}

/// Reads the closed list. A row is `{ kernel, format?, kv?, rung, CONSTANT = n, … }`; a missing or unknown key is an error.
fn rows(text: &str) -> Result<Vec<Row>, String> {
    let table: toml::Table = text.parse().map_err(|e| format!("variants.toml: {e}"))?;
    let list = table.get("variants").and_then(|v| v.as_array()).ok_or("variants.toml: no list `variants`")?;
    let mut rows = Vec::new();
    for (i, entry) in list.iter().enumerate() {
        let entry = entry.as_table().ok_or_else(|| format!("variants.toml: row {i} is no table"))?;
        let word = |key: &str| entry.get(key).and_then(|v| v.as_str()).map(str::to_owned);
        let kernel = word("kernel").ok_or_else(|| format!("variants.toml: row {i} has no kernel"))?;
        let rung = word("rung").ok_or_else(|| format!("variants.toml: row {i} has no rung"))?;
        let format = word("format");
        let kv = word("kv");
        if kv.as_deref().is_some_and(|kv| !["f16", "int8"].contains(&kv)) {
            return Err(format!("variants.toml: row {i}: `kv` is f16 or int8"));
        }
        let mut constants = Vec::new();
        for (key, value) in entry.iter().filter(|(key, _)| !["kernel", "format", "kv", "rung"].contains(&key.as_str())) {
            let value = value.as_integer().and_then(|v| u32::try_from(v).ok());
            constants.push((key.clone(), value.ok_or_else(|| format!("variants.toml: row {i}: `{key}` is no count"))?));
        }
        let mut name = kernel.clone();
        if let Some(format) = &format {
            name += &format!("_{}", format.to_lowercase());
        }
        if kv.as_deref() == Some("int8") {
            name += "_int8";
        }
        // The first constant tells sizes of one family apart; the others follow from it.
        for (key, value) in constants.iter().filter(|(key, _)| ["ROWS", "GROUP", "HEAD_DIM"].contains(&key.as_str())) {
            name += &format!("_{}{value}", &key[..1].to_lowercase());
        }
        name += &format!("_{rung}");
        rows.push(Row { name, kernel, format, kv, rung, constants });
    }
    Ok(rows)
}

/// Links, validates, lints and reflects one row.
fn make(root: &Path, row: &Row) -> Result<(String, Reflection), String> {
    let subgroups = row.rung.contains("subgroup");
    let f16 = row.rung == "f16";
    let mut names: link::Names = row.constants.iter().cloned().collect();
    names.insert("SUBGROUP".into(), subgroups.into());
    names.insert("F16".into(), f16.into());
    names.insert("INTDOT".into(), row.rung.contains("intdot").into());
    if let Some(kv) = &row.kv {
        names.insert("INT8".into(), (kv == "int8").into());
    }
    let mut text = String::new();
    if f16 {
        text += "enable f16;\n";
    }
    for (name, value) in &row.constants {
        text += &format!("const {name}: u32 = {value}u;\n");
    }
    let format = row.format.clone().unwrap_or_default().to_lowercase();
    text += &link::link(&root.join("wgsl"), &format!("{}.wgsl", row.kernel), &format, &names)?;

    let mut capabilities = Capabilities::SHADER_FLOAT16_IN_FLOAT32;
    capabilities.set(Capabilities::SUBGROUP, subgroups);
    capabilities.set(Capabilities::SHADER_FLOAT16, f16);
    let module = naga::front::wgsl::parse_str(&text).map_err(|e| e.emit_to_string(&text))?;
    Validator::new(ValidationFlags::all(), capabilities).validate(&module).map_err(|e| e.emit_to_string(&text))?;
    lint::uniformity(&module)?;
    let found = reflect::reflect(&module, &row.kernel)?;
    Ok((text, found))
}

/// `attend_split` → `AttendSplit`, `q4_k` → `Q4K`.
fn camel(name: &str) -> String {
    name.split('_')
        .map(|part| {
            let mut letters = part.chars();
            letters.next().map_or(String::new(), |first| first.to_ascii_uppercase().to_string() + letters.as_str())
        })
        .collect()
}

fn write_row(out: &mut String, row: &Row, text: &str, found: &Reflection) -> std::fmt::Result {
    let format = match row.format.as_deref() {
        None => "None".to_owned(),
        Some("Q4_K") => "Some(Format::Q4K)".to_owned(),
        Some("Q6_K") => "Some(Format::Q6K)".to_owned(),
        Some(name) => format!("Some(Format::{name})"),
    };
    let rung = match row.rung.as_str() {
        "intdot" => "IntDot".to_owned(),
        "intdot_subgroup" => "IntDotSubgroup".to_owned(),
        other => camel(other),
    };
    writeln!(out, "Variant {{")?;
    let kv = row.kv.as_deref().map_or("None".to_owned(), |kv| format!("Some(KvFormat::{})", camel(kv)));
    writeln!(out, "    name: {:?}, kernel: Kernel::{}, format: {format}, kv: {kv}, rung: Rung::{rung},", row.name, camel(&row.kernel))?;
    writeln!(out, "    constants: &{:?},", row.constants.iter().map(|(n, v)| (n.as_str(), *v)).collect::<Vec<_>>())?;
    writeln!(out, "    needs: Needs {{ subgroups: {}, f16: {} }},", row.rung.contains("subgroup"), row.rung == "f16")?;
    writeln!(out, "    wgsl: {text:?},")?;
    writeln!(out, "    workgroup_size: {:?}, workgroup_bytes: {},", found.workgroup_size, found.workgroup_bytes)?;
    write!(out, "    bindings: &[")?;
    for binding in &found.bindings {
        let kind = match binding.kind {
            BindingKind::Uniform(bytes) => format!("Uniform({bytes})"),
            BindingKind::Read => "Read".to_owned(),
            BindingKind::ReadWrite => "ReadWrite".to_owned(),
        };
        write!(out, "Binding {{ name: {:?}, index: {}, kind: BindingKind::{kind} }}, ", binding.name, binding.index)?;
    }
    write!(out, "],\n    overrides: &[")?;
    for (name, default) in &found.overrides {
        write!(out, "Override {{ name: {name:?}, default: {default:?} }}, ")?;
    }
    write!(out, "],\n    params: &[")?;
    for (name, offset, size) in &found.params {
        write!(out, "Member {{ name: {name:?}, offset: {offset}, size: {size} }}, ")?;
    }
    writeln!(out, "],\n}},")
}
