//! Which names a pattern of `patternProperties` matches.

/// Names that a pattern of `patternProperties` matches.
pub(super) struct Names {
    builder: llguidance::derivre::RegexBuilder,
    matching: llguidance::derivre::ExprRef,
}

/// Work that comparing a pattern with names may take.
const NAMES_FUEL: u64 = 50_000;

impl Names {
    pub(super) fn of(pattern: &str) -> Result<Names, String> {
        let mut builder = llguidance::derivre::RegexBuilder::new();
        let text = llguidance::regex_to_lark(pattern, "dw");
        let matching = builder.mk_regex_for_serach(&text).map_err(|why| super::super::reason(&format!("{why:#}")))?;
        Ok(Names { builder, matching })
    }

    /// Those among some names, and whether it matches no others.
    pub(super) fn among(mut self, names: &[String]) -> Result<(Vec<&String>, bool), String> {
        use llguidance::derivre::RegexAst;
        let dear = |_| "the pattern takes too much work; simplify it".to_owned();
        let mut regex = self.builder.to_regex_limited(self.matching, NAMES_FUEL).map_err(dear)?;
        let matched: Vec<&String> = names.iter().filter(|name| regex.is_match(name)).collect();
        if matched.is_empty() {
            return Ok((matched, false));
        }
        let taken = RegexAst::Or(matched.iter().map(|name| RegexAst::Literal((*name).clone())).collect());
        let others = RegexAst::And(vec![RegexAst::ExprRef(self.matching), RegexAst::Not(Box::new(taken))]);
        let others = self.builder.mk(&others).map_err(|why| super::super::reason(&format!("{why:#}")))?;
        let none = self.builder.to_regex_limited(others, NAMES_FUEL).map_err(dear)?.always_empty();
        Ok((matched, none))
    }
}
