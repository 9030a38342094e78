//! Barriers and subgroup operations only where every invocation of a workgroup arrives.
//!
//! naga accepts text that a browser's compiler refuses: a barrier in a loop bounded by a read_write load, a subgroup
//! operation in a branch that neighbours may not take. This walks naga's IR with the browser's rule: control flow around
//! them depends only on constants, overrides, uniforms, read-only storage, workgroup ids, and what is computed from those.

use naga::{
    AddressSpace, Binding, Block, BuiltIn, Expression, Function, GlobalVariable, Handle, LocalVariable, Module, Statement, StorageAccess,
};
use std::collections::{HashMap, HashSet};

/// Checks every entry point. The error names the function and the statement.
pub(crate) fn uniformity(module: &Module) -> Result<(), String> {
    for entry in &module.entry_points {
        let arguments = entry.function.arguments.iter().map(|a| match &a.binding {
            Some(Binding::BuiltIn(builtin)) => matches!(builtin, BuiltIn::WorkGroupId | BuiltIn::NumWorkGroups | BuiltIn::WorkGroupSize),
            // A struct of builtins could mix both kinds; our kernels take them one by one.
            _ => false,
        });
        Walk::new(module, &entry.function, &entry.name, arguments.collect()).run(true)?;
    }
    Ok(())
}

/// One function in one calling context.
struct Walk<'a> {
    module: &'a Module,
    function: &'a Function,
    name: &'a str,
    /// Whether each argument is the same in all invocations.
    arguments: Vec<bool>,
    /// Locals that may differ.
    varying_locals: HashSet<Handle<LocalVariable>>,
    /// Results of calls and of workgroupUniformLoad.
    results: HashMap<Handle<Expression>, bool>,
    /// Whether what the function returns is the same everywhere.
    uniform_return: bool,
    /// Whether control flow has parted for the rest of the function.
    returned: bool,
}

/// What leaving early inside a block does to the loop around it.
#[derive(Clone, Copy, Default)]
struct Flow {
    parted: bool,
}

impl<'a> Walk<'a> {
    fn new(module: &'a Module, function: &'a Function, name: &'a str, arguments: Vec<bool>) -> Self {
        Walk {
            module,
            function,
            name,
            arguments,
            varying_locals: HashSet::new(),
            results: HashMap::new(),
            uniform_return: true,
            returned: false,
        }
    }

    /// Walks until no more locals turn out to vary. Returns whether the result is uniform.
    fn run(mut self, uniform: bool) -> Result<bool, String> {
        for (handle, local) in self.function.local_variables.iter() {
            if local.init.is_some_and(|init| !self.is_uniform(init)) {
                self.varying_locals.insert(handle);
            }
        }
        loop {
            let known = self.varying_locals.len();
            self.returned = false;
            let outcome = self.block(&self.function.body, uniform);
            if self.varying_locals.len() == known {
                outcome?;
                return Ok(self.uniform_return && uniform);
            }
        }
    }

    fn block(&mut self, block: &'a Block, mut uniform: bool) -> Result<Flow, String> {
        let mut flow = Flow::default();
        for statement in block {
            uniform &= !self.returned && !flow.parted;
            flow.parted |= self.statement(statement, uniform)?.parted;
        }
        Ok(flow)
    }

    fn statement(&mut self, statement: &'a Statement, uniform: bool) -> Result<Flow, String> {
        let mut flow = Flow::default();
        match statement {
            Statement::Block(block) => flow = self.block(block, uniform)?,
            Statement::If { condition, accept, reject } => {
                let inside = uniform && self.is_uniform(*condition);
                for block in [accept, reject] {
                    flow.parted |= self.block(block, inside)?.parted;
                }
            }
            Statement::Switch { selector, cases } => {
                let inside = uniform && self.is_uniform(*selector);
                for case in cases {
                    // A `break` in a switch leaves only the switch, so nothing parts beyond it but by `continue` or
                    // `return`; treating all alike is stricter.
                    flow.parted |= self.block(&case.body, inside)?.parted;
                }
            }
            Statement::Loop { body, continuing, break_if } => {
                let mut inside = uniform;
                loop {
                    let mut parted = self.block(body, inside)?.parted;
                    let after = inside && !parted && !self.returned;
                    parted |= self.block(continuing, after)?.parted;
                    parted |= break_if.is_some_and(|condition| !self.is_uniform(condition));
                    if !inside || !(parted || self.returned) {
                        break;
                    }
                    inside = false;
                }
                // Those who broke out early meet the others here.
            }
            Statement::Break | Statement::Continue => flow.parted = !uniform,
            Statement::Return { value } => {
                self.returned |= !uniform;
                self.uniform_return &= uniform && value.is_none_or(|v| self.is_uniform(v));
            }
            Statement::Store { pointer, value } => {
                if let Some(local) = self.local(*pointer)
                    && !(uniform && self.is_uniform(*value) && self.is_uniform_index(*pointer))
                {
                    self.varying_locals.insert(local);
                }
            }
            Statement::ControlBarrier(_) => self.require(uniform, "a barrier")?,
            Statement::WorkGroupUniformLoad { result, .. } => {
                self.require(uniform, "workgroupUniformLoad")?;
                self.results.insert(*result, true);
            }
            Statement::SubgroupBallot { .. } | Statement::SubgroupGather { .. } | Statement::SubgroupCollectiveOperation { .. } => {
                self.require(uniform, "a subgroup operation")?;
            }
            Statement::Call { function, arguments, result } => {
                let callee = &self.module.functions[*function];
                let given: Vec<bool> = arguments.iter().map(|a| self.is_uniform(*a)).collect();
                for argument in arguments {
                    if let Some(local) = self.local(*argument) {
                        self.varying_locals.insert(local);
                    }
                }
                let name = callee.name.as_deref().unwrap_or("?");
                let returned = Walk::new(self.module, callee, name, given).run(uniform)?;
                if let Some(result) = result {
                    self.results.insert(*result, returned);
                }
            }
            _ => {}
        }
        Ok(flow)
    }

    fn require(&self, uniform: bool, what: &str) -> Result<(), String> {
        if uniform { Ok(()) } else { Err(format!("{what} in `{}` stands where invocations of a workgroup may have parted", self.name)) }
    }

    /// The local that a pointer leads to.
    fn local(&self, pointer: Handle<Expression>) -> Option<Handle<LocalVariable>> {
        match &self.function.expressions[pointer] {
            Expression::LocalVariable(local) => Some(*local),
            Expression::Access { base, .. } | Expression::AccessIndex { base, .. } => self.local(*base),
            _ => None,
        }
    }

    fn is_uniform_index(&self, pointer: Handle<Expression>) -> bool {
        match &self.function.expressions[pointer] {
            Expression::Access { base, index } => self.is_uniform(*index) && self.is_uniform_index(*base),
            Expression::AccessIndex { base, .. } => self.is_uniform_index(*base),
            _ => true,
        }
    }

    fn is_uniform_global(&self, global: Handle<GlobalVariable>) -> bool {
        match self.module.global_variables[global].space {
            AddressSpace::Uniform => true,
            AddressSpace::Storage { access } => !access.contains(StorageAccess::STORE),
            _ => false,
        }
    }

    fn is_uniform(&self, expression: Handle<Expression>) -> bool {
        match &self.function.expressions[expression] {
            Expression::Literal(_) | Expression::Constant(_) | Expression::Override(_) | Expression::ZeroValue(_) => true,
            Expression::FunctionArgument(index) => self.arguments.get(*index as usize).copied().unwrap_or(false),
            Expression::GlobalVariable(global) => self.is_uniform_global(*global),
            Expression::LocalVariable(local) => !self.varying_locals.contains(local),
            Expression::Load { pointer } => self.is_uniform(*pointer),
            Expression::Access { base, index } => self.is_uniform(*base) && self.is_uniform(*index),
            Expression::AccessIndex { base, .. } => self.is_uniform(*base),
            Expression::Compose { components, .. } => components.iter().all(|c| self.is_uniform(*c)),
            Expression::Splat { value, .. } => self.is_uniform(*value),
            Expression::Swizzle { vector, .. } => self.is_uniform(*vector),
            Expression::Unary { expr, .. } | Expression::As { expr, .. } => self.is_uniform(*expr),
            Expression::Binary { left, right, .. } => self.is_uniform(*left) && self.is_uniform(*right),
            Expression::Select { condition, accept, reject } => {
                self.is_uniform(*condition) && self.is_uniform(*accept) && self.is_uniform(*reject)
            }
            Expression::Relational { argument, .. } => self.is_uniform(*argument),
            Expression::Math { arg, arg1, arg2, arg3, .. } => {
                [Some(*arg), *arg1, *arg2, *arg3].into_iter().flatten().all(|a| self.is_uniform(a))
            }
            Expression::ArrayLength(_) => true,
            Expression::CallResult(_) | Expression::WorkGroupUniformLoadResult { .. } => {
                self.results.get(&expression).copied().unwrap_or(false)
            }
            // Atomics, subgroup results, anything not met in our kernels.
            _ => false,
        }
    }
}
