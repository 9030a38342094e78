//! The syntax tree of a template, rewritten so that what makes text or lists goes through functions of ours.
//!
//! - `a + b`, literals, filters and calls: their result is paid for ([`PAID`]); none makes more than a small multiple of
//!   what it is given, and what could make more or worse (`*`, `~`, slices, printing) is replaced by a function that pays first.
//! - What is compared, tested, filtered or passed is visited first ([`VISITED`]), because comparing and printing recurse and a list
//!   may hold another many times over.
//! - Text between tags is printed like any value.
//!
//! The tree cannot be changed in place, so it is built anew.

use minijinja::machinery::Span;
use minijinja::machinery::ast::*;
use minijinja::value::Value;

use super::methods::OF_DICTIONARIES;

/// Pays for its argument and returns it.
pub(super) const PAID: &str = "paid for";
/// Visits its argument and returns it.
pub(super) const VISITED: &str = "visited by";
/// Visits its argument, refuses namespaces in it, and returns it.
pub(super) const HELD: &str = "held by";
/// `*`.
pub(super) const TIMES: &str = "times of";
/// `a[b:c:d]`, which minijinja 3.0.5 panics on where a step is negative (`''[::-1]`).
pub(super) const SLICED: &str = "slice of";
/// `%`, of numbers or of a format and its arguments.
pub(super) const REMAINDER: &str = "remainder of";
/// `**`.
pub(super) const POWER: &str = "power of";
/// An attribute whose name a dictionary's method has.
pub(super) const ATTRIBUTE: &str = "attribute of";
/// `~`.
pub(super) const CONCATENATED: &str = "joined with";

fn call<'a>(name: &'static str, args: Vec<Expr<'a>>, span: Span) -> Expr<'a> {
    let expr = Expr::Var(Spanned::new(Var { id: name }, span));
    Expr::Call(Spanned::new(Call { expr, args: args.into_iter().map(CallArg::Pos).collect() }, span))
}

fn paid(expr: Expr<'_>, span: Span) -> Expr<'_> {
    call(PAID, vec![expr], span)
}

/// `expr`, rewritten and visited. What is plainly no list need not be.
fn visited<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::Const(_) | Expr::Compare(_) | Expr::Test(_) => expression(expr),
        _ => call(VISITED, vec![expression(expr)], expr.span()),
    }
}

pub(super) fn statement<'a>(stmt: &Stmt<'a>) -> Stmt<'a> {
    match stmt {
        Stmt::Template(s) => Stmt::Template(Spanned::new(Template { children: statements(&s.children) }, s.span())),
        Stmt::EmitExpr(s) => {
            // A recursive loop's call is compiled as a jump where it stands alone.
            let expr = match &s.expr {
                Expr::Call(c) if matches!(c.identify_call(), CallType::Function("loop")) => {
                    Expr::Call(Spanned::new(plain_call(c), c.span()))
                }
                expr => expression(expr),
            };
            Stmt::EmitExpr(Spanned::new(EmitExpr { expr }, s.span()))
        }
        Stmt::EmitRaw(s) => {
            let expr = Expr::Const(Spanned::new(Const { value: Value::from(s.raw) }, s.span()));
            Stmt::EmitExpr(Spanned::new(EmitExpr { expr }, s.span()))
        }
        Stmt::ForLoop(s) => {
            let for_loop = ForLoop {
                target: target(&s.target),
                iter: expression(&s.iter),
                filter_expr: s.filter_expr.as_ref().map(expression),
                recursive: s.recursive,
                body: statements(&s.body),
                else_body: statements(&s.else_body),
            };
            Stmt::ForLoop(Spanned::new(for_loop, s.span()))
        }
        Stmt::IfCond(s) => {
            let if_cond = IfCond { expr: expression(&s.expr), true_body: statements(&s.true_body), false_body: statements(&s.false_body) };
            Stmt::IfCond(Spanned::new(if_cond, s.span()))
        }
        Stmt::WithBlock(s) => {
            let assignments = s.assignments.iter().map(|(name, value)| (target(name), expression(value))).collect();
            Stmt::WithBlock(Spanned::new(WithBlock { assignments, body: statements(&s.body) }, s.span()))
        }
        Stmt::Set(s) => {
            let value = expression(&s.expr);
            let expr = match &s.target {
                Expr::Var(_) => value,
                _ => call(HELD, vec![value], s.expr.span()),
            };
            Stmt::Set(Spanned::new(Set { target: target(&s.target), expr }, s.span()))
        }
        Stmt::SetBlock(s) => {
            let filter = s.filter.as_ref().map(filter_chain);
            let block = SetBlock { target: target(&s.target), filter, body: statements(&s.body) };
            Stmt::SetBlock(Spanned::new(block, s.span()))
        }
        Stmt::AutoEscape(s) => {
            Stmt::AutoEscape(Spanned::new(AutoEscape { enabled: expression(&s.enabled), body: statements(&s.body) }, s.span()))
        }
        Stmt::FilterBlock(s) => {
            Stmt::FilterBlock(Spanned::new(FilterBlock { filter: filter_chain(&s.filter), body: statements(&s.body) }, s.span()))
        }
        Stmt::Macro(s) => Stmt::Macro(Spanned::new(macro_declaration(s), s.span())),
        Stmt::CallBlock(s) => {
            let block = CallBlock {
                call: Spanned::new(plain_call(&s.call), s.call.span()),
                macro_decl: Spanned::new(macro_declaration(&s.macro_decl), s.macro_decl.span()),
            };
            Stmt::CallBlock(Spanned::new(block, s.span()))
        }
        Stmt::Continue(s) => Stmt::Continue(Spanned::new(Continue, s.span())),
        Stmt::Break(s) => Stmt::Break(Spanned::new(Break, s.span())),
        Stmt::Block(s) => Stmt::Block(Spanned::new(Block { name: s.name, required: s.required, body: statements(&s.body) }, s.span())),
        // `shape` refuses these: there is no other template to name.
        Stmt::Import(_) | Stmt::FromImport(_) | Stmt::Extends(_) | Stmt::Include(_) => {
            let nothing = Template { children: Vec::new() };
            Stmt::Template(Spanned::new(nothing, Span::default()))
        }
        Stmt::Do(s) => Stmt::Do(Spanned::new(Do { call: Spanned::new(plain_call(&s.call), s.call.span()) }, s.span())),
    }
}

fn statements<'a>(all: &[Stmt<'a>]) -> Vec<Stmt<'a>> {
    all.iter().map(statement).collect()
}

fn macro_declaration<'a>(m: &Macro<'a>) -> Macro<'a> {
    Macro {
        name: m.name,
        args: m.args.iter().map(target).collect(),
        defaults: m.defaults.iter().map(expression).collect(),
        body: statements(&m.body),
    }
}

fn arguments<'a>(args: &[CallArg<'a>]) -> Vec<CallArg<'a>> {
    let argument = |arg: &CallArg<'a>| match arg {
        CallArg::Pos(e) => CallArg::Pos(visited(e)),
        CallArg::Kwarg(name, e) => CallArg::Kwarg(name, visited(e)),
        CallArg::PosSplat(e) => CallArg::PosSplat(visited(e)),
        CallArg::KwargSplat(e) => CallArg::KwargSplat(visited(e)),
    };
    args.iter().map(argument).collect()
}

/// A call whose callee stays recognisable: a name, or a method of a value.
fn plain_call<'a>(c: &Call<'a>) -> Call<'a> {
    let expr = match &c.expr {
        Expr::Var(v) => Expr::Var(Spanned::new(Var { id: v.id }, v.span())),
        Expr::GetAttr(g) => Expr::GetAttr(Spanned::new(GetAttr { expr: visited(&g.expr), name: g.name }, g.span())),
        other => expression(other),
    };
    Call { expr, args: arguments(&c.args) }
}

/// What is assigned to: names, tuples of names, attributes of namespaces.
fn target<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::Var(v) => Expr::Var(Spanned::new(Var { id: v.id }, v.span())),
        Expr::List(l) => Expr::List(Spanned::new(List { items: l.items.iter().map(target).collect() }, l.span())),
        Expr::Tuple(t) => Expr::Tuple(Spanned::new(Tuple { items: t.items.iter().map(target).collect() }, t.span())),
        Expr::GetAttr(g) => Expr::GetAttr(Spanned::new(GetAttr { expr: target(&g.expr), name: g.name }, g.span())),
        other => expression(other),
    }
}

/// Filters of a block: the innermost has no operand.
fn filter_chain<'a>(expr: &Expr<'a>) -> Expr<'a> {
    match expr {
        Expr::Filter(f) => {
            let filter = Filter { name: f.name, expr: f.expr.as_ref().map(filter_chain), args: arguments(&f.args) };
            Expr::Filter(Spanned::new(filter, f.span()))
        }
        other => expression(other),
    }
}

fn expression<'a>(expr: &Expr<'a>) -> Expr<'a> {
    let span = expr.span();
    match expr {
        Expr::Var(v) => Expr::Var(Spanned::new(Var { id: v.id }, span)),
        Expr::Const(c) => Expr::Const(Spanned::new(Const { value: c.value.clone() }, span)),
        Expr::Slice(s) => {
            let none = || Expr::Const(Spanned::new(Const { value: Value::from(()) }, span));
            let bound = |e: &Option<Expr<'a>>| e.as_ref().map_or_else(none, expression);
            call(SLICED, vec![expression(&s.expr), bound(&s.start), bound(&s.stop), bound(&s.step)], span)
        }
        Expr::UnaryOp(u) => {
            #[allow(clippy::needless_match, reason = "UnaryOpKind is neither Copy nor Clone")]
            let op = match u.op {
                UnaryOpKind::Not => UnaryOpKind::Not,
                UnaryOpKind::Neg => UnaryOpKind::Neg,
            };
            Expr::UnaryOp(Spanned::new(UnaryOp { op, expr: expression(&u.expr) }, span))
        }
        Expr::BinOp(b) => binary(b, span),
        Expr::Compare(c) => {
            let ops = c.ops.iter().map(|o| CompareOp { op: o.op, expr: visited(&o.expr) }).collect();
            Expr::Compare(Spanned::new(Compare { expr: visited(&c.expr), ops }, span))
        }
        Expr::IfExpr(i) => {
            let if_expr = IfExpr {
                test_expr: expression(&i.test_expr),
                true_expr: expression(&i.true_expr),
                false_expr: i.false_expr.as_ref().map(expression),
            };
            Expr::IfExpr(Spanned::new(if_expr, span))
        }
        Expr::Filter(f) => {
            let filter = Filter { name: f.name, expr: f.expr.as_ref().map(visited), args: arguments(&f.args) };
            paid(Expr::Filter(Spanned::new(filter, span)), span)
        }
        Expr::Test(t) => {
            // `is defined` looks at how its operand was reached, which a call would hide.
            let plain = matches!(t.name, "defined" | "undefined" | "none");
            let expr = if plain { expression(&t.expr) } else { visited(&t.expr) };
            Expr::Test(Spanned::new(Test { name: t.name, expr, args: arguments(&t.args) }, span))
        }
        Expr::GetAttr(g) if OF_DICTIONARIES.contains(&g.name) => {
            let name = Expr::Const(Spanned::new(Const { value: Value::from(g.name) }, span));
            call(ATTRIBUTE, vec![expression(&g.expr), name], span)
        }
        Expr::GetAttr(g) => Expr::GetAttr(Spanned::new(GetAttr { expr: expression(&g.expr), name: g.name }, span)),
        Expr::GetItem(g) => {
            let item = GetItem { expr: expression(&g.expr), subscript_expr: visited(&g.subscript_expr) };
            Expr::GetItem(Spanned::new(item, span))
        }
        Expr::Call(c) => paid(Expr::Call(Spanned::new(plain_call(c), span)), span),
        Expr::List(l) => paid(Expr::List(Spanned::new(List { items: expressions(&l.items) }, span)), span),
        Expr::Tuple(t) => paid(Expr::Tuple(Spanned::new(Tuple { items: expressions(&t.items) }, span)), span),
        Expr::Map(m) => {
            let map = Map { keys: m.keys.iter().map(visited).collect(), values: expressions(&m.values) };
            paid(Expr::Map(Spanned::new(map, span)), span)
        }
    }
}

fn expressions<'a>(all: &[Expr<'a>]) -> Vec<Expr<'a>> {
    all.iter().map(expression).collect()
}

fn binary<'a>(b: &BinOp<'a>, span: Span) -> Expr<'a> {
    let op = match b.op {
        BinOpKind::Mul => return call(TIMES, vec![expression(&b.left), expression(&b.right)], span),
        BinOpKind::Rem => return call(REMAINDER, vec![expression(&b.left), visited(&b.right)], span),
        BinOpKind::Pow => return call(POWER, vec![expression(&b.left), expression(&b.right)], span),
        BinOpKind::Concat => return call(CONCATENATED, vec![expression(&b.left), expression(&b.right)], span),
        op => op,
    };
    let (left, right) = match op {
        BinOpKind::Eq | BinOpKind::Ne | BinOpKind::Lt | BinOpKind::Lte | BinOpKind::Gt | BinOpKind::Gte | BinOpKind::In => {
            (visited(&b.left), visited(&b.right))
        }
        _ => (expression(&b.left), expression(&b.right)),
    };
    let whole = Expr::BinOp(Spanned::new(BinOp { op, left, right }, span));
    match op {
        BinOpKind::Add => paid(whole, span),
        _ => whole,
    }
}
