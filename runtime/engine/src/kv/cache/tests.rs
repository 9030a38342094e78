//! The prefix cache against a model of it: every page is held as often as it is named, and holds what its prefix says.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::kv::KvFormat;

/// A text in the making: its tables, its tokens, and how many of them are computed.
struct Text {
    tables: BlockTables,
    tokens: Vec<u32>,
    namespace: &'static str,
    generated_from: u32,
    computed: u32,
}

#[derive(Clone, Debug)]
enum Call {
    /// Begin anew: beginning, its length, the namespace, where generation begins.
    Start(usize, u32, usize, bool, u32),
    Compute(usize, u32),
    Pin(usize, u32, u64),
    Tick,
    Forget,
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        4 => (0..5usize, 0..3u32, 1..120usize, prop::bool::weighted(0.2), 1..150u32)
            .prop_map(|(text, step, length, other, generated)| Call::Start(text, step, length, other, generated)),
        12 => (0..5usize, 1..40u32).prop_map(|(text, rows)| Call::Compute(text, rows)),
        1 => (0..5usize, 0..120u32, 0..6u64).prop_map(|(text, positions, life)| Call::Pin(text, positions, life)),
        1 => Just(Call::Tick),
        1 => prop::bool::weighted(0.1).prop_map(|forget| if forget { Call::Forget } else { Call::Tick }),
    ]
}

type Cells = BTreeMap<(usize, PageId, usize), (u32, usize, Class)>;

fn check(cache: &KvCache, texts: &[Text]) -> Result<(), TestCaseError> {
    for (index, group) in cache.groups.iter().enumerate() {
        let mut holders = vec![0; group.pool.len() as usize];
        for text in texts {
            text.tables.groups[index].pages.iter().filter(|&&page| page != PageId::NONE).for_each(|page| holders[page.0 as usize] += 1);
        }
        for (page, &holders) in holders.iter().enumerate() {
            let owner = group.owner[page];
            prop_assert_eq!(group.pool.references(PageId(page as u32)), holders + u32::from(owner.is_some()));
            if let Some(id) = owner {
                prop_assert_eq!(cache.prefixes.node(id).pages[index], PageId(page as u32));
                prop_assert_eq!(group.idle.contains(&group.idle_key(&cache.prefixes, id)), holders == 0);
            }
        }
        let owned = group.owner.iter().flatten().count();
        prop_assert!(group.idle.len() <= owned);
        prop_assert_eq!(group.pool.free() as usize, holders.iter().zip(&group.owner).filter(|(h, o)| **h == 0 && o.is_none()).count());
    }
    Ok(())
}

proptest! {
    #[test]
    fn pages_hold_what_their_prefix_says(
        windows in prop_oneof![Just(vec![None]), Just(vec![None, Some(20)]), Just(vec![Some(33)]), Just(vec![Some(5), None, Some(50)])],
        pages in prop::collection::vec(12..40u32, 3),
        calls in prop::collection::vec(call(), 1..150),
    ) {
        let groups: Vec<KvGroup> = windows.iter().zip(&pages)
            .map(|(&window, &pages)| KvGroup { layers: vec![0], window, kv_heads: 1, head_dim: 8, format: KvFormat::F16, pages }).collect();
        let mut cache = KvCache::new(&groups);
        let new = |cache: &KvCache| Text { tables: cache.tables(), tokens: vec![0], namespace: "", generated_from: 0, computed: 0 };
        let mut texts: Vec<Text> = (0..5).map(|_| new(&cache)).collect();
        let mut cells = Cells::new();
        let mut now = 0;
        for call in calls {
            match call {
                Call::Start(at, step, length, other, generated_from) => {
                    let text = &mut texts[at];
                    cache.release(&mut text.tables);
                    text.tokens = (0..length as u32).map(|i| i * step % 7).collect();
                    text.namespace = if other { "other" } else { "" };
                    text.generated_from = generated_from;
                    let prefix = Prefix { namespace: text.namespace, adapter: None, tokens: &text.tokens, generated_from };
                    let most = length as u32 - 1;
                    let known = cache.known(&prefix, most);
                    text.computed = cache.attach(&mut text.tables, &prefix, most);
                    prop_assert_eq!(text.computed, known);
                    prop_assert!(known <= most && (known as usize).is_multiple_of(PAGE_LEN));
                    // What a row behind it sees is there, and is what the text says.
                    for (index, table) in text.tables.groups.iter().enumerate() {
                        let first = windows[index].map_or(0, |w: u32| (known + 1).saturating_sub(w)) as usize;
                        for position in first..known as usize {
                            let page = table.pages[position / PAGE_LEN];
                            let want = (text.tokens[position], position, prefix.class(position));
                            prop_assert_eq!(cells.get(&(index, page, position % PAGE_LEN)), Some(&want));
                        }
                    }
                }
                Call::Compute(at, rows) => {
                    let text = &mut texts[at];
                    let rows = rows.min(text.tokens.len() as u32 - text.computed);
                    let available: Vec<u32> = cache.groups.iter().map(Group::available).collect();
                    let granted = cache.extend(&mut text.tables, text.computed, rows);
                    if granted < rows {
                        let next = (text.computed + granted) as usize / PAGE_LEN;
                        let short = text.tables.groups.iter().zip(&cache.groups).any(|(t, g)| next >= t.pages.len() && g.available() == 0);
                        prop_assert!(short, "rows were refused with {available:?} pages available");
                    }
                    let prefix = Prefix { namespace: text.namespace, adapter: None, tokens: &text.tokens, generated_from: text.generated_from };
                    for position in (text.computed..text.computed + granted).map(|p| p as usize) {
                        for (index, table) in text.tables.groups.iter().enumerate() {
                            let page = table.pages[position / PAGE_LEN];
                            prop_assert_ne!(page, PageId::NONE);
                            prop_assert!(cache.groups[index].owner[page.0 as usize].is_none(), "a known page is written");
                            cells.insert((index, page, position % PAGE_LEN), (text.tokens[position], position, prefix.class(position)));
                        }
                    }
                    text.computed += granted;
                    let before = cache.prefix_nodes();
                    let new = cache.publish(&mut text.tables, &prefix, text.computed);
                    let root = usize::from(new > 0 && before == 0);
                    prop_assert!(cache.prefix_nodes() + 1 >= before + new as usize / PAGE_LEN + root);
                    cache.release_unseen(&mut text.tables, text.computed);
                    // A window group may have given up what only shorter prefixes see.
                    if windows == [None] {
                        prop_assert_eq!(cache.known(&prefix, text.computed) as usize, text.computed as usize / PAGE_LEN * PAGE_LEN);
                    }
                }
                Call::Pin(at, positions, life) => cache.pin(&texts[at].tables, positions, Duration::from_secs(now + life)),
                Call::Tick => {
                    now += 1;
                    cache.expire(Duration::from_secs(now));
                }
                Call::Forget => cache.forget(),
            }
            check(&cache, &texts)?;
        }
        for text in &mut texts {
            cache.release(&mut text.tables);
        }
        prop_assert_eq!(cache.used_pages(), 0);
        cache.forget();
        prop_assert_eq!(cache.prefix_nodes(), 0);
        prop_assert_eq!(cache.pools().map(PagePool::free).sum::<u32>(), cache.total_pages());
    }
}
