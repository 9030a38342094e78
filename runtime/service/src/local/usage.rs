//! What a prompt took, by how it was cached.

use firecrest_contract::ask::CacheTtl;
use firecrest_contract::event::Usage;
use firecrest_engine::kv::PAGE_LEN;

use crate::prompt::Breakpoint;

/// Breakpoints that a key's quota of pinned positions leaves. They hold what lies before them, so the longest counts alone.
pub(super) fn within_quota(breakpoints: &[Breakpoint], quota: u64) -> Vec<Breakpoint> {
    breakpoints.iter().copied().filter(|at| u64::from(at.positions) <= quota).collect()
}

/// A prompt of so many tokens, `cached` of them known already, pinned at these breakpoints (by length): what lies in a whole page before one and was not known is
/// written for as long as that one says. The parts always add up to the prompt.
pub(super) fn prompt_usage(prompt: u32, cached: u32, breakpoints: &[Breakpoint]) -> Usage {
    let cached = cached.min(prompt);
    let mut usage = Usage { cache_read: cached.into(), ..Usage::default() };
    let mut from = cached;
    for at in breakpoints {
        let end = at.positions.min(prompt) / PAGE_LEN as u32 * PAGE_LEN as u32;
        let written = u64::from(end.saturating_sub(from));
        match at.ttl {
            CacheTtl::FiveMinutes => usage.cache_write_5m += written,
            CacheTtl::OneHour => usage.cache_write_1h += written,
        }
        from = from.max(end);
    }
    usage.input = u64::from(prompt - from);
    usage
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn breakpoints() -> impl Strategy<Value = Vec<Breakpoint>> {
        let ttl = prop::sample::select(vec![CacheTtl::FiveMinutes, CacheTtl::OneHour]);
        let one = (0..500u32, ttl).prop_map(|(positions, ttl)| Breakpoint { positions, ttl, moved: false });
        prop::collection::vec(one, 0..5).prop_map(|mut all| {
            all.sort_by_key(|at| at.positions);
            all
        })
    }

    proptest! {
        #[test]
        fn parts_add_up(prompt in 1..400u32, cached in 0..600u32, at in breakpoints()) {
            let usage = prompt_usage(prompt, cached, &at);
            prop_assert_eq!(usage.prompt(), u64::from(prompt));
            // Asked again, all that was written is read, if the engine keeps it.
            let kept = (usage.prompt() - usage.input) as u32;
            prop_assert_eq!(prompt_usage(prompt, kept, &at).cache_read, u64::from(kept));
        }
    }

    #[test]
    fn breakpoints_split_what_is_written() {
        let at = |positions, ttl| Breakpoint { positions, ttl, moved: false };
        let both = [at(40, CacheTtl::OneHour), at(100, CacheTtl::FiveMinutes)];
        let usage = prompt_usage(120, 16, &both);
        assert_eq!((usage.cache_read, usage.cache_write_1h, usage.cache_write_5m, usage.input), (16, 16, 64, 24));
        assert_eq!(within_quota(&both, 50), both[..1]);
    }
}
