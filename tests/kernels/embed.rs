use firecrest_shaders::params::embed_source;
use firecrest_shaders::reference::EmbedCase;
use firecrest_shaders::{Kernel, Variant};
use firecrest_tests::kernel_runner::check_all;

#[test]
fn embed() {
    check_all(Kernel::Embed, |variant: &'static Variant| {
        let block = variant.format.map_or(1, |f| f.block_len() as u32);
        let tokens = EmbedCase {
            columns: 768,
            first_id: 0,
            ids: 20,
            rows: 5,
            first_row: 0,
            source: embed_source::TOKEN,
            accumulate: false,
            scale: 1.0,
        };
        let mut cases = vec![
            tokens.case(variant),
            // A masked piece, rows after the prompt's, Gemma's scale.
            EmbedCase { first_id: 17, first_row: 3, scale: 27.712812, ..tokens }.case(variant),
            EmbedCase { source: embed_source::SEGMENT, accumulate: true, ..tokens }.case(variant),
            EmbedCase { source: embed_source::POSITION, accumulate: true, columns: 2560, ..tokens }.case(variant),
            EmbedCase { columns: block, ids: 1, rows: 1, ..tokens }.case(variant),
        ];
        if block == 1 {
            // Rows that end within a chunk.
            cases.extend([1, 31, 33, 172].map(|columns| EmbedCase { columns, ..tokens }.case(variant)));
        }
        cases
    });
}
