//! What validated text says of itself: bindings, workgroup size and memory, overrides, and the layout of its uniform.

use naga::{AddressSpace, Module, Scalar, ScalarKind, StorageAccess, TypeInner};

/// A binding of group 0.
pub(crate) struct Binding {
    pub(crate) name: String,
    pub(crate) index: u32,
    pub(crate) kind: BindingKind,
}

pub(crate) enum BindingKind {
    Uniform(u32),
    Read,
    ReadWrite,
}

/// What was found.
pub(crate) struct Reflection {
    pub(crate) workgroup_size: [u32; 3],
    pub(crate) workgroup_bytes: u32,
    /// Ascending by index.
    pub(crate) bindings: Vec<Binding>,
    /// Names and defaults, in order of declaration.
    pub(crate) overrides: Vec<(String, f64)>,
    /// Members of the uniform struct: name, offset, size.
    pub(crate) params: Vec<(String, u32, u32)>,
}

/// Reflects the module's one entry point, which must be called `entry`.
pub(crate) fn reflect(module: &Module, entry: &str) -> Result<Reflection, String> {
    let [point] = module.entry_points.as_slice() else {
        return Err(format!("{} entry points; a kernel has one", module.entry_points.len()));
    };
    if point.name != entry {
        return Err(format!("the entry point is called `{}`, not `{entry}`", point.name));
    }
    let mut bindings = Vec::new();
    let mut params = Vec::new();
    let mut workgroup_bytes = 0;
    for (_, global) in module.global_variables.iter() {
        let size = module.types[global.ty].inner.size(module.to_ctx());
        if global.space == AddressSpace::WorkGroup {
            workgroup_bytes += size.next_multiple_of(16);
        }
        let Some(binding) = &global.binding else { continue };
        let name = global.name.clone().unwrap_or_default();
        if binding.group != 0 {
            return Err(format!("`{name}` is in group {}; all bindings are in group 0", binding.group));
        }
        let kind = match global.space {
            AddressSpace::Uniform => {
                let TypeInner::Struct { members, .. } = &module.types[global.ty].inner else {
                    return Err(format!("uniform `{name}` is no struct"));
                };
                for member in members {
                    let size = module.types[member.ty].inner.size(module.to_ctx());
                    params.push((member.name.clone().unwrap_or_default(), member.offset, size));
                }
                BindingKind::Uniform(size)
            }
            AddressSpace::Storage { access } if access.contains(StorageAccess::STORE) => BindingKind::ReadWrite,
            AddressSpace::Storage { .. } => BindingKind::Read,
            other => return Err(format!("`{name}` is in {other:?}; kernels bind uniforms and storage only")),
        };
        bindings.push(Binding { name, index: binding.binding, kind });
    }
    bindings.sort_by_key(|b| b.index);
    if bindings.iter().enumerate().any(|(i, b)| b.index != i as u32) {
        return Err("bindings do not count up from 0".into());
    }
    let storage = bindings.iter().filter(|b| !matches!(b.kind, BindingKind::Uniform(_))).count();
    if storage > 8 {
        return Err(format!("{storage} storage buffers; WebGPU promises 8 a stage"));
    }
    if workgroup_bytes > 16384 {
        return Err(format!("{workgroup_bytes} bytes of workgroup memory; WebGPU promises 16384"));
    }
    if point.workgroup_size.iter().product::<u32>() > 256 {
        return Err(format!("{:?} invocations; WebGPU promises 256", point.workgroup_size));
    }
    let mut overrides = Vec::new();
    for (_, item) in module.overrides.iter() {
        let name = item.name.clone().unwrap_or_default();
        let TypeInner::Scalar(Scalar { kind: ScalarKind::Uint, .. }) = module.types[item.ty].inner else {
            return Err(format!("override `{name}` is no u32"));
        };
        let Some(naga::Expression::Literal(naga::Literal::U32(default))) = item.init.map(|init| &module.global_expressions[init]) else {
            return Err(format!("override `{name}` has no plain default"));
        };
        overrides.push((name, f64::from(*default)));
    }
    Ok(Reflection { workgroup_size: point.workgroup_size, workgroup_bytes, bindings, overrides, params })
}
