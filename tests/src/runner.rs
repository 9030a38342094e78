//! Runs whole models on anything that runs plans: the backends, and the float64 interpreter that judges them.
//!
//! [`Session`] is the smallest engine there can be: one sequence, whose pages are dealt out of order and whose window
//! groups let pages go as soon as they may, so that a backend that looks where it should not is seen.

use std::collections::BTreeMap;

use firecrest_engine::backend::{AdapterId, Backend, MatrixId, MatrixSpec, Outputs, VectorId};
use firecrest_engine::batch::{Batch, Class, Row, RowToken, SequenceView};
use firecrest_engine::file::{AdapterFile, ModelFile};
use firecrest_engine::kv::{KvFormat, KvGroup, PAGE_LEN, PageId};
use firecrest_engine::model::{AdapterWeights, Config, Model, Plan, PlanKind, WeightTarget};
use firecrest_engine::quant::{GgmlType, dequantise};
use firecrest_engine::{Error, Result};

use crate::interpreter::{Inputs, Interpreter, KvPrecision, Matrix};

/// Whatever holds weights and runs plans over them.
pub trait Runner: WeightTarget {
    /// Allocates the cache.
    fn allocate_kv(&mut self, groups: &[KvGroup]) -> Result<()>;

    /// Stores an adapter.
    fn load_adapter(&mut self, id: AdapterId, adapter: AdapterWeights) -> Result<()>;

    /// Runs one step and returns OUT, `[outputs · plan.widths.out]`.
    fn step(&mut self, plan: &Plan, batch: &Batch) -> Result<Vec<f32>>;
}

impl Runner for Backend {
    fn allocate_kv(&mut self, groups: &[KvGroup]) -> Result<()> {
        Backend::allocate_kv(self, groups)
    }

    fn load_adapter(&mut self, id: AdapterId, adapter: AdapterWeights) -> Result<()> {
        pollster::block_on(Backend::load_adapter(self, id, &adapter))
    }

    fn step(&mut self, plan: &Plan, batch: &Batch) -> Result<Vec<f32>> {
        let mut outputs = Outputs::default();
        pollster::block_on(async {
            self.run(plan, batch).await?;
            self.read(&mut outputs).await
        })?;
        Ok(outputs.values)
    }
}

/// The interpreter, loaded from a file as a backend is.
pub struct Reference {
    interpreter: Interpreter,
    /// Given to the interpreter with the first step, when every row has been written.
    loading: BTreeMap<MatrixId, Matrix>,
    next: u32,
}

impl Reference {
    /// A reference without weights.
    pub fn new(kv: KvPrecision, inputs: Inputs) -> Reference {
        Reference { interpreter: Interpreter::new(kv, inputs), loading: BTreeMap::new(), next: 0 }
    }

    fn next(&mut self) -> u32 {
        self.next += 1;
        self.next
    }
}

impl WeightTarget for Reference {
    fn matrix(&mut self, spec: &MatrixSpec) -> Result<MatrixId> {
        let id = MatrixId(self.next());
        // NaN where a row is never written.
        let values = vec![f32::NAN; spec.rows * spec.columns];
        self.loading.insert(id, Matrix { format: spec.format, rows: spec.rows, columns: spec.columns, values });
        Ok(id)
    }

    fn write_rows(&mut self, matrix: MatrixId, first_row: usize, blocks: &[u8]) -> Result<()> {
        let m = self.loading.get_mut(&matrix).ok_or_else(|| Error::internal(format!("rows of unknown {matrix:?}")))?;
        let rows = blocks.len() / m.format.row_bytes(m.columns);
        let values = &mut m.values[first_row * m.columns..(first_row + rows) * m.columns];
        dequantise(GgmlType::from(m.format), blocks, values);
        Ok(())
    }

    fn vector(&mut self, _name: &str, values: &[f32]) -> Result<VectorId> {
        let id = VectorId(self.next());
        self.interpreter.set_vector(id, values);
        Ok(id)
    }
}

impl Runner for Reference {
    fn allocate_kv(&mut self, groups: &[KvGroup]) -> Result<()> {
        self.interpreter.allocate_kv(groups);
        Ok(())
    }

    fn load_adapter(&mut self, id: AdapterId, adapter: AdapterWeights) -> Result<()> {
        self.interpreter.adapt(id, adapter);
        Ok(())
    }

    fn step(&mut self, plan: &Plan, batch: &Batch) -> Result<Vec<f32>> {
        for (id, matrix) in std::mem::take(&mut self.loading) {
            self.interpreter.set_matrix(id, matrix);
        }
        Ok(self.interpreter.run(plan, batch).into_iter().flatten().map(|v| v as f32).collect())
    }
}

/// One sequence on one model.
pub struct Session<R> {
    runner: R,
    /// The model that runs.
    pub model: Model,
    groups: Vec<KvGroup>,
    tables: Vec<Vec<PageId>>,
    position: u32,
    /// What its rows are computed with.
    pub adapter: Option<AdapterId>,
}

impl<R: Runner> Session<R> {
    /// Loads a file's model and makes room for `config.context` positions.
    pub fn open(runner: R, file: &ModelFile, config: Config) -> Result<Session<R>> {
        Session::open_with(runner, file, config, KvFormat::F16)
    }

    /// The same with keys and values stored otherwise.
    pub fn open_with(mut runner: R, file: &ModelFile, config: Config, kv: KvFormat) -> Result<Session<R>> {
        let blocks = config.context.div_ceil(PAGE_LEN as u32);
        // Pages that are dealt out must differ, and 7 must not divide their number.
        let pages = if blocks.is_multiple_of(7) { blocks + 1 } else { blocks };
        let model = pollster::block_on(Model::load_configured(config, file, &mut runner, &mut |_, _| {}))?;
        let groups = model.kv_groups(pages, kv);
        runner.allocate_kv(&groups)?;
        let dealt: Vec<PageId> = (0..blocks).map(|b| PageId((b * 7 + 3) % pages)).collect();
        let tables = vec![dealt; groups.len()];
        Ok(Session { runner, model, groups, tables, position: 0, adapter: None })
    }

    /// Loads an adapter and has every row from now on computed with it. Once a session.
    pub fn adapt(&mut self, file: &AdapterFile, strength: f32) -> Result<()> {
        let id = AdapterId(7);
        let weights = pollster::block_on(self.model.read_adapter(file, strength))?;
        self.runner.load_adapter(id, weights)?;
        self.adapter = Some(id);
        Ok(())
    }

    /// Ends the session; what it ran on, with the model still in it.
    pub fn into_runner(self) -> R {
        self.runner
    }

    /// Feeds tokens that follow those fed before, as one step, and returns OUT of every row.
    pub fn feed(&mut self, kind: PlanKind, tokens: &[u32], class: Class) -> Result<Vec<f32>> {
        let first = self.position;
        for (table, group) in self.tables.iter_mut().zip(&self.groups) {
            let unseen = group.window.map_or(0, |w| (first + 1).saturating_sub(w)) as usize / PAGE_LEN;
            table[..unseen].fill(PageId::NONE);
        }
        self.position += tokens.len() as u32;
        let used = self.position.div_ceil(PAGE_LEN as u32) as usize;
        let batch = Batch {
            rows: (first..)
                .zip(tokens)
                .map(|(position, &id)| Row { sequence: 0, position, token: RowToken::Known(id), class, segment: 0 })
                .collect(),
            sequences: vec![SequenceView {
                length: self.position,
                tables: self.tables.iter().map(|t| t[..used].to_vec()).collect(),
                adapter: self.adapter,
            }],
            outputs: (0..tokens.len() as u32).collect(),
            ..Batch::default()
        };
        self.runner.step(self.model.plan(kind)?, &batch)
    }

    /// Logits of every row: `prompt` in chunks of `chunk` rows of the prompt class, then `generated` one by one.
    pub fn logits(&mut self, prompt: &[u32], generated: &[u32], chunk: usize) -> Result<Vec<f32>> {
        let mut out = Vec::new();
        for tokens in prompt.chunks(chunk) {
            out.extend(self.feed(PlanKind::Logits, tokens, Class::Prompt)?);
        }
        for token in generated.chunks(1) {
            out.extend(self.feed(PlanKind::Logits, token, Class::Generated)?);
        }
        Ok(out)
    }

    /// Final states of every row of one step.
    pub fn states(&mut self, tokens: &[u32]) -> Result<Vec<f32>> {
        self.feed(PlanKind::States, tokens, Class::Prompt)
    }
}

/// Opens a model file, or a Hugging Face folder.
pub fn open(path: &std::path::Path) -> Result<ModelFile> {
    pollster::block_on(ModelFile::open(firecrest_weights::native::open_model(path)?))
}
