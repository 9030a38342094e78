//! The shipped text: what the browser's compiler says of it, whether parameters lie as the text reads them, whether the lint
//! refuses what it must, and whether planes hold what blocks held.

#[path = "../shaders/build/lint.rs"]
mod lint;

use firecrest_engine::quant::{GgmlType, dequantise};
use firecrest_shaders::params::{
    Adjustment, AttendParams, DrawInfo, EmbedParams, LoraEntry, LoraParams, MatrixParams, NormParams, RopeParams, RowInfo, SampleParams,
};
use firecrest_shaders::planes::{Layout, Planes, repack};
use firecrest_shaders::reference::{Random, Weights, check_cases};
use firecrest_shaders::{BindingKind, Format, Kernel, TABLE};
use std::mem::{offset_of, size_of};
use std::path::PathBuf;
use std::process::Command;

/// The browser's WGSL compiler: `FIRECREST_TINT`, or `tint` on the path.
fn tint() -> PathBuf {
    std::env::var_os("FIRECREST_TINT").map_or_else(|| PathBuf::from("tint"), PathBuf::from)
}

#[test]
fn the_browsers_compiler_takes_every_row() {
    let tint = tint();
    if Command::new(&tint).arg("--help").output().is_err() {
        firecrest_tests::skip("tint over every row", "there is no `tint`: put it on the path or name it by FIRECREST_TINT");
        return;
    }
    let folder = std::env::temp_dir().join(format!("firecrest-tint-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let mut refused = Vec::new();
    for variant in TABLE {
        let file = folder.join(format!("{}.wgsl", variant.name));
        std::fs::write(&file, variant.browser_text()).expect("a temporary file");
        let output = Command::new(&tint).args(["--format", "wgsl", "-o"]).arg(folder.join("out")).arg(&file).output().expect("tint runs");
        if !output.status.success() {
            refused.push(format!("{}: {}", variant.name, String::from_utf8_lossy(&output.stderr)));
        }
    }
    std::fs::remove_dir_all(&folder).expect("the temporary folder goes");
    assert!(refused.is_empty(), "{} of {} rows refused:\n{}", refused.len(), TABLE.len(), refused.join("\n"));
}

#[test]
fn native_and_browser_text_differ_by_one_line() {
    for variant in TABLE {
        let browser = variant.browser_text();
        assert_eq!(browser.strip_prefix("enable subgroups;\n").is_some(), variant.needs.subgroups, "{}", variant.name);
        assert_eq!(browser.trim_start_matches("enable subgroups;\n"), variant.wgsl, "{}", variant.name);
        assert!(!variant.wgsl.contains("//"), "{}: comments are stripped", variant.name);
    }
}

/// Name, offset and size of every field.
macro_rules! fields {
    ($ty:ty { $($field:ident),* }) => {{
        let value = <$ty>::default();
        (size_of::<$ty>() as u32, vec![$((stringify!($field), offset_of!($ty, $field) as u32, size_of_val(&value.$field) as u32)),*])
    }};
}

#[test]
fn parameters_lie_as_the_text_reads_them() {
    for variant in TABLE {
        let (size, fields) = match variant.kernel {
            Kernel::Embed => {
                fields!(EmbedParams { columns, rows, first_row, source, first_id, ids, accumulate, x_stride, planes, scale })
            }
            Kernel::Norm => fields!(NormParams { columns, rows, first_row, gather, input_stride, output_stride, eps }),
            Kernel::Matvec | Kernel::Matmul => {
                fields!(MatrixParams {
                    columns,
                    outputs,
                    rows,
                    first_row,
                    x_stride,
                    y_stride,
                    y_offset,
                    gather,
                    planes,
                    eps,
                    softcap,
                    delta_stride
                })
            }
            Kernel::LoraShrink | Kernel::LoraExpand => fields!(LoraParams {
                columns,
                outputs,
                rows,
                first_row,
                x_stride,
                low_stride,
                delta_stride,
                parts,
                ranks,
                gather,
                gather_x,
                eps
            }),
            Kernel::RopeWrite => fields!(RopeParams {
                heads,
                kv_heads,
                head_dim,
                kv_stride,
                qkv_stride,
                rows,
                first_row,
                rotated,
                table_offset,
                table_stride,
                magnitude,
                eps
            }),
            Kernel::AttendSplit | Kernel::AttendReduce | Kernel::AttendPrompt => fields!(AttendParams {
                heads,
                kv_heads,
                head_dim,
                kv_stride,
                qkv_stride,
                att_stride,
                rows,
                first_row,
                table_offset,
                table_stride,
                window,
                causal,
                splits,
                scale,
                softcap
            }),
            Kernel::Sample => fields!(SampleParams { vocab, draws, first_draw }),
        };
        assert_eq!(variant.bindings[0].kind, BindingKind::Uniform(size), "{}: size", variant.name);
        let read: Vec<(&str, u32, u32)> =
            variant.params.iter().filter(|m| !m.name.starts_with("pad")).map(|m| (m.name, m.offset, m.size)).collect();
        assert_eq!(read, fields, "{}", variant.name);
    }
    // An array of these: its stride is its size.
    assert_eq!(size_of::<RowInfo>(), 32);
    assert_eq!(size_of::<DrawInfo>(), 80);
    assert_eq!(size_of::<Adjustment>(), 16);
    assert_eq!(size_of::<LoraEntry>(), 32);
}

#[test]
fn every_row_has_self_check_cases_that_bind_what_it_binds() {
    for variant in TABLE {
        let cases = check_cases(variant);
        assert!(!cases.is_empty(), "{} has no case", variant.name);
        for case in cases {
            assert_eq!(case.buffers.len(), variant.bindings.len(), "{}", variant.name);
            for (name, _) in &case.overrides {
                assert!(variant.overrides.iter().any(|o| o.name == *name), "{} has no override `{name}`", variant.name);
            }
        }
    }
}

/// Every kernel has its file, its twin and its case table, under its name.
#[test]
fn kernels_have_twins_and_cases() {
    let root = firecrest_tests::repository();
    for kernel in Kernel::ALL {
        let name = kernel.name();
        for file in [format!("shaders/wgsl/{name}.wgsl"), format!("shaders/src/reference/{name}.rs")] {
            assert!(root.join(&file).is_file(), "{file} is missing");
        }
        let tests: String = std::fs::read_dir(root.join("tests/kernels"))
            .expect("tests/kernels")
            .map(|entry| std::fs::read_to_string(entry.expect("an entry").path()).expect("a file"))
            .collect();
        assert!(tests.contains(&format!("fn {name}()")), "tests/kernels has no case table `{name}`");
    }
}

/// What the lint must refuse, and why browsers do.
#[test]
fn the_lint_refuses_barriers_where_invocations_may_have_parted() {
    let head = "
        struct Params { n: u32 }
        @group(0) @binding(0) var<uniform> params: Params;
        @group(0) @binding(1) var<storage, read> table: array<u32>;
        @group(0) @binding(2) var<storage, read_write> out: array<u32>;
        var<workgroup> shared_: array<u32, 64>;
        fn pause() { workgroupBarrier(); }
        fn own(t: u32) -> u32 { return t + params.n; }
        fn everyones(t: u32) -> u32 { return params.n; }
    ";
    let verdict = |body: &str| {
        let text = format!(
            "{head} @compute @workgroup_size(64) fn main(@builtin(local_invocation_index) t: u32, @builtin(workgroup_id) w: vec3<u32>) {{ {body} }}"
        );
        let module = naga::front::wgsl::parse_str(&text).unwrap_or_else(|e| panic!("{}", e.emit_to_string(&text)));
        lint::uniformity(&module)
    };
    let refused = [
        "for (var i = 0u; i < out[0]; i++) { workgroupBarrier(); }",
        "if (t < 4u) { workgroupBarrier(); }",
        "if (t < 4u) { return; } workgroupBarrier();",
        "if (table[t] == 1u) { pause(); }",
        "for (var i = 0u; i < 8u; i++) { if (t == i) { break; } workgroupBarrier(); }",
        "for (var i = 0u; i < 8u; i++) { workgroupBarrier(); if (t == i) { break; } }",
        "for (var i = 0u; i < 8u; i++) { if (t == i) { continue; } workgroupBarrier(); }",
        "var n = 3u; if (t == 1u) { n = 5u; } for (var i = 0u; i < n; i++) { workgroupBarrier(); }",
        "var n = 3u; for (var i = 0u; i < 2u; i++) { if (n == 3u) { workgroupBarrier(); } n += t; }",
        "if (shared_[0] == 1u) { workgroupBarrier(); }",
        "if (own(t) == 1u) { workgroupBarrier(); }",
        "if (t == 1u) { _ = subgroupShuffleXor(t, 1u); }",
        "if (out[w.x] == 1u) { _ = subgroupAdd(t); }",
    ];
    for body in refused {
        assert!(verdict(body).is_err(), "the lint lets this pass: {body}");
    }
    let taken = [
        "workgroupBarrier();",
        "for (var i = 0u; i < params.n; i++) { workgroupBarrier(); }",
        "if (table[w.x] == 1u) { workgroupBarrier(); }",
        "if (w.x >= params.n) { return; } workgroupBarrier();",
        "if (t < 4u) { out[t] = 1u; } workgroupBarrier();",
        "for (var i = 0u; i < t; i++) { if (i == 3u) { break; } } workgroupBarrier();",
        "let n = workgroupUniformLoad(&shared_[0]); if (n == 1u) { workgroupBarrier(); }",
        "if (everyones(t) == 1u) { pause(); }",
        "var n = 0u; for (var i = 0u; i < params.n; i++) { n += table[i]; } if (n == 1u) { workgroupBarrier(); }",
    ];
    for body in taken {
        assert_eq!(verdict(body), Ok(()), "{body}");
    }
}

/// Blocks of any bytes whose scales are finite.
fn blocks(random: &mut Random, format: Format, count: usize) -> Vec<u8> {
    let mut blocks = Vec::new();
    for _ in 0..count {
        let at = blocks.len();
        blocks.extend((0..format.block_bytes()).map(|_| random.bits() as u8));
        let scales: &[usize] = match format {
            Format::F32 => &[2],
            Format::F16 | Format::Q4_0 | Format::Q8_0 => &[0],
            Format::Q4K => &[0, 2],
            Format::Q6K => &[208],
        };
        for scale in scales {
            // Clears an exponent bit, so that it is neither infinite nor NaN.
            blocks[at + scale + 1] &= 0xbf;
        }
    }
    blocks
}

#[test]
fn planes_hold_what_blocks_held() {
    let mut random = Random::new(9);
    for format in Format::ALL {
        let ty = match format {
            Format::F32 => GgmlType::F32,
            Format::F16 => GgmlType::F16,
            Format::Q4_0 => GgmlType::Q4_0,
            Format::Q8_0 => GgmlType::Q8_0,
            Format::Q4K => GgmlType::Q4K,
            Format::Q6K => GgmlType::Q6K,
        };
        // An odd number of blocks a row: rows of some planes are padded then.
        for (rows, columns) in [(1, format.block_len()), (5, 3 * format.block_len()), (4, 6 * format.block_len()), (3, 5 * 256)] {
            let blocks = blocks(&mut random, format, rows * columns / format.block_len());
            let layout = Layout::new(format, rows, columns);
            let mut bytes = vec![0xffu8; layout.bytes];
            let mut planes = Planes::default();
            // Row by row, backwards: any order and any grouping must do.
            for row in (0..rows).rev() {
                let size = format.row_bytes(columns);
                repack(format, columns, &blocks[row * size..][..size], &mut planes);
                for (plane, part) in layout.planes.iter().zip(&planes.bytes) {
                    assert_eq!(part.len(), plane.row_bytes);
                    assert!(plane.offset % 16 == 0 && plane.row_bytes % 4 == 0);
                    bytes[plane.offset + row * plane.row_bytes..][..part.len()].copy_from_slice(part);
                }
            }
            let words: Vec<u32> = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            let weights = Weights::new(format, layout.offsets(), columns as u32, &words);
            let mut wanted = vec![0f32; rows * columns];
            dequantise(ty, &blocks, &mut wanted);
            for (i, want) in wanted.iter().enumerate() {
                let is = weights.value(i / columns, i % columns) as f32;
                // Q4_K's last subtraction is rounded by ggml before, by us after.
                let tolerance = if format == Format::Q4K { want.abs().max(1.0) * 1e-5 } else { 0.0 };
                assert!((is - want).abs() <= tolerance, "{format} {rows}×{columns}, value {i}: {is} is not {want}");
            }
        }
    }
}
