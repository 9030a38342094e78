//! Rope, the write to the cache, and attention.

use super::*;

impl Lowering<'_> {
    pub(super) fn rope_write(
        &mut self,
        rope: Option<&Rope>,
        qk_norm: Option<(VectorId, VectorId, f32)>,
        attention: &Attention,
    ) -> Result<()> {
        let Attention { layer, heads, kv_heads, head_dim, .. } = *attention;
        let kv = self.kv_format(attention)?;
        let params = RopeParams {
            heads,
            kv_heads,
            head_dim,
            kv_stride: params::kv_stride(head_dim, kv),
            qkv_stride: stride(self.plan.widths.qkv),
            rows: self.rows(),
            first_row: 0,
            rotated: rope.map_or(0, |rope| rope.rotated),
            table_offset: self.table_offset(attention),
            table_stride: self.program.table_stride,
            magnitude: rope.map_or(1.0, |rope| rope.magnitude),
            eps: qk_norm.map_or(0.0, |(_, _, eps)| eps),
        };
        let pairs = match rope.map(|rope| rope.pairs) {
            None => rope_pairs::NONE,
            Some(RopePairs::Adjacent) => rope_pairs::ADJACENT,
            Some(RopePairs::Halves) => rope_pairs::HALVES,
        };
        let operands = [
            ("rows", Operand::Step(StepBuffer::Rows, 0)),
            ("tables", Operand::Step(StepBuffer::Tables, 0)),
            ("frequencies", rope.map_or(Operand::Zero, |rope| Operand::Vector(rope.frequencies))),
            ("q_gain", qk_norm.map_or(Operand::Zero, |(gain, _, _)| Operand::Vector(gain))),
            ("k_gain", qk_norm.map_or(Operand::Zero, |(_, gain, _)| Operand::Vector(gain))),
            ("qkv", Operand::Step(StepBuffer::Qkv, 0)),
            ("k_pages", Operand::Keys(layer)),
            ("v_pages", Operand::Values(layer)),
        ];
        let variant = self.target.selection.rope_write(kv)?;
        let overrides = [("PAIRS", pairs), ("QK_NORM", u32::from(qk_norm.is_some()))];
        self.dispatch(variant, &params, &overrides, &operands, [heads + 2 * kv_heads, self.rows(), 1])
    }

    /// How the layer's group stores keys and values.
    fn kv_format(&self, attention: &Attention) -> Result<KvFormat> {
        let group = self.target.groups.get(attention.group as usize);
        group
            .map(|group| group.format)
            .ok_or_else(|| Error::internal(format!("the plan names KV group {}, which was never made", attention.group)))
    }

    fn table_offset(&self, attention: &Attention) -> u32 {
        attention.group * self.program.table_sequences * self.program.table_stride
    }

    pub(super) fn attend(&mut self, attention: &Attention) -> Result<()> {
        let Attention { layer, heads, kv_heads, head_dim, window, scale, softcap, causal, .. } = *attention;
        let kv = self.kv_format(attention)?;
        let att_stride = stride(self.plan.widths.attention);
        self.reserve(StepBuffer::Att, u64::from(self.rows()) * u64::from(att_stride) * 4);
        let splits = params::splits(self.shape.longest, if causal { window.unwrap_or(0) } else { 0 });
        let template = AttendParams {
            heads,
            kv_heads,
            head_dim,
            kv_stride: params::kv_stride(head_dim, kv),
            qkv_stride: stride(self.plan.widths.qkv),
            att_stride,
            table_offset: self.table_offset(attention),
            table_stride: self.program.table_stride,
            window: window.unwrap_or(0),
            causal: u32::from(causal),
            splits,
            scale,
            softcap: softcap.unwrap_or(0.0),
            ..AttendParams::default()
        };
        let operands = [
            ("rows", Operand::Step(StepBuffer::Rows, 0)),
            ("tables", Operand::Step(StepBuffer::Tables, 0)),
            ("tiles", Operand::Step(StepBuffer::Tiles, 0)),
            ("qkv", Operand::Step(StepBuffer::Qkv, 0)),
            ("k_pages", Operand::Keys(layer)),
            ("v_pages", Operand::Values(layer)),
            ("partials", Operand::Step(StepBuffer::Partials, 0)),
            ("att", Operand::Step(StepBuffer::Att, 0)),
        ];
        let selection = self.target.selection;
        for rows in self.families() {
            if rows.class == Class::Prompt {
                let variant = selection.attend_prompt(kv, head_dim)?;
                let tiles = self.program.tiles;
                let params = AttendParams { rows: tiles, first_row: 0, ..template };
                self.dispatch(variant, &params, &[], &operands, [heads, tiles, 1])?;
                continue;
            }
            // Partials of many rows of long sequences may pass the binding limit: rows take turns in one buffer.
            let row_bytes = params::partials_len(1, heads, splits, head_dim) * 4;
            let turn = (self.target.binding_limit / row_bytes).min(u64::from(rows.count)).min(u64::from(MAX_GRID)) as u32;
            if turn == 0 {
                return Err(Error::new(
                    ErrorCode::Memory,
                    format!("attention over {} positions does not fit this GPU's bindings", self.shape.longest),
                ));
            }
            self.reserve(StepBuffer::Partials, u64::from(turn) * row_bytes);
            let split = selection.attend_split(kv, heads / kv_heads)?;
            let reduce = selection.only(Kernel::AttendReduce, None)?;
            let mut first = rows.first;
            while first < rows.first + rows.count {
                let count = turn.min(rows.first + rows.count - first);
                let params = AttendParams { rows: count, first_row: first, ..template };
                let groups = kv_heads * (heads / kv_heads).div_ceil(split.group());
                self.dispatch(split, &params, &[], &operands, [groups, splits, count])?;
                self.dispatch(reduce, &params, &[], &operands, [heads, count, 1])?;
                first += count;
            }
        }
        Ok(())
    }
}
